"""Runs of every kind that a signal meets at a named place, and that are begun again."""

from __future__ import annotations

import dataclasses
import importlib
import logging
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import plain_scenes
from lightning.pytorch.plugins.environments import SLURMEnvironment
from lit_scenes import Lit, conf, train_loader, trainer, val_loader
from plain_scenes import QAT
from qat_scenes import APPROACH
from sparse_scenes import Rolling, pruning_conf

import lpot_lightning
from lpot_lightning import Benchmark, Pruning
from lpot_lightning.commands.main import main as command
from lpot_lightning.errors import LpotError
from lpot_lightning.machine.lock import WorkspaceLock

LOOSE = {"accuracy_criterion": {"absolute": 0.9}}
RUNS = "lpot_lightning.runs"
JUDGE = "lpot_lightning.trainer.validation_judge:ValidationJudge.evaluate"
TRIED = "lpot_lightning.judging.screened_judge:ScreenedJudge.judge_int8"
PLAIN = "plain_scenes:corners"
"""What the user's function calls for its data."""


def fit(kind: str, *, requeues: bool = False) -> None:
    """Train and end in a result; go on with what is left of a fit that was stopped."""
    asked = {
        "ptq": partial(conf, "workspace", tuning=LOOSE),
        "qat": partial(conf, "workspace", tuning=LOOSE, quantization=APPROACH),
        "pruning": partial(pruning_conf, "workspace", {"pattern": "channel"}, tuning=LOOSE),
        "benchmark": partial(conf, None),
        "export": partial(conf, None),
    }[kind]()
    made = {
        "benchmark": lambda: [lpot_lightning.BenchmarkCallback(asked)],
        "export": lambda: [lpot_lightning.ExportCallback(["torchscript"])],
    }.get(kind, lambda: lpot_lightning.callbacks_from_conf(asked, monitor="val_acc"))
    job = {"plugins": SLURMEnvironment()} if requeues else {}
    one = trainer(*made(), max_epochs=4, **job)
    left = next(Path("workspace").glob("unjudged*.ckpt"), None)
    one.fit(Rolling(), train_loader(), val_loader(24), ckpt_path=left)


def quantize() -> None:
    """Quantize without a fit, and export."""
    asked = {**conf("workspace", tuning=LOOSE), "export": {"formats": ["torchscript"]}}
    lpot_lightning.quantize(trainer(), Lit(), train_loader(), val_loader(), conf=asked)


def plain(approach: str = "post_training_static_quant") -> None:
    """Quantize without a Trainer."""
    plain_scenes.quantization("workspace", approach, tuning=LOOSE)(plain_scenes.net())


def prune() -> None:
    """Prune without a Trainer."""
    weights = {"target_sparsity": 0.5, "end_epoch": 1, "pruners": [{}]}
    one = Pruning(
        {
            "model": {"name": "corners", "framework": "pytorch_fx"},
            "pruning": {"approach": {"weight_compression": weights}},
            "tuning": {**LOOSE, "workspace": {"path": "workspace"}},
        }
    )

    def train(model: Any) -> None:
        for epoch in range(2):
            one.on_epoch_begin(epoch)
            plain_scenes.train(model)
            one.on_batch_end()
            one.on_epoch_end()

    one.q_func, one.eval_func = train, plain_scenes.accuracy
    one(plain_scenes.net())


def benchmark() -> None:
    """Time a function."""
    timed = {"performance": {"warmup": 1, "iteration": 9}}
    model = {"name": "small", "framework": "pytorch"}
    call = lambda model: model(plain_scenes.corners(4, 0).tensors[0])  # noqa: E731
    Benchmark({"model": model, "evaluation": timed})(plain_scenes.net(), b_func=call)


def export_by_command() -> None:
    """Quantize, then export by the command line."""
    if not Path("workspace/best_configure.yaml").exists():
        plain()
    given = ["--class", "plain_scenes:Net"]
    sys.exit(command(["export", "workspace", "model.ts", *given]))


