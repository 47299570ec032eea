"""Passes over batches by the user's ``validation_step``, unseen by anybody else."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from statistics import median
from time import perf_counter
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.plugins.precision import Precision
from lightning.pytorch.utilities import CombinedLoader
from torch import nn
from torchmetrics import Metric

from lpot_lightning.machine.ranks import Ranks
from lpot_lightning.machine.signals import check
from lpot_lightning.module.stand_in import HELD
from lpot_lightning.module.untouched import as_before_but, as_before_on_error
from lpot_lightning.trainer.borrowed_loop import (
    BorrowedLoop,
    RepeatingLoop,
    ShowingLoop,
    Warned,
    held,
    quiet,
    run,
)
from lpot_lightning.trainer.package import either
from lpot_lightning.trainer.shown.progress import Bar, Progress

_OF = ("forward", "update", "compute")
"""What is called of a metric."""


class Passes:
    """Lends a trainer's validation loop to models, quietly; everything is given back.

    Args:
        trainer: in a hook of a fit, or inside ``validate``.
        ranks: the processes that do the same; what one of them fails at fails in all.
        seed: of random numbers, in each pass the same.
        precision: always 32 bits.
        say: takes what the user should know.
    """

    def __init__(
        self,
        trainer: Trainer,
        ranks: Ranks,
        seed: int,
        precision: Precision,
        say: Callable[[str], None],
    ) -> None:
        self.trainer, self.ranks, self.seed = trainer, ranks, seed
        self.precision, self.say = precision, say
        self._progress, self._warned = Progress(trainer), Warned()

    def bar(self, label: str, batches: float) -> AbstractContextManager[Bar]:
        """Show a bar over ``batches`` batches, gone when the ``with`` ends."""
        return self._progress.over(label, batches)

    def run(
        self, model: nn.Module, loop: BorrowedLoop, callbacks: Sequence[Callback]
    ) -> dict[str, float]:
        """Let ``model`` go through ``loop``, and return what it logged.

        A pass that does not reach its end leaves the attributes of ``model`` as they were.
        """
        assert isinstance(model, either(LightningModule))

        def quietly() -> dict[str, float]:
            try:
                with (
                    quiet(self.trainer, model, callbacks, self.seed, self.ranks, self.precision),
                    as_before_on_error(model),
                ):
                    return run(self.trainer, loop)
            finally:
                check()

        with self._warned.once():
            return self.ranks.together(quietly)

    def show(
        self,
        model: nn.Module,
        batches: Sequence[Sequence[Any]],
        user: CombinedLoader,
        callbacks: Sequence[Callback] = (),
        kind: type[ShowingLoop] = ShowingLoop,
    ) -> None:
        """Show ``model`` batches, one list a validation loader of the ``user``.

        Attributes of the user's modules are as they were afterwards: what a step has gathered is
        for the end of an epoch, which does not come.
        """
        with self._warned.once():  # Lightning 2.6 on torch 2.13 warns of loaders
            loop = kind(self.trainer, held(batches, user), [len(one) for one in batches])
        with as_before_but(model, HELD):
            self.run(model, loop, callbacks)

    def step_seconds(
        self, model: nn.Module, first: Sequence[Sequence[Any]], user: CombinedLoader, runs: int
    ) -> list[float]:
        """Return the seconds of the forward work of the step on the ``first`` batch, each run's.

        Many runs in one pass take less time than as many passes: the loop around a step may take
        longer than the step.

        It is ``validation_step`` without what it logs, and without torchmetrics.
        """
        clock = StopWatch()
        with clock.only_forward(model):
            repeated = [list(one) * runs for one in first]
            self.show(model, repeated, user, clock.around([]), RepeatingLoop)
        return self.ranks.agreed(clock.seconds)


class StopWatch:
    """Collects the seconds of each ``validation_step``.

    Example::

        watch = StopWatch()
        trainer = Trainer(callbacks=watch.around([]))
        trainer.validate(model, datamodule=data)
        watch.median
    """

    def __init__(self) -> None:
        self._started = self._aside = 0.0
        self.seconds: list[float] = []
        self._is_aside = False

    @property
    def median(self) -> float:
        """The median of all steps, 0 if there was none."""
        return median(self.seconds) if self.seconds else 0.0

    def around(self, callbacks: Sequence[Callback]) -> list[Callback]:
        """Return ``callbacks`` with those before and after them that start and stop the watch."""
        return [_Stops(self), *callbacks, _Starts(self)]

    def start(self) -> None:
        """A step begins."""
        self._started, self._aside = perf_counter(), 0.0

    def stop(self) -> None:
        """The step is done."""
        self.seconds.append(perf_counter() - self._started - self._aside)

    @contextmanager
    def only_forward(self, model: nn.Module) -> Iterator[None]:
        """Let what ``model`` logs, and its torchmetrics objects, not count.

        They take the same time whatever the precision of the model is: of a step of a small net it
        may be most.
        """
        metrics = [
            (one, name) for one in model.modules() if isinstance(one, Metric) for name in _OF
        ]
        own = [(one, vars(one), name) for one, name in [*metrics, (model, "log")]]
        before = [(held, name, held.get(name)) for _, held, name in own]
        try:
            for one, held, name in own:
                held[name] = self._not_counted(getattr(one, name))
            yield
        finally:
            for held, name, value in before:
                held[name] = value
                if value is None:
                    del held[name]

    def _not_counted(self, work: Callable[..., Any]) -> Callable[..., Any]:
        def aside(*args: Any, **kwargs: Any) -> Any:
            if self._is_aside:  # a metric calls itself
                return work(*args, **kwargs)
            self._is_aside, started = True, perf_counter()
            try:
                return work(*args, **kwargs)
            finally:
                self._aside += perf_counter() - started
                self._is_aside = False

        return _uncaptured(aside)


def _uncaptured(call: Callable[..., Any]) -> Callable[..., Any]:
    """Keep a call from Dynamo, which captures int8 models meanwhile, and warns of a clock."""
    if "torch._dynamo" not in sys.modules:  # it takes seconds to import, and is at work nowhere
        return call
    kept: Callable[..., Any] = torch.compiler.disable(call)  # type: ignore[no-untyped-call]
    return kept


class _Starts(Callback):
    """The last to hear that a batch is there."""

    def __init__(self, watch: StopWatch) -> None:
        self._watch = watch

    def on_validation_batch_start(self, *_: object, **__: object) -> None:
        self._watch.start()


class _Stops(Callback):
    """The first to hear that a batch is done."""

    def __init__(self, watch: StopWatch) -> None:
        self._watch = watch

    def on_validation_batch_end(self, *_: object, **__: object) -> None:
        self._watch.stop()
