"""Short tuning runs that are killed, and how their ends are told apart."""

from __future__ import annotations

import dataclasses
import functools
import json
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar

import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from lit_scenes import KINDS, WIDTH, Lit, conf, train_loader, trainer, val_loader
from torch import nn

from lpot_lightning import QuantizationCallback, TuningResult, load_from_checkpoint, quantize
from lpot_lightning.errors import LpotError
from lpot_lightning.machine.lock import WorkspaceLock
from lpot_lightning.selftest.forked import Forked
from lpot_lightning.selftest.little_run import finished_trials, judged_twice, unreadable_in

FILES = ("best_configure.yaml", "best_model_weights.pt", "best_quantized.ckpt", "deploy.yaml")
JUDGED = 12  # samples in a validation batch, by which a pass is told from calibration and timing
LAYERS = frozenset({"0", "2", "4", "6", "8"})


class Judged(Lit):
    """Five ops, a score that differs from trial to trial, and trials that fail."""

    note: Callable[[str], None] = staticmethod(lambda line: None)

    def __init__(self) -> None:
        super().__init__()
        sizes = [WIDTH, 16, 16, 16, 16, KINDS]
        with torch.random.fork_rng():
            torch.manual_seed(0)
            linears = [nn.Linear(a, b) for a, b in zip(sizes, sizes[1:], strict=False)]
        self.net = nn.Sequential(*[one for layer in linears for one in (layer, nn.ReLU())][:-1])

    def training_step(self, batch, batch_idx):
        self.note("training step")
        return super().training_step(batch, batch_idx)

    def validation_step(self, batch, batch_idx):
        fp32 = self.fp32_layers()
        if batch_idx == 1 and len(batch[0]) == JUDGED:  # `quantize` has the first one seen before
            self.note("pass")
        if len(batch[0]) != JUDGED:
            self.note("calibration")
        if batch_idx == 1:
            assert fp32 != {"8"}, "this one raises"
        loss = self.net(batch[0]).square().mean()
        self.log("val_loss", loss / 0 if fp32 == {"6"} else loss)

    def fp32_layers(self) -> set[str]:
        """Return the layers of the net that are not int8 now."""
        kernel = ".lpot_int8.kernel"
        named = [name for name, _ in self.net.named_modules()]
        return LAYERS - {name.removesuffix(kernel) for name in named if name.endswith(kernel)}


class WithoutTrials:
    """A program of which nothing is done for good before its end."""

    def acknowledged(self, folder: Path) -> list[Any]:
        """Return nothing."""
        return []

    def repeated(self, done: Counter[str], more: int, *, ended: bool) -> str:
        """Return that nothing was done twice."""
        return ""


@dataclasses.dataclass(frozen=True)
class Scene:
    """A run that can be begun again in the same folder, and goes on there.

    Args:
        name: for tables.
        strategy: of the tuning.
        fits: whether it trains before.
        workers: of its dataloaders.
        trials: that it may try.
        beside: `earlier` where another run was in the workspace before, `parallel` where another is
            in it now.
    """

    name: str
    strategy: str
    fits: bool = False
    workers: int = 0
    trials: int = 11
    beside: str = ""
    begins: ClassVar[str] = "tuning"

    def prepare(self, folder: Path) -> None:
        """Put there what another run has left, or be in the workspace."""
        if self.beside == "earlier":
            (folder / "workspace").mkdir()
            for name, content in self._former.items():
                (folder / "workspace" / name).write_bytes(content)
        if self.beside == "parallel":
            _HOLDERS[:1] = [WorkspaceLock(folder / "workspace")]  # the one before is let go
            _HOLDERS[0].acquire()

    @property
    def _former(self) -> dict[str, bytes]:
        return left_by("auto" if self.strategy == "basic" else "basic")

    def workspace(self, folder: Path) -> Path:
        """Return where its files go."""
        return folder / "workspace" / ("parallel/1" if self.beside == "parallel" else "")

    def written(self, folder: Path) -> list[Path]:
        """Return the workspace, whichever part of it is its own."""
        return [folder / "workspace"]

    def acknowledged(self, folder: Path) -> list[Any]:
        """Return its trials whose lines are whole."""
        history = self.workspace(folder) / "history.jsonl"
        if self.beside == "earlier" and history.exists():
            header = self._former["history.jsonl"].split(b"\n")[0]
            if history.read_bytes().startswith(header):
                return []
        return finished_trials(history)

    def repeated(self, done: Counter[str], more: int, *, ended: bool) -> str:
        """Return whether trials were judged twice."""
        return judged_twice(done, more, ended=ended)

    def unreadable(self, folder: Path) -> Iterator[str]:
        """Yield what cannot be read though it is there, or is not as the run before left it."""
        yield from unreadable(self.workspace(folder))
        kept = folder / "workspace/earlier/1"
        if kept.exists() and content_of(kept) != _but_lock(self._former):
            yield "what the run before has left is not kept as it was"

    def end_of(self, folder: Path) -> dict[str, Any]:
        """Return all that the run leaves."""
        workspace = self.workspace(folder)
        found = {name: (workspace / name).read_bytes() for name in FILES}
        result = json.loads((folder / "result").read_text())
        return {
            **found,
            "trials": self.acknowledged(folder),
            "files": sorted(one.name for one in workspace.iterdir()),
            "kept": content_of(folder / "workspace/earlier/1"),
            "result": result,
        }

    def run(self, folder: Path, note: Callable[[str], Any]) -> dict[str, Any]:
        """Run to the end, and ``note`` when the tuning, a training step or a pass begins."""
        return told(self._tuned(folder, note))

    def _tuned(self, folder: Path, note: Callable[[str], Any]) -> TuningResult:
        tuning = {
            "objective": "modelsize",  # the others are measured by the clock
            "strategy": {"name": self.strategy},
            "accuracy_criterion": {"absolute": -1.0, "higher_is_better": False},
            "exit_policy": {"max_trials": self.trials},
        }
        asked = conf(folder / "workspace", tuning=tuning)
        given = {"num_workers": self.workers}
        module, data = Judged(), (train_loader(**given), val_loader(batch_size=JUDGED, **given))
        module.note = note
        if self.fits:
            return fitted(folder, module, data, asked)
        note("tuning")
        return quantize(trainer(), module, *data, conf=asked)


