"""A LightningModule in, a score out: the user's validation loop, quietly."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from time import monotonic
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import CombinedLoader
from torch import nn

from lpot_lightning.data.batches import shortened
from lpot_lightning.errors import DataError, EvaluationError, LpotError, in_short
from lpot_lightning.judging.runner import Evaluation
from lpot_lightning.machine.ranks import Ranks
from lpot_lightning.machine.signals import check
from lpot_lightning.module.untouched import as_before_on_error
from lpot_lightning.trainer import calibration
from lpot_lightning.trainer.borrowed_loop import (
    BorrowedLoop,
    HeldBatches,
    Warned,
    directions_in,
    logged_by,
    quiet,
    run,
)
from lpot_lightning.trainer.calibration import Calibration
from lpot_lightning.trainer.checks import check_step, find_loaders
from lpot_lightning.trainer.monitor import Monitor, find_monitor, named_by
from lpot_lightning.trainer.precision import step_failed
from lpot_lightning.trainer.progress import Progress
from lpot_lightning.trainer.scorers import lent, scorers
from lpot_lightning.trainer.stop_watch import StopWatch
from lpot_lightning.trainer.task import Task
from lpot_lightning.trainer.watched_pass import Running
from lpot_lightning.tuning.screening import Watch


@dataclass(frozen=True)
class _Pass:
    """One pass over the validation data, and what was logged in it."""

    loop: BorrowedLoop
    logged: Mapping[str, float]
    clock: StopWatch


class ValidationRunner:
    """Judges, calibrates and times models with the validation loop of a trainer.

    Args:
        trainer: in ``on_fit_end``, or inside ``validate``; used quietly and given back.
        owner: the user's module: data hooks are asked of it, nothing of it is changed.
        fresh: gives a new copy of the model that is to be quantized.
        task: for data, metric, sampling size, batches a pass, seed and precision.
        warn: takes what the user should know.
        ranks: the processes that judge together, each with its share of the data. What one of them
            fails at fails in all.
    """

    def __init__(
        self,
        trainer: Trainer,
        owner: LightningModule,
        fresh: Callable[[], LightningModule],
        task: Task,
        warn: Callable[[str], None],
        ranks: Ranks,
    ) -> None:
        conf = task.conf
        self._trainer, self._fresh, self._conf, self._ranks = trainer, fresh, conf, ranks
        self._owner, self._scorers = owner, list[Callback]()
        self._asked_monitor, self._watchers, self._warn = task.monitor, task.watchers, warn
        self._precision, self._seed = task.precision, conf.tuning.random_seed
        self._found: Monitor | None = None
        self._progress, self._warned, self._averaged = Progress(trainer), Warned(), False
        check_step(owner)
        judge = conf.evaluation.accuracy if conf.evaluation else None
        most = judge.iteration if judge else -1
        self._val, self._limits = ranks.together(partial(find_loaders, trainer, most, self._seed))
        self._data = Calibration(
            trainer,
            owner,
            conf,
            self._val,
            calib=task.calib,
            train=task.train,
            ranks=ranks,
            warn=warn,
        )

    @property
    def monitor(self) -> str:
        """The metric that is the accuracy; known after the first evaluation."""
        return self._known.name

    @property
    def higher_is_better(self) -> bool:
        """Its direction; known after the first evaluation."""
        return self._known.higher_is_better

    @property
    def _known(self) -> Monitor:
        assert self._found is not None, "nothing was evaluated yet"
        return self._found

    @property
    def calibration(self) -> Any:
        """The calibration batches."""
        return self._data.batches

    @property
    def samples(self) -> int:
        """How many samples they hold, those of all processes together."""
        return self._data.samples

    def fresh(self) -> nn.Module:
        """Return a new copy of the model that is to be quantized."""
        return self._fresh()

    def try_out(self, model: nn.Module) -> nn.Module:
        """Show ``model`` the first samples of the first calibration batch.

        If ``validation_step`` cannot take a training batch, the validation data takes its place,
        one warning says so, and a fresh model is returned.

        Raises:
            EvaluationError: if it cannot take a validation batch either.
        """
        fault = self._fault(model)
        if fault is None:
            return model
        origin, reason = self._data.origin, in_short(fault)
        if origin != calibration.VALIDATION:
            self._data.take_validation_data()
            fault = self._fault(self._fresh())
            if fault is None:
                self._warn(
                    f"`validation_step` cannot take a batch of {origin} ({reason}); calibrating on"
                    " the validation data"
                )
                return self._fresh()
        raise step_failed(fault, self._precision) from fault

    def _fault(self, model: nn.Module) -> Exception | None:
        """Return what ``validation_step`` says against the first calibration batch."""
        try:
            self._show(model, [list(map(shortened, one)) for one in self._data.first])
        except LpotError:
            raise
        except Exception as error:
            return error
        return None

    def calibrate(self, model: nn.Module) -> None:
        """Show ``model`` all calibration batches.

        Raises:
            DataError: if ``validation_step`` fails on one that is not the first.
        """
        size = self._conf.quantization.calibration.sampling_size
        quick = self._trainer.fast_dev_run  # type: ignore[attr-defined]
        if self.samples < size and not quick:
            self._warn(
                f"{self._data.origin} has {self.samples} samples,"
                f" `quantization.calibration.sampling_size` asks for {size}: all are used"
            )
        try:
            with self._progress.over("calibration", sum(map(len, self._data.batches))) as bar:
                self._show(model, self._data.batches, [bar])
        except LpotError:
            raise
        except Exception as error:
            raise DataError(
                f"`validation_step` fails on a batch of {self._data.origin} ({in_short(error)});"
                " calibrate on other data, with `calib='val'` or a `calib_dataloader()`"
            ) from error

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
        self._found = self._ranks.on_zero(lambda: self._sought(passed.loop, passed.logged))
        accuracy = self._over_ranks(passed.logged.get(self.monitor), passed.loop.batches_seen)
        step = self._ranks.agreed(passed.clock.median)
        return Evaluation(accuracy, batches, monotonic() - started, step)

    def _pass(self, model: nn.Module, label: str, watch: Watch | None = None) -> _Pass:
        """Let ``model`` go through the validation data once."""
        assert isinstance(model, LightningModule)
        loop, clock = BorrowedLoop(self._trainer, self._val, self._limits), StopWatch()
        with self._warned.once(), self._progress.over(label, sum(self._limits)) as bar:
            watching = [] if watch is None else [Running(watch, loop, partial(self._name_in, loop))]
            callbacks = [*clock.around([bar]), *self._scorers, *watching]
            try:
                with lent(self._scorers, self._owner, model):
                    logged = self._run(model, loop, callbacks)
            except Exception as error:
                if self._found is not None or isinstance(error, LpotError):
                    raise  # whether a trial may fail is for the search to say
                raise EvaluationError(
                    f"the validation of the fp32 model fails {loop.where}{self._with}"
                    f" ({in_short(error)}); it has to work before another model can be judged by it"
                ) from error
        self._ranks.together(lambda: self._check_batches(loop))
        return _Pass(loop, logged, clock)

    @property
    def _with(self) -> str:
        names = ", ".join(f"`{type(one).__name__}`" for one in self._scorers)
        return f", with {names} to log the metric," if names else ""

    def _with_scorers(self, model: nn.Module, label: str, alone: _Pass) -> tuple[_Pass, int]:
        """Return the pass of those of the user's callbacks that log the metric, and what it cost.

        Where the module logs it by itself, as most do, that is the pass ``alone``.
        """
        sought = {self._asked_monitor} if self._asked_monitor else named_by(self._watchers)
        missing = self._ranks.agreed(sought - set(alone.logged))
        batches, fault = 0, None
        for one in scorers(self._watchers) if missing else ():
            self._scorers = [one]
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
        return alone, batches

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
        asked = self._conf.tuning.accuracy_criterion.higher_is_better
        directions = directions_in(loop)
        return find_monitor(self._asked_monitor, asked, self._watchers, logged, directions)

    def _name_in(self, loop: BorrowedLoop) -> str | None:
        """Return the metric to tune by, if what is logged so far tells."""
        try:
            return (self._found or self._monitor_in(loop, logged_by(loop))).name
        except LpotError:
            return None

    def _here(self) -> str:
        of = self._ranks.size
        return f" in process {self._ranks.rank} of {of}" if of > 1 else " this time"

    def _over_ranks(self, accuracy: float | None, batches: int) -> float:
        """Return the metric, averaged by batches where the module did not do so itself."""
        told = self._ranks.gather((accuracy, batches))
        found = [(value, weight) for value, weight in told if value is not None]
        if len({repr(value) for value, _ in found}) == 1:  # NaN is not equal to itself
            return found[0][0]
        if not self._averaged:
            self._averaged = True
            self._ranks.together(self._tell_of_the_mean)  # rank 0 warns, and a warning may raise
        return sum(value * weight for value, weight in found) / sum(w for _, w in found)

    def _tell_of_the_mean(self) -> None:
        self._warn(
            f"`{self.monitor}` differs between the {self._ranks.size} processes, and their mean"
            " is taken; log it with `sync_dist=True`, or as a torchmetrics object"
        )

    def step_seconds(self, model: nn.Module) -> float:
        """Return the seconds of one ``validation_step`` on the first calibration batch."""
        clock = StopWatch()
        self._show(model, self._data.first, clock.around([]))
        return self._ranks.agreed(clock.median)

    def _show(
        self,
        model: nn.Module,
        batches: Sequence[Sequence[Any]],
        callbacks: Sequence[Callback] = (),
    ) -> None:
        with self._warned.once():
            loader = CombinedLoader([HeldBatches(one) for one in batches], "sequential")
            loop = BorrowedLoop(self._trainer, loader, [len(one) for one in batches])
            self._run(model, loop, callbacks)

    def _run(
        self, model: nn.Module, loop: BorrowedLoop, callbacks: Sequence[Callback]
    ) -> dict[str, float]:
        assert isinstance(model, LightningModule)

        def quietly() -> dict[str, float]:
            try:
                with (
                    quiet(
                        self._trainer, model, callbacks, self._seed, self._ranks, self._precision
                    ),
                    as_before_on_error(model),
                ):
                    return run(self._trainer, loop)
            finally:
                check()

        return self._ranks.together(quietly)
