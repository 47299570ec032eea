"""A LightningModule in, a score out: the user's validation loop, quietly."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from time import monotonic

from lightning.pytorch import Callback, LightningModule
from torch import nn

from lpot_lightning.errors import DataError, EvaluationError, LpotError, in_short, quoted
from lpot_lightning.judging.protocols import EarlierPass, Evaluation, Monitor
from lpot_lightning.module.stand_in import HELD
from lpot_lightning.module.untouched import as_before_but
from lpot_lightning.trainer.borrowed_loop import BorrowedLoop, ShowingLoop, directions_in, logged_by
from lpot_lightning.trainer.checks import Loaders, check_step
from lpot_lightning.trainer.fit_validations import FitValidations
from lpot_lightning.trainer.monitor import find_monitor, named_by
from lpot_lightning.trainer.package import either
from lpot_lightning.trainer.passes import Passes, StopWatch
from lpot_lightning.trainer.scorers import lent, may_log, scorers
from lpot_lightning.trainer.watched_pass import Running
from lpot_lightning.tuning.screening import Watch

_OF_TRAINING = ("train", "epoch", "step")  # no validation logs them


@dataclass(frozen=True)
class _Pass:
    """One pass over the validation data, and what was logged in it."""

    loop: BorrowedLoop
    logged: Mapping[str, float]
    clock: StopWatch


class ValidationJudge:
    """Judges models with the validation loop of a trainer.

    Args:
        passes: lends the loop.
        owner: the user's module: nothing of it is changed.
        asked: ``monitor``, where the user has named it, and the direction of the YAML.
        watchers: the user's callbacks; one of them may name the metric, or log it.
        loaders: gives the validation loaders, and how many batches of each a pass takes.
        validations: those of the fit, which may have judged the same model.
    """

    def __init__(
        self,
        passes: Passes,
        owner: LightningModule,
        asked: tuple[str | None, bool | None],
        watchers: Sequence[Callback],
        loaders: Callable[[], Loaders],
        validations: FitValidations | None = None,
    ) -> None:
        check_step(owner)
        self._passes, self._owner, self._ranks = passes, owner, passes.ranks
        self._asked_monitor, self._asked_direction = asked
        self._watchers, self._loaders = watchers, loaders
        self._validations = validations
        self._scorers: list[Callback] = []
        self._found: Monitor | None = None
        self._averaged = False

    def seen(self, model: nn.Module) -> EarlierPass | None:
        """Return what a validation of the fit found of this very model, over all of the data.

        None is taken where a callback of the user's may have logged the metric: which one it was
        has to be found out by a pass.
        """
        validations = self._validations
        if validations is None or may_log(self._watchers):
            return None
        if any(self._ranks.gather(validations.first is not None)):  # all show it, or none
            validations.confirm(self._first_checksum(model))
        _, limits = self._loaders()
        found = self._seen_here(validations, model, sum(limits))
        if not all(self._ranks.gather(found is not None)):
            return None
        assert found is not None
        self._found = found.evaluation.monitor
        accuracy, batches = found.evaluation.accuracy, found.evaluation.batches
        accuracy = self._over_ranks(accuracy, batches, self._found.name)
        return replace(found, evaluation=replace(found.evaluation, accuracy=accuracy))

    def _seen_here(
        self, validations: FitValidations, model: nn.Module, batches: float
    ) -> EarlierPass | None:
        found = validations.of(model)
        if found is None or not self._is_sought(found.evaluation.monitor):
            return None
        return found if found.evaluation.batches == batches else None

    def _first_checksum(self, model: nn.Module) -> int:
        """Return that of the first batch of the validation data, which ``model`` is shown.

        Raises:
            EvaluationError: if the user's code fails.
        """
        loader, limits = self._loaders()
        first = [min(1, limits[0]), *[0] * (len(limits) - 1)]
        loop = ShowingLoop(self._passes.trainer, loader, first)
        look = Running(_unwatched, loop, _nothing_logged)
        try:
            with as_before_but(model, HELD):
                self._passes.run(model, loop, [look])
        except LpotError:
            raise
        except Exception as error:
            raise self._failed(loop, error) from error
        return look.own

    def _is_sought(self, monitor: Monitor) -> bool:
        """Whether it is what models are to be judged by, though another fit may have found it."""
        sought = {self._asked_monitor} if self._asked_monitor else named_by(self._watchers)
        same_way = self._asked_direction in (None, monitor.higher_is_better)
        return same_way and (not sought or monitor.name in sought)

    def evaluate(self, model: nn.Module, label: str, watch: Watch | None = None) -> Evaluation:
        """Judge ``model`` by one pass over the validation data.

        Args:
            model: a LightningModule; where the pass does not reach its end, its attributes are put
                back.
            label: for the progress bar.
            watch: looks at the pass after each batch, and may end it.

        Raises:
            DataError: if the validation data gives no batch.
            EvaluationError: if nothing, or another metric than asked for, is logged; or, the first
                time, if the user's code fails.
        """
        started = monotonic()
        passed = self._pass(model, label, watch)
        batches = passed.loop.batches_seen
        if self._found is None:
            passed, more = self._with_scorers(model, label, passed)
            batches += more
        monitor = self._ranks.on_zero(lambda: self._sought(passed.loop, passed.logged))
        self._found = monitor
        accuracy = passed.logged.get(monitor.name)
        return Evaluation(
            accuracy=self._over_ranks(accuracy, passed.loop.batches_seen, monitor.name),
            monitor=monitor,
            batches=batches,
            seconds=monotonic() - started,
            step_seconds=self._ranks.agreed(passed.clock.median),
        )

    def _pass(self, model: nn.Module, label: str, watch: Watch | None = None) -> _Pass:
        """Let ``model`` go through the validation data once."""
        assert isinstance(model, either(LightningModule))
        loader, limits = self._loaders()
        loop, clock = BorrowedLoop(self._passes.trainer, loader, limits), StopWatch()
        with (
            self._passes.bar(label, sum(limits)) as bar,
            lent(self._scorers, self._passes.trainer, self._owner, model) as helpers,
        ):
            watching = [] if watch is None else [Running(watch, loop, partial(self._name_in, loop))]
            callbacks = [*clock.around([bar]), *helpers, *watching]
            try:
                logged = self._passes.run(model, loop, callbacks)
            except Exception as error:
                if self._found is not None or isinstance(error, LpotError):
                    raise  # whether a trial may fail is for the search to say
                raise self._failed(loop, error) from error
        self._ranks.together(lambda: self._check_batches(loop))
        return _Pass(loop, logged, clock)

    def _failed(self, loop: BorrowedLoop, error: Exception) -> EvaluationError:
        return EvaluationError(
            f"the validation of the fp32 model fails {loop.where}{self._with} ({in_short(error)});"
            " it has to work before another model can be judged by it"
        )

    @property
    def _with(self) -> str:
        names = quoted(type(one).__name__ for one in self._scorers)
        return f", with {names} to log the metric," if names else ""

    def _with_scorers(self, model: nn.Module, label: str, alone: _Pass) -> tuple[_Pass, int]:
        """Return the pass of those of the user's callbacks that log the metric, and what it cost.

        Where the module logs it by itself, as most do, that is the pass ``alone``.
        """
        missing = self._ranks.agreed(self._sought_by_callbacks() - set(alone.logged))
        may_log = scorers(self._watchers) if missing else []
        batches, fault = 0, None
        # One alone first: what else is there may write files, or exchange weights.
        for some in [*([one] for one in may_log), *([may_log] if len(may_log) > 1 else [])]:
            self._scorers = some
            try:
                passed = self._pass(model, label)
            except EvaluationError as error:
                fault = fault or error
                continue
            batches += passed.loop.batches_seen
            if self._ranks.agreed(missing & set(passed.logged)):
                return passed, batches
        self._scorers = []
        if fault is not None and self._asked_monitor:
            raise fault  # it may be what should have logged it
        self._check_logged_here(missing)
        return alone, batches

    def _check_logged_here(self, missing: Collection[str]) -> None:
        """Tell if what is asked for was logged in the fit, and is not where models are judged."""
        name = self._asked_monitor
        if name in missing and name in self._passes.trainer.callback_metrics:
            raise EvaluationError(
                f"`{name}` is logged in the fit, and not where models are judged: there is none of"
                " the callbacks but those of your own that derive from `Callback` and log in a"
                " validation; log it in `validation_step`, or in such a callback"
            )

    def _sought_by_callbacks(self) -> set[str]:
        """Return the metrics that a validation may log by the callbacks that watch them."""
        if self._asked_monitor:
            return {self._asked_monitor}
        watched = named_by(self._watchers)
        return {name for name in watched if not name.startswith(_OF_TRAINING)}

    def _check_batches(self, loop: BorrowedLoop) -> None:
        if not loop.batches_seen:
            raise DataError(
                f"the validation data gave no batch{self._here()}: it is empty, or it can be read"
                " only once; pass a `DataLoader`, which starts anew each time"
            )

    def _sought(self, loop: BorrowedLoop, logged: Mapping[str, float]) -> Monitor:
        """Return the metric to tune by, which rank 0 may be alone to log."""
        found = self._found or self._monitor_in(loop, logged)
        if found.name not in logged:
            raise EvaluationError(f"`{found.name}` was logged before, and is not any more")
        return found

    def _monitor_in(self, loop: BorrowedLoop, logged: Collection[str]) -> Monitor:
        directions = directions_in(loop)
        return find_monitor(
            self._asked_monitor, self._asked_direction, self._watchers, logged, directions
        )

    def _name_in(self, loop: BorrowedLoop) -> str | None:
        """Return the metric to tune by, if what is logged so far tells."""
        try:
            return (self._found or self._monitor_in(loop, logged_by(loop))).name
        except LpotError:
            return None

    def _here(self) -> str:
        of = self._ranks.size
        return f" in process {self._ranks.rank} of {of}" if of > 1 else " this time"

    def _over_ranks(self, accuracy: float | None, batches: int, name: str) -> float:
        """Return the metric, averaged by batches where the module did not do so itself."""
        told = self._ranks.gather((accuracy, batches))
        found = [(value, weight) for value, weight in told if value is not None]
        if len({repr(value) for value, _ in found}) == 1:  # NaN is not equal to itself
            return found[0][0]
        if not self._averaged:
            self._averaged = True
            # Rank 0 warns, and a warning may raise.
            self._ranks.together(partial(self._tell_of_the_mean, name))
        return sum(value * weight for value, weight in found) / sum(w for _, w in found)

    def _tell_of_the_mean(self, name: str) -> None:
        self._passes.say(
            f"`{name}` differs between the {self._ranks.size} processes, and their mean"
            " is taken; log it with `sync_dist=True`, or as a torchmetrics object"
        )


def _unwatched(seen: object) -> None:
    """Let a pass go on."""


def _nothing_logged() -> None:
    """Name no metric."""
