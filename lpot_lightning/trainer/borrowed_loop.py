"""Borrow a trainer's validation loop and give everything back."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Self

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers.logger import DummyLogger
from lightning.pytorch.loops.evaluation_loop import _EvaluationLoop
from lightning.pytorch.plugins.precision import Precision
from lightning.pytorch.profilers import PassThroughProfiler
from lightning.pytorch.trainer.connectors.data_connector import _DataHookSelector
from lightning.pytorch.trainer.connectors.logger_connector.result import _ResultMetric
from lightning.pytorch.trainer.states import RunningStage, TrainerFn
from lightning.pytorch.utilities import CombinedLoader
from torch.utils import _pytree as pytree
from torchmetrics import Metric

from lpot_lightning.errors import EvaluationError
from lpot_lightning.machine.random_numbers import generators_kept, seeded
from lpot_lightning.machine.ranks import Ranks
from lpot_lightning.module.untouched import held_modules
from lpot_lightning.trainer.cpu_strategy import metrics_over, on_cpu
from lpot_lightning.trainer.package import derived, of

Batches = Sequence[int | float]
if TYPE_CHECKING:
    _Loop = _EvaluationLoop
else:  # it comes from the package of the trainer
    _Loop = object


class BorrowedLoop(_Loop):
    """Lightning's validation loop over given loaders, with counters of its own."""

    def __new__(cls, trainer: Trainer, *_: object) -> Self:
        """Return a loop of the trainer's own package."""
        return super().__new__(derived(cls, of(trainer, _EvaluationLoop)))

    def __init__(self, trainer: Trainer, loader: CombinedLoader, batches: Batches) -> None:
        fn = trainer.state.fn
        assert fn is not None
        super().__init__(trainer, fn, RunningStage.VALIDATING, verbose=False, inference_mode=False)
        self._combined_loader = loader
        self._max_batches = list(batches)

    def setup_data(self) -> None:
        """The loaders are already there."""

    def _evaluation_step(self, *args: Any, **kwargs: Any) -> None:
        """Tell what Lightning would take for the end of the data (2.6)."""
        reads_itself = any(isinstance(one, Iterator) for one in args)  # it gets `dataloader_iter`
        try:
            super()._evaluation_step(*args, **kwargs)
        except StopIteration as error:
            if reads_itself:
                raise
            raise EvaluationError(
                "`validation_step` raises StopIteration; if it is `next(self.parameters())`, which"
                " an int8 model has none of: take `self.device` and `self.dtype`"
            ) from error

    @property
    def batches_seen(self) -> int:
        """How many batches went through the last run."""
        return int(self.batch_progress.total.completed)

    @property
    def where(self) -> str:
        """Where the last run was when it ended, for people who look for a fault there."""
        begun = int(self.batch_progress.total.ready)
        return (
            f"on batch {begun} of the pass"
            if begun > self.batches_seen
            else f"after {begun} batches"
        )


def held(batches: Sequence[Sequence[Any]], user: CombinedLoader) -> CombinedLoader:
    """Return ``batches``, one list a validation loader, in the structure of the user's loaders."""
    pairs = zip(batches, user.flattened, strict=True)
    standing = [HeldBatches(one, loader) for one, loader in pairs]
    return of(user, CombinedLoader)(pytree.tree_unflatten(standing, user._spec), "sequential")


def logged_by(loop: _EvaluationLoop) -> dict[str, _ResultMetric]:
    """Return what ``loop`` logged for the epoch, by all its names."""
    return {
        name: item
        for item in loop._results.result_metrics
        if item.meta.on_epoch
        for name in loop._results._forked_name(item, on_step=False)
    }


def directions_in(loop: _EvaluationLoop) -> dict[str, bool | None]:
    """Return all names that ``loop`` logged, with ``higher_is_better`` of torchmetrics objects."""
    return {
        name: item.value.higher_is_better if isinstance(item.value, Metric) else None
        for name, item in logged_by(loop).items()
    }


class ShowingLoop(BorrowedLoop):
    """Shows batches to ``validation_step``, and asks no hook that comes when they are over.

    What a module does at the end of an epoch may need all of the validation data, and these are a
    few batches, of the training data perhaps; what it does after that may need what it made then.
    """

    def _on_evaluation_epoch_end(self) -> None:
        """Ask nobody."""

    def _on_evaluation_end(self, *args: Any, **kwargs: Any) -> None:
        """Ask nobody."""
        self.trainer._logger_connector.reset_results()

    def _on_evaluation_model_train(self) -> None:
        """Let the modules be in the modes of before."""
        self._module_mode.restore(self.trainer.lightning_module)


class RepeatingLoop(ShowingLoop):
    """Shows one batch again and again, each time as the one that it is."""

    def _evaluation_step(self, batch: Any, batch_idx: int, *args: Any, **kwargs: Any) -> None:
        super()._evaluation_step(batch, 0, *args, **kwargs)


class HeldBatches:
    """Batches in memory as a dataloader; a list would be taken apart down to its tensors.

    Args:
        batches: of one loader.
        loader: of the user, in whose place it stands: it has its attributes.
    """

    def __init__(self, batches: Sequence[Any], loader: object) -> None:
        self._batches, self._loader = batches, loader

    def __getattr__(self, name: str) -> Any:
        """Return what the user's loader has: a step may ask for its ``dataset``."""
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(self._loader, name)

    def __iter__(self) -> Iterator[Any]:
        return iter(self._batches)

    def __len__(self) -> int:
        return len(self._batches)


