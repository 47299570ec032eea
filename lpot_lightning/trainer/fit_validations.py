"""What the validations of a fit have found, so that no model is judged twice."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from math import ceil
from time import monotonic
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from torch import nn
from torchmetrics import Metric, MetricCollection

from lpot_lightning.errors import ArtifactError
from lpot_lightning.judging.protocols import EarlierPass, Evaluation, Monitor
from lpot_lightning.machine.random_numbers import drawn
from lpot_lightning.module.contents import Untold, contents_hash
from lpot_lightning.trainer.package import either
from lpot_lightning.trainer.partial_metric import curve_from, curve_state
from lpot_lightning.trainer.watched_pass import Running
from lpot_lightning.tuning.screening import Pass, Recorder

GROWTH = 1.2
"""Of the batches from one look at the metric to the next: more would be felt in a validation."""
_DRAWS = 8
"""Batches in which a step that draws random numbers draws some: to look takes a tenth of a ms."""
Place = tuple[int, int]
_OF_LIGHTNING = frozenset(
    (
        "_automatic_optimization",
        "_compiler_ctx",
        "_current_fx_name",
        "_device",
        "_device_mesh",
        "_dtype",
        "_example_input_array",
        "_fabric",
        "_fabric_optimizers",
        "_log_hyperparams",
        "_metric_attributes",
        "_param_requires_grad_state",
        "_strict_loading",
        "_trainer",
        "allow_zero_length_dataloader_with_multiple_devices",
        "prepare_data_per_node",
    )
)
_FIELDS: dict[str, Any] = {
    "model": str,
    "name": str,
    "higher_is_better": bool,
    "accuracy": float,
    "batches": int,
    "seconds": float,
    "epoch": int,
    "metric": (str, type(None)),
    "curve": dict,
}


@dataclass(frozen=True, kw_only=True)
class _Kept:
    """A validation that was over.

    Args:
        model: the ``identity`` of what it judged.
        evaluation: what came out of it.
        recorder: has seen it.
        metric: the path of the torchmetrics object that was logged, if it was one.
        epoch: in which it was.
    """

    model: str
    evaluation: Evaluation
    recorder: Recorder
    metric: str | None
    epoch: int

    def state(self) -> dict[str, Any]:
        found = self.evaluation
        return {
            "model": self.model,
            "name": found.monitor.name,
            "higher_is_better": found.monitor.higher_is_better,
            "accuracy": found.accuracy,
            "batches": found.batches,
            "seconds": found.seconds,
            "epoch": self.epoch,
            "metric": self.metric,
            "curve": curve_state(self.recorder, self.metric),
        }


class FitValidations:
    """Looks on while a fit validates, and keeps what came out of it: the best and the last.

    A validation may stand for the pass that judges the same model later only where its data came
    as they had come before, in this fit: what is shuffled, or drawn anew each time, measures no
    other model; nor does a step that draws random numbers.

    Args:
        find: returns the metric to judge by, of what a trainer has logged so far; ``None`` where
            that does not tell.

    Example::

        validations.begin(trainer)  # on_validation_start
        validations.start_batch(trainer, module, batch, (0, 0))
        validations.end_batch(trainer, module, batch)
        validations.end_data()  # on_validation_epoch_end
        validations.end(trainer, module, monitor)
        validations.of(model)  # an `EarlierPass`, or None
    """

    def __init__(self, find: Callable[[Trainer], str | None]) -> None:
        self._find = find
        self._best: _Kept | None = None
        self._last: _Kept | None = None
        self._same = self._differs = self._untold = False
        self._data: dict[Place, int] = {}
        self._now: _Now | None = None

    def begin(self, trainer: Trainer) -> None:
        """A validation begins, or a sanity check; only on the CPU, in float32, is it looked at."""
        as_judged = trainer.strategy.root_device.type == "cpu" and trainer.precision == "32-true"
        self._now = _Now(trainer, partial(self._find, trainer)) if as_judged else None

    def start_batch(
        self, trainer: Trainer, module: LightningModule, batch: Any, place: Place
    ) -> None:
        """``validation_step`` comes next; the place is the number of the loader, and of the batch.

        The weights of the first one are what is judged: an average may have taken their place.
        """
        now = self._now
        if now is None:
            return
        if not now.data and not trainer.sanity_checking:
            now.model = self._identity(module)
        now.running.on_validation_batch_start(trainer, module, batch)
        now.data[place] = now.running.own
        now.drawn = drawn() if now.running.batches < _DRAWS else None

    def end_batch(self, trainer: Trainer, module: LightningModule, batch: Any) -> None:
        """``validation_step`` is done."""
        if self._now is not None:
            self._now.draws |= self._now.drawn not in (None, drawn())
            self._now.running.on_validation_batch_end(trainer, module, None, batch)

    def end_data(self) -> None:
        """All batches are through, and no metric is begun anew yet."""
        if self._now is not None:
            self._now.look_at_the_end()

    def end(self, trainer: Trainer, module: LightningModule, monitor: Monitor | None) -> None:
        """The validation is over; ``monitor`` is ``None`` where it judged nothing."""
        now, self._now = self._now, None
        if now is None:
            return
        self._compare(now.data)
        accuracy = None if monitor is None else trainer.callback_metrics.get(monitor.name)
        if monitor is None or accuracy is None or not now.model or now.draws:
            return
        self._last = now.kept(module, monitor, float(accuracy), trainer.current_epoch)
        if self._best is None or _is_better(self._last.evaluation, self._best.evaluation):
            self._best = self._last

    def _compare(self, data: Mapping[Place, int]) -> None:
        """Find out whether the data come as they came before; what they were judged by goes."""
        before, self._data = self._data, dict(data)
        if before:
            self._same = all(
                found and data.get(place, found) == found for place, found in before.items()
            )
            if not self._same:
                self._differs = True
                self._best = self._last = None

    def of(self, model: nn.Module) -> EarlierPass | None:
        """Return what a validation of this very model found, its plain attributes included."""
        kept = [one for one in (self._last, self._best) if one is not None]
        sought = self._identity(model) if kept and self._same else ""
        for one in kept:
            if one.model == sought != "":
                where = f"by the fit's own validation of epoch {one.epoch}"
                return EarlierPass(evaluation=one.evaluation, recorder=one.recorder, where=where)
        return None

    @property
    def first(self) -> int | None:
        """The checksum of the first batch, where no validation of this fit has seen it yet."""
        return None if self._same or self._differs else self._data.get((0, 0))

    def confirm(self, first: int) -> None:
        """Take what an earlier fit has found where the data still begin with the same batch."""
        self._same = self._same or (first != 0 and first == self.first)

    def _identity(self, model: nn.Module) -> str:
        """Return what a model is known by again, ``""`` where nothing tells."""
        if not self._untold:
            try:
                return identity(model)
            except Untold:
                self._untold = True
        return ""

    def state(self) -> dict[str, Any]:
        """Return plain values that ``load`` takes up."""
        kept = {"best": self._best, "last": self._last}
        found: dict[str, Any] = {name: one.state() for name, one in kept.items() if one is not None}
        return {**found, "data": [[*place, own] for place, own in self._data.items()]}

    def load(self, state: Mapping[str, Any], module: nn.Module) -> None:
        """Take up what ``state`` gave.

        Args:
            state: stands for nothing before this fit has seen the same data, or their ``first``.
            module: has the metrics whose running values are in it.

        Raises:
            ArtifactError: if it is damaged.
        """
        if not isinstance(state, Mapping):
            raise ArtifactError("what the checkpoint says of validations is damaged")
        kept = {name: value for name, value in state.items() if name != "data"}
        found = {name: _kept_from(one, module) for name, one in kept.items()}
        self._data = _data_from(state.get("data", []))
        self._best, self._last = found.get("best"), found.get("last")
        self._same = False  # until it is seen that the data are still the same


def _data_from(state: Any) -> dict[Place, int]:
    try:
        return {(int(loader), int(batch)): int(own) for loader, batch, own in state}
    except (TypeError, ValueError) as error:
        raise ArtifactError("what the checkpoint says of the data is damaged") from error


def _is_better(one: Evaluation, other: Evaluation) -> bool:
    if one.monitor.higher_is_better:
        return one.accuracy > other.accuracy
    return one.accuracy < other.accuracy


def _kept_from(state: Any, module: nn.Module) -> _Kept:
    if not isinstance(state, Mapping) or not _fits(state):
        raise ArtifactError("what the checkpoint says of a validation is damaged")
    monitor = Monitor(state["name"], state["higher_is_better"])
    evaluation = Evaluation(
        accuracy=state["accuracy"],
        monitor=monitor,
        batches=state["batches"],
        seconds=state["seconds"],
    )
    return _Kept(
        model=state["model"],
        evaluation=evaluation,
        recorder=curve_from(state["curve"], module),
        metric=state["metric"],
        epoch=state["epoch"],
    )


def _fits(state: Mapping[str, Any]) -> bool:
    return all(isinstance(state.get(name), kind) for name, kind in _FIELDS.items())


def identity(model: nn.Module) -> str:
    """Return a hash of all that a model computes by, private attributes and objects included.

    Raises:
        Untold: if it holds what has no content to be seen.
    """
    return contents_hash(model, _of_no_effect)


def _of_no_effect(module: nn.Module) -> frozenset[str]:
    """Return the attributes in which Lightning, or a metric, keeps what it is at just now."""
    if isinstance(module, either(LightningModule)):
        return _OF_LIGHTNING
    if isinstance(module, Metric | MetricCollection):
        states = getattr(module, "_defaults", ())
        return frozenset(
            name
            for name, value in vars(module).items()
            if name in states or callable(value) or (name.startswith("_") and name != "_modules")
        )
    return frozenset()


class _Now:
    """A validation that is not over."""

    def __init__(self, trainer: Trainer, find: Callable[[], str | None]) -> None:
        self._recorder, self._next = Recorder(), 1
        self.running = Running(self._look, trainer.fit_loop.epoch_loop.val_loop, find)
        self.model = ""
        self.data: dict[Place, int] = {}
        self.drawn: bytes | None = None
        self.draws = False
        self._started = monotonic()

    def _look(self, seen: Pass) -> None:
        if seen.batches >= self._next:
            self._recorder(seen)
            self._next = ceil(seen.batches * GROWTH)

    def look_at_the_end(self) -> None:
        self._recorder(self.running)

    def kept(self, module: LightningModule, monitor: Monitor, accuracy: float, epoch: int) -> _Kept:
        metric = self.running.metric()
        paths = (path for path, one in module.named_modules() if one is metric)
        evaluation = Evaluation(
            accuracy=accuracy,
            monitor=monitor,
            batches=self.running.batches,
            seconds=monotonic() - self._started,
        )
        return _Kept(
            model=self.model,
            evaluation=evaluation,
            recorder=self._recorder,
            metric=next(paths, None),
            epoch=epoch,
        )
