"""What all tests have in common: one thread, the same random numbers, an empty folder."""

from __future__ import annotations

import os

# read when torch is imported, also by children
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TORCH_DYNAMO_RUN_GC_AFTER_COMPILE", "0")

import gc
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from torch import nn

WITHOUT_GRAPHS = {
    *("callbacks", "commands", "judging", "lpot", "runs", "trainer", "wrong_inputs"),
    *("test_ddp", "test_failing_trials", "test_hopeless_trials", "test_kill", "test_lightning_cli"),
    *("test_loader_zoo", "test_profilers", "test_pruning_averaging", "test_pruning_ddp"),
    *("test_pruning_old_failures", "test_pruning_resume", "test_pruning_steps"),
    *("test_pruning_trainer_zoo", "test_pruning_untrained", "test_qat_averaging", "test_qat_ddp"),
    *("test_qat_exchanged", "test_qat_frozen", "test_qat_kill", "test_qat_old_failures"),
    *("test_qat_watched_ddp", "test_stopped"),
}
"""Rooms and files whose tests are of files, processes, Trainers and the search: `layer_by_layer`.
Not so those of exports, which are made of a graph."""
LONGEST = ("test_pages", "test_demos", "test_ddp", "test_interrupt", "test_blendcnn", "test_kill")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--all-of-it", action="store_true", help="fail where anything is left out")


def pytest_configure(config: pytest.Config) -> None:
    """Set torch up, but not in a process that only hands tests to its workers."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as of a shell's job in the background
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:  # as of `nohup`
        signal.signal(signal.SIGHUP, signal.SIG_DFL)
    if config.getoption("numprocesses", None):
        return
    gc.disable()  # a fifth of the time that the imports of all tests take, which leave no garbage
    import torch

    torch.set_num_threads(1)  # two threads a process only wait for each other on small layers
    if not torch.cuda.is_available():
        # Torch would keep each seed and a stack of where it came from until there is a GPU.
        for devices in (torch.cuda, torch.xpu, torch.mtia):
            devices.manual_seed_all = lambda seed: None  # type: ignore[attr-defined]
    # few workers and odd batch counts are on purpose in small tests
    ignored = "ignore::lightning.fabric.utilities.warnings.PossibleUserWarning"
    config.addinivalue_line("filterwarnings", ignored)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the files that take longest, so that all workers end together."""
    items.sort(key=lambda item: LONGEST.index(item.path.stem) if item.path.stem in LONGEST else 9)


def pytest_collection_finish() -> None:
    """Keep the garbage collector from going through torch again and again, and from going often."""
    gc.freeze()
    gc.enable()
    gc.set_threshold(50_000, 20, 20)


@pytest.hookimpl(tryfirst=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Fail a run that has to be of all tests where one was left out but for want of a GPU."""
    said = session.config.pluginmanager.get_plugin("terminalreporter")
    if said is None or not session.config.getoption("--all-of-it"):
        return
    for one in said.stats.get("skipped", []) + said.stats.get("deselected", []):
        if "needs a GPU" not in str(getattr(one, "longrepr", "")):
            said.write_line(f"left out: {one.nodeid}")
            session.exitstatus = pytest.ExitCode.TESTS_FAILED


@pytest.fixture(autouse=True, scope="session")
def _spared() -> None:
    """Let torch do nothing for those who look after its compiler."""
    from spared import spare

    spare()


@pytest.fixture(autouse=True, scope="session")
def _not_by_the_clock() -> Iterator[None]:
    """Let no op stay in fp32 for its seconds, also in runs that several tests share."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("lpot_lightning.runs.paying.applies", lambda job: False)
        yield


@pytest.fixture(autouse=True, scope="session")
def _as_on_any_cpu() -> Iterator[None]:
    """Let no CPU seem to have bfloat16: `auto` would go down another ladder on those that have."""
    with pytest.MonkeyPatch.context() as patch:
        for asking in ("op_selection", "speed"):
            patch.setattr(f"lpot_lightning.runs.{asking}.has_bf16", lambda: False)
        yield


@pytest.fixture(autouse=True)
def _the_same_each_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Work in an empty folder with the same random numbers, and time as briefly as can be."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")  # whatever terminal the tests are started in
    monkeypatch.setattr(os, "fsync", os.fstat)  # no test cuts the power; a closed file still fails
    # which functions are told of does not hang on how long their first call happened to take
    monkeypatch.setattr("lpot_lightning.quantization.floats.LEAST_SECONDS", 60.0)
    monkeypatch.setattr("lpot_lightning.timing.ratio.WARM_UP", 0)
    monkeypatch.setattr("lpot_lightning.timing.ratio.MOST", 1)
    monkeypatch.setattr("lpot_lightning.runs.speed.SETTLED", 0)
    import torch

    torch.manual_seed(0)
    interrupt = signal.getsignal(signal.SIGINT)
    yield
    # Lightning ignores SIGINT for good once it has seen a KeyboardInterrupt.
    signal.signal(signal.SIGINT, interrupt)


@pytest.fixture
def layer_by_layer(monkeypatch: pytest.MonkeyPatch, pytestconfig: pytest.Config) -> Iterator[None]:
    """Capture no graphs, where a test is of files, processes or the search: they take half of it.

    Results have the same bits. `make soak`, which leaves no test out, captures here, too.
    """
    import torch._dynamo

    quick = bool(pytestconfig.getoption("markexpr"))
    if quick:
        monkeypatch.setenv("TORCHDYNAMO_DISABLE", "1")
    with torch._dynamo.config.patch(disable=quick):
        yield


@pytest.fixture
def with_graphs() -> None:
    """Capture graphs, in a room whose other tests have none."""


@pytest.fixture(autouse=True)
def _graphs_or_none(request: pytest.FixtureRequest) -> None:
    path = request.path.relative_to(Path(__file__).parent)
    is_there = not WITHOUT_GRAPHS.isdisjoint((path.parts[0], path.stem))
    if is_there and "export" not in path.stem and "with_graphs" not in request.fixturenames:
        request.getfixturevalue("layer_by_layer")


@pytest.fixture
def warm_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let processes that are spawned come from one that has imported everything."""
    from warm_python import python

    monkeypatch.setattr("multiprocessing.spawn._python_exe", python().encode())


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    """Return where the files of a run go; the folder is not there yet."""
    return tmp_path / "workspace"


@pytest.fixture
def quantized(workspace: Path) -> tuple[nn.Module, nn.Module]:
    """Return an fp32 model, and the int8 one that is in the workspace, too."""
    from plain_scenes import net, quantization

    model = net()
    return model, quantization(workspace)(model)


@pytest.fixture
def callback(workspace: Path) -> Callable[..., Any]:
    """Return a maker of callbacks that write to ``workspace``; sections go to the conf."""
    from lit_scenes import conf

    from lpot_lightning import QuantizationCallback

    own = ("monitor", "modules", "calib", "ckpt")

    def make(**given: Any) -> QuantizationCallback:
        arguments = {key: given.pop(key) for key in own if key in given}
        return QuantizationCallback(conf(workspace, **given), **arguments)

    return make


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., str]:
    """Write a YAML file into the working folder and return its name."""

    def write_file(content: str | bytes, name: str = "ptq.yaml") -> str:
        Path(name).write_bytes(content if isinstance(content, bytes) else content.encode())
        return name

    return write_file