@contextmanager
def quiet(
    trainer: Trainer,
    model: LightningModule,
    callbacks: Sequence[Callback],
    seed: int,
    ranks: Ranks,
    precision: Precision | None = None,
) -> Iterator[None]:
    """Let ``trainer`` validate ``model`` on the CPU in float32, unseen by anybody else.

    For the time of the ``with`` the trainer has only ``callbacks``, no loggers, no profiler, a
    CPU strategy in 32 bits over ``ranks`` and fresh metrics; random numbers start from ``seed``.
    Optimizers and schedulers can be read, and are copies. All of it is put back on every path.

    Args:
        precision: another one than Lightning's own for 32 bits.
    """
    connector = trainer._logger_connector
    before = {
        "callbacks": trainer.callbacks,  # type: ignore[attr-defined]
        "loggers": trainer.loggers,
        "profiler": trainer.profiler,  # type: ignore[attr-defined]
        "should_stop": trainer.should_stop,
        "_last_val_time": getattr(trainer, "_last_val_time", None),
    }
    strategy, stage = trainer.strategy, trainer.state.stage
    data = trainer._data_connector
    selector = data._datahook_selector
    metrics = saved_metrics(trainer)
    loops = trainer.fit_loop.epoch_loop.val_loop, trainer.validate_loop
    modules = [*model.modules(), *held_modules(callbacks)]
    try:
        with seeded(seed), metrics_over(modules, ranks):
            trainer.callbacks = list(callbacks)  # type: ignore[attr-defined]
            trainer.loggers = [of(trainer, DummyLogger)() for _ in trainer.loggers]
            trainer.profiler = of(trainer, PassThroughProfiler)()  # type: ignore[attr-defined]
            trainer._accelerator_connector.strategy = on_cpu(model, strategy, ranks, precision)
            trainer.state.stage = of(trainer, RunningStage).VALIDATING
            data._datahook_selector = of(trainer, _DataHookSelector)(
                model, selector.datamodule if selector else None
            )
            vars(connector).update({key: _empty(key) for key in metrics})
            model.trainer = trainer
            yield
    finally:
        trainer.fit_loop.epoch_loop.val_loop, trainer.validate_loop = loops
        trainer._accelerator_connector.strategy = strategy
        trainer.state.stage = stage
        data._datahook_selector = selector
        for key, value in before.items():
            setattr(trainer, key, value)
        vars(connector).update(metrics)
        model.trainer = None
        model._metric_attributes = None  # by `id`: a copy of the model would not find its own
        model.eval()  # a module's own `on_validation_model_train` may have left another mode


@contextmanager
def read_anew(loader: CombinedLoader) -> Iterator[None]:
    """Let ``loader`` be read, and leave its generators, and the pass that it has made, as found.

    A loop of Lightning's that ends asks for the length of that pass (2.6).
    """
    made, loader._iterator = loader._iterator, None
    try:
        with generators_kept(loader.flattened):
            yield
    finally:
        loader._iterator = made


class Warned:
    """Shows a warning once, however many loops raise it."""

    def __init__(self) -> None:
        self._shown: set[tuple[type[Warning], str]] = set()

    @contextmanager
    def once(self) -> Iterator[None]:
        """Hold the warnings of the ``with`` back, and show the new ones when it ends."""
        caught: list[warnings.WarningMessage] = []
        try:
            with warnings.catch_warnings(record=True) as caught:
                yield
        finally:
            for one in filter(self._is_new, caught):
                warnings.warn_explicit(one.message, one.category, one.filename, one.lineno)

    def _is_new(self, warning: warnings.WarningMessage) -> bool:
        key = (warning.category, str(warning.message))
        known = key in self._shown
        self._shown.add(key)
        return not known


def saved_metrics(trainer: Trainer) -> dict[str, Any]:
    """Return what the trainer's logger connector holds, to be put back."""
    names = ("progress_bar_metrics", "logged_metrics", "callback_metrics")
    held = (*(f"_{name}" for name in names), "_current_fx", "_first_loop_iter")
    return {name: getattr(trainer._logger_connector, name) for name in held}


def _empty(name: str) -> dict[str, Any] | None:
    return {} if name.endswith("_metrics") else None


def run(trainer: Trainer, loop: BorrowedLoop) -> dict[str, float]:
    """Run ``loop`` in place of the trainer's own and return what the module logged.

    Only inside ``quiet``. Loaders and torchmetrics objects are left as they were found.
    """
    loader = loop._combined_loader
    assert loader is not None
    limits = loader._limits
    for module in trainer.lightning_module.modules():
        if isinstance(module, Metric):
            module.reset()
    if trainer.state.fn == TrainerFn.FITTING:
        trainer.fit_loop.epoch_loop.val_loop = loop
    else:
        trainer.validate_loop = loop
    with read_anew(loader):
        try:
            loop.run()
            return {key: float(value) for key, value in trainer.callback_metrics.items()}
        finally:
            loop.teardown()
            loader.limits = limits