@dataclasses.dataclass(frozen=True)
class Place:
    """Where the signal meets a run: when a function is called for the ``call``-th time."""

    phase: str
    run: Callable[[], None]
    name: str
    function: str
    call: int = 1
    says: str = "interrupted: "


PLACES = (
    Place("baseline", partial(fit, "qat"), "fit, QAT", JUDGE, says="training has not begun"),
    Place("trial", partial(fit, "qat"), "fit, QAT", TRIED),
    Place("write", partial(fit, "qat"), "fit, QAT", f"{RUNS}.best_model:Keeper._write"),
    Place("trial", partial(fit, "ptq"), "fit, PTQ", TRIED),
    Place("calibration", partial(fit, "ptq"), "fit, PTQ", f"{RUNS}.quantize:calibrate"),
    Place("baseline", partial(fit, "pruning"), "fit, pruning", JUDGE),
    Place(
        "choosing",
        partial(fit, "pruning"),
        "fit, pruning",
        "lpot_lightning.callbacks.pruning:chosen_weights",
    ),
    Place("cut", partial(fit, "pruning"), "fit, pruning", f"{RUNS}.channels:cut"),
    Place("timing", partial(fit, "pruning"), "fit, pruning", f"{RUNS}.channels:compared"),
    Place("judge", partial(fit, "pruning"), "fit, pruning", JUDGE, call=2),
    Place("save", partial(fit, "pruning"), "fit, pruning", f"{RUNS}.prune:save_pruned"),
    Place(
        "timing",
        partial(fit, "benchmark"),
        "fit, benchmark",
        "lpot_lightning.callbacks.benchmark:in_turns",
    ),
    Place(
        "export",
        partial(fit, "export"),
        "fit, export",
        "lpot_lightning.callbacks.exporting:export_each",
    ),
    Place(
        "export",
        quantize,
        "quantize with export",
        "lpot_lightning.callbacks.exporting:export_each",
        says="the run is over",
    ),
    Place("trial", quantize, "quantize with export", TRIED),
    Place("data", plain, "Quantization", "lpot_lightning.lpot.given:collect"),
    Place("baseline", plain, "Quantization", PLAIN, call=2),
    Place("trial", plain, "Quantization", PLAIN, call=3),
    Place("write", plain, "Quantization", f"{RUNS}.best_model:Keeper._write"),
    Place("q_func", partial(plain, QAT), "Quantization, QAT", PLAIN, call=2),
    Place("dense model", prune, "Pruning", PLAIN),
    Place("q_func", prune, "Pruning", PLAIN, call=2),
    Place("judge", prune, "Pruning", PLAIN, call=4),
    Place("save", prune, "Pruning", f"{RUNS}.prune:save_pruned"),
    Place("calls", benchmark, "Benchmark", PLAIN, call=4),
    Place(
        "export",
        export_by_command,
        "lpot-lightning export",
        "lpot_lightning.deploy.export:_into_place",
        says="as it was, or written as a whole",
    ),
    Place(
        "load",
        export_by_command,
        "lpot-lightning export",
        "lpot_lightning.commands.export:load",
        says="as it was, or written as a whole",
    ),
)


