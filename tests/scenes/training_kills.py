"""Fits that train for int8 or prune, and are killed."""

from __future__ import annotations

import dataclasses
import functools
import json
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, ClassVar

import lightning.pytorch as pl
import torch
from kill_scenes import FILES, WithoutTrials, content_of
from lit_scenes import WIDTH, points, val_loader
from qat_scenes import ConvLit, qat, ranges_in
from qat_scenes import checkpoints as saved_each_epoch
from qat_scenes import trained as trained_for_int8
from sparse_scenes import Rolling, pruned, pruning
from torch import Tensor
from torch.utils.data import ConcatDataset, DataLoader

from lpot_lightning import TuningResult, load
from lpot_lightning.errors import LpotError
from lpot_lightning.judging.screened_judge import ScreenedJudge
from lpot_lightning.module.fingerprint import content_hash
from lpot_lightning.selftest.forked import Forked
from lpot_lightning.selftest.little_run import finished_trials, unreadable_in
from lpot_lightning.selftest.scene import Note

HARD = {"accuracy_criterion": {"absolute": -1.0}, "strategy": {"name": "basic"}}
PRUNED = ("pruned_configure.yaml", "pruned_model_weights.pt")
# each batch alike: Lightning begins an epoch that it goes on with by the first of the data
ALIKE = DataLoader(ConcatDataset([points(16)] * 4), batch_size=16), val_loader(24)


class Noting(pl.Callback):
    """Notes the batches, and the end of the fit."""

    def __init__(self, note: Note) -> None:
        self._note = note

    def on_train_batch_start(self, *_: Any) -> None:
        self._note("training step")

    def on_fit_end(self, *_: Any) -> None:
        self._note("tuning")


def note_trials(note: Note) -> None:
    """Let each trial that is judged be noted, for as long as the process lives."""
    judge = ScreenedJudge.judge_int8

    def noted(self: Any, *given: Any, **named: Any) -> Any:
        note("trial")
        return judge(self, *given, **named)

    ScreenedJudge.judge_int8 = noted  # type: ignore[method-assign]


def newest(saved: Path) -> str | None:
    """Return the last checkpoint that can be read."""
    found = sorted(saved.glob("*.ckpt"), key=lambda one: one.stat().st_mtime, reverse=True)
    for path in [saved / "last.ckpt", *found]:
        with suppress(Exception):
            torch.load(path, weights_only=True)
            return str(path)
    return None


def images() -> Tensor:
    return torch.randn(4, 1, 8, 8, generator=torch.Generator().manual_seed(3))


@dataclasses.dataclass(frozen=True)
class QatFit:
    """A training for int8 with a checkpoint an epoch; a ``hard`` one tries ops in fp32 then."""

    name: str
    hard: bool = False
    begins: ClassVar[str] = "fit"

    def prepare(self, folder: Path) -> None:
        """Put nothing there."""

    def run(self, folder: Path, note: Note) -> dict[str, Any]:
        """Fit from the newest checkpoint on."""
        torch.manual_seed(0)
        note_trials(note)
        note("fit")
        callback = qat(folder / "workspace", tuning=HARD if self.hard else {}, ckpt="last")
        _, module = trained_for_int8(
            callback,
            ConvLit(),
            saved_each_epoch(folder / "saved"),
            Noting(note),
            max_epochs=3,
            ckpt_path=newest(folder / "saved"),
            default_root_dir=str(folder),
        )
        result = callback.result
        assert result is not None
        return {
            **told(result),
            "weights": content_hash(module.state_dict()),
            "ranges": content_hash(ranges_in(folder / "saved/last.ckpt")),
        }

    def written(self, folder: Path) -> list[Path]:
        return [folder / "workspace"]

    def acknowledged(self, folder: Path) -> list[Any]:
        return finished_trials(folder / "workspace/history.jsonl")

    def repeated(self, done: Counter[str], more: int, *, ended: bool) -> str:
        spare = done["trial"] - more
        return "" if spare in ((0,) if ended else (0, 1)) else f"{spare} more judged than kept"

    def unreadable(self, folder: Path) -> Iterator[str]:
        yield from unreadable_in(folder / "workspace", ConvLit(), images())

    def end_of(self, folder: Path) -> dict[str, Any]:
        files = content_of(folder / "workspace")
        return {
            **{name: files[name] for name in FILES},
            "files": sorted(files),
            "trials": self.acknowledged(folder),
            "result": json.loads((folder / "result").read_text()),
        }