def fitted(folder: Path, module: Judged, data: Any, asked: Any) -> TuningResult:
    """Fit for an epoch, or go on behind it."""

    class Noted(QuantizationCallback):
        def on_fit_end(self, *given: Any) -> None:
            module.note("tuning")
            super().on_fit_end(*given)

    quantization = Noted(asked)
    kept = ModelCheckpoint(folder / "ckpt", monitor="val_loss", save_last=True)
    one = trainer(kept, quantization, max_epochs=1, enable_checkpointing=True)
    torch.manual_seed(1)
    last = "last" if (folder / "ckpt" / "last.ckpt").exists() else None
    one.fit(module, *data, ckpt_path=last)
    assert quantization.result is not None
    return quantization.result


SCENES = (
    Scene("quantize, basic", "basic"),
    Scene("quantize, auto", "auto", trials=6),
    Scene("fit, basic", "basic", fits=True, trials=8),
    Scene("fit, auto", "auto", fits=True, trials=6),
    Scene("quantize after another run", "basic", trials=4, beside="earlier"),
    Scene("quantize beside another run", "basic", trials=4, beside="parallel"),
)
_HOLDERS: list[WorkspaceLock] = []


@functools.cache
def left_by(strategy: str) -> dict[str, bytes]:
    """Return what a run with a strategy leaves in its workspace."""
    with tempfile.TemporaryDirectory() as folder:
        run = Forked(Scene("the run before", strategy, trials=3), Path(folder))
        assert run.wait() == 0, (Path(folder) / "errors").read_text()
        return content_of(Path(folder) / "workspace")


def content_of(folder: Path) -> dict[str, bytes]:
    """Return the content of each file in a folder, if that is there; a lock has none."""
    files = [one for one in folder.iterdir() if one.is_file()] if folder.is_dir() else []
    return _but_lock({one.name: one.read_bytes() for one in files})


def _but_lock(content: dict[str, bytes]) -> dict[str, bytes]:
    return {name: found for name, found in content.items() if name != "lock"}


def unreadable(workspace: Path) -> Iterator[str]:
    """Yield what cannot be read though it is there, or cannot be locked though nobody is."""
    x, checkpoint = torch.ones(1, WIDTH), workspace / FILES[2]
    yield from unreadable_in(workspace, Judged(), x)
    try:
        if checkpoint.exists():
            assert load_from_checkpoint(Judged, checkpoint)(x).isfinite().all()
    except (LpotError, AssertionError) as error:
        yield str(error)


def told(result: TuningResult) -> dict[str, Any]:
    """Return what two runs of the same scene must have in common, their times left out."""
    trials = [
        (one.number, one.recipe.key, one.score.accuracy, one.score.failure, one.accepted)
        for one in result.trials
    ]
    left_out = {"trials", "held", "speedup", "speedup_spread", "workspace", "criterion"}
    left_out |= {"sensitivities", "repairs", "op_times", "not_paying", "causes", "origin"}
    fields = [one.name for one in dataclasses.fields(result) if one.name not in left_out]
    state = result.model(torch.linspace(-3, 3, WIDTH).expand(2, -1))
    shown = {name: getattr(result, name) for name in fields}
    shown["damages"] = [(one.op, one.damage) for one in result.sensitivities]
    shown["paying"] = [
        (op, *dataclasses.astuple(each[op]))
        for each in (result.op_times, result.not_paying)
        for op in sorted(each)
    ]
    shown["about"] = None if result.about is None else result.about.to_dict()
    shown["training"] = None if result.training is None else result.training.to_dict()
    shown["causes"] = {op: one.to_dict() for op, one in result.causes.items()}
    shown["repairs"] = [dataclasses.astuple(one) for one in result.repairs]
    return json.loads(json.dumps({**shown, "trials": trials, "predictions": state.tolist()}))


def acknowledged(folder: Path) -> list[Any]:
    """Return the trials whose lines are whole."""
    return finished_trials(folder / "workspace" / "history.jsonl")


def end_of(folder: Path) -> dict[str, Any]:
    """Return all that a run leaves."""
    return SCENES[0].end_of(folder)