@dataclasses.dataclass(frozen=True)
class PlaceStop:
    """A signal at a place, and what goes on afterwards."""

    place: Place
    number: signal.Signals
    times: int = 1

    @property
    def name(self) -> str:
        return self.place.name

    @property
    def phase(self) -> str:
        return self.place.phase

    @property
    def is_requeued(self) -> bool:
        return self.number == signal.SIGUSR1

    def faults(self, folder: Path) -> Iterator[str]:
        """Run, interrupt, look at what is left, run again to the end."""
        code, seconds = self._stopped(folder)
        (folder / "seconds").write_text(f"{seconds:.2f}")
        said = (folder / "errors").read_text()
        if code != 128 + self.number:
            yield f"it ended with {code}: {said[-2000:]}"
        if said.count("interrupted") != 1 or self.place.says not in said:
            yield f"it said: {said[-800:]}"
        if "Traceback" in said or "Exception ignored" in said:
            yield f"a traceback: {said[-2000:]}"
        asked = folder / "asked"
        if self.is_requeued and (not asked.exists() or asked.read_text() != "requeue 7\n"):
            yield "the job was not requeued"
        yield from _unfree(folder / "workspace")
        if code := _waited_for(self._forked(folder, lambda: None)):
            said = (folder / "errors").read_text()
            yield f"what went on with it ended with {code}: {said[-2000:]}"

    def _stopped(self, folder: Path) -> tuple[int, float]:
        here, sent = folder / "here", folder / "sent"
        pid = self._forked(folder, partial(_wait_at, self.place, here, sent))
        began = time.monotonic()
        while not here.exists() and _is_there(pid) and time.monotonic() - began < 120:
            time.sleep(0.01)
        began = time.monotonic()
        for _ in range(self.times):
            time.sleep(0.02)
            os.kill(pid, self.number)
        sent.touch()
        if not here.exists():
            traces = (folder / "errors").read_text()
            (folder / "errors").write_text(f"{traces}\nthe place was not reached")
        return _waited_for(pid), time.monotonic() - began

    def _forked(self, folder: Path, prepare: Callable[[], None]) -> int:
        sys.stdout.flush()
        pid = os.fork()
        if pid:
            return pid
        code = 1
        try:
            _be_a_program(folder, requeues=self.is_requeued)
            prepare()
            given = {"requeues": True} if self.is_requeued else {}
            self.place.run(**given)
            code = 0
        except SystemExit as ended:
            code = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
        except BaseException:
            traceback.print_exc()
        os._exit(code)


def _be_a_program(folder: Path, *, requeues: bool) -> None:
    errors = (folder / "errors").open("a")
    os.dup2(errors.fileno(), 1)
    os.dup2(errors.fileno(), 2)
    os.chdir(folder)
    logging.getLogger("lightning.pytorch").setLevel(logging.INFO)
    if requeues:
        program = folder / "bin" / "scontrol"
        program.parent.mkdir(exist_ok=True)
        program.write_text(f'#!/bin/sh\necho "$@" >> "{folder / "asked"}"\n')
        program.chmod(0o700)
        os.environ["PATH"] = f"{program.parent}:{os.environ['PATH']}"
        job = {"JOB_ID": "7", "JOB_NAME": "train", "NTASKS": "1", "NTASKS_PER_NODE": "1"}
        job |= {"PROCID": "0", "LOCALID": "0", "NODEID": "0", "NNODES": "1"}
        os.environ |= {f"SLURM_{name}": value for name, value in job.items()}


def _wait_at(place: Place, here: Path, sent: Path) -> None:
    """Let a function say that it is called, and wait until the signal is there."""
    module, _, path = place.function.partition(":")
    owner: Any = importlib.import_module(module)
    *parts, name = path.split(".")
    for part in parts:
        owner = getattr(owner, part)
    work, calls = getattr(owner, name), []

    def struck(*given: Any, **words: Any) -> Any:
        calls.append(name)
        if len(calls) == place.call:
            here.touch()
            while not sent.exists():
                time.sleep(0.005)
        return work(*given, **words)

    setattr(owner, name, struck)


def _is_there(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def _waited_for(pid: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def _unfree(workspace: Path) -> Iterator[str]:
    if workspace.exists():
        try:
            with WorkspaceLock(workspace):
                pass
        except LpotError as error:
            yield str(error)


def place_stops() -> list[PlaceStop]:
    """Return every place with each signal; a job's signal where a fit is over."""
    signals = signal.SIGINT, signal.SIGTERM, signal.SIGHUP
    stops = [PlaceStop(place, number) for place in PLACES for number in signals]
    stops += [PlaceStop(place, signal.SIGTERM, times=3) for place in PLACES]
    of_a_job = [place for place in PLACES if place.name.startswith("fit,")]
    return stops + [PlaceStop(place, signal.SIGUSR1) for place in of_a_job]