def told(result: TuningResult) -> dict[str, Any]:
    """Return what two runs must have in common."""
    trials = [(one.recipe.key, one.score.accuracy, one.accepted) for one in result.trials]
    return {
        "scores": [result.baseline, result.accuracy, result.status, result.evaluations],
        "trials": trials,
        "predictions": result.model(images()).tolist(),
    }


@dataclasses.dataclass(frozen=True)
class PruningFit(WithoutTrials):
    """A pruning with a checkpoint an epoch, after another one of the same workspace.

    Args:
        name: for tables.
        pattern: of the pruner; `channel` cuts them out at the end.
        sparsity: how much is pruned.
    """

    name: str
    pattern: str = ""
    sparsity: float = 0.6
    begins: ClassVar[str] = "fit"

    def prepare(self, folder: Path) -> None:
        """Put there what another pruning has left."""
        if self.sparsity == 0.6:
            (folder / "workspace").mkdir()
            for name, content in self._former.items():
                (folder / "workspace" / name).write_bytes(content)

    @property
    def _former(self) -> dict[str, bytes]:
        return left_by(self.pattern)

    def run(self, folder: Path, note: Note) -> dict[str, Any]:
        """Fit from the newest checkpoint on."""
        torch.manual_seed(0)
        note("fit")
        asked = {"pattern": self.pattern} if self.pattern else {}
        given = {"end_epoch": 2, "target_sparsity": self.sparsity}
        callback = pruning(folder / "workspace", asked, **given)
        saved = saved_each_epoch(folder / "saved")
        at = newest(folder / "saved")
        _, module = pruned(
            callback, None, saved, first=(Noting(note),), data=ALIKE, ckpt_path=at, max_epochs=3
        )
        result = callback.result
        assert result is not None
        scores = [result.baseline, result.accuracy, result.status, result.reached]
        return {
            "scores": scores,
            "sparsity": [(one.name, one.sparsity) for one in result.layers],
            "weights": content_hash(module.state_dict()),
            "predictions": result.model(torch.ones(1, WIDTH)).tolist(),
        }

    def written(self, folder: Path) -> list[Path]:
        return [folder / "workspace"]

    def unreadable(self, folder: Path) -> Iterator[str]:
        """Yield what cannot be read, or is neither kept nor replaced of what was there before."""
        configure, weights = (folder / "workspace" / name for name in PRUNED)
        try:
            if not load(configure, weights, Rolling())(torch.ones(1, WIDTH)).isfinite().all():
                yield "the pruned model computes what is not finite"
        except LpotError as error:
            yield str(error)
        yield from unreadable_in(folder / "workspace", Rolling(), torch.ones(1, WIDTH))
        kept = folder / "workspace/earlier/1"
        if kept.exists() and content_of(kept) != self._former:
            yield "what the pruning before has left is not kept as it was"

    def end_of(self, folder: Path) -> dict[str, Any]:
        files = content_of(folder / "workspace")
        return {
            **{name: files[name] for name in PRUNED},
            "files": sorted(files),
            "kept": content_of(folder / "workspace/earlier/1"),
            "result": json.loads((folder / "result").read_text()),
        }


@functools.cache
def left_by(pattern: str) -> dict[str, bytes]:
    """Return what a pruning leaves in its workspace."""
    with tempfile.TemporaryDirectory() as folder:
        run = Forked(PruningFit("the pruning before", pattern, 0.3), Path(folder))
        assert run.wait() == 0, (Path(folder) / "errors").read_text()
        return content_of(Path(folder) / "workspace")


TRAININGS = (
    QatFit("QAT"),
    QatFit("QAT, ops fall back", hard=True),
    PruningFit("pruning"),
    PruningFit("pruning of channels", "channel"),
)
