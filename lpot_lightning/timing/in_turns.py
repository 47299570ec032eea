"""Models called in turns, and the seconds of each call."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from lpot_lightning.artifacts.restore import load
from lpot_lightning.artifacts.storage import CONFIGURE, WEIGHTS
from lpot_lightning.data.batches import Call, cannot_take, samples_in
from lpot_lightning.errors import BenchmarkError, ExportError, LpotError, in_short
from lpot_lightning.machine.random_numbers import seeded
from lpot_lightning.machine.signals import check
from lpot_lightning.module.untouched import as_before_on_error, at_rest
from lpot_lightning.timing.percentiles import Timed

Measure = Callable[[nn.Module], Any]
Step = Callable[[int], float]


@dataclass(frozen=True, kw_only=True)
class Work:
    """What is timed, in this process or in others; all of it can be sent there.

    Args:
        model: what is timed; a folder stands for the int8 model in it.
        fp32: what it is compared with, if anything; a folder needs it.
        files: what else takes its turn: files, as models.
        calls: what the models are called with, again and again; empty where there is a ``func``.
        func: the user's own measured function.
        warmup: calls of each model that are not timed.
        iterations: calls of each model that are.
        seed: of random numbers.
        origin: where the calls come from, for people.
    """

    model: nn.Module | Path
    fp32: nn.Module | None
    files: tuple[nn.Module, ...] = ()
    calls: tuple[Call, ...]
    func: Measure | None
    warmup: int
    iterations: int
    seed: int
    origin: str = "the dataloader"

    def models(self) -> list[nn.Module]:
        """Return the model, fp32 where there is one, the files; int8 comes from its folder.

        Raises:
            ArtifactError: if that cannot be restored.
        """
        compared = [] if self.fp32 is None else [self.fp32]
        return [self._model(), *compared, *self.files]

    def _model(self) -> nn.Module:
        if isinstance(self.model, nn.Module):
            return self.model
        assert self.fp32 is not None
        return load(self.model / CONFIGURE, self.model / WEIGHTS, self.fp32)


@dataclass(frozen=True)
class Timings:
    """What one process found: for each model its calls, and the accuracy that ``func`` gave."""

    timed: tuple[Timed, ...]
    accuracies: tuple[float | None, ...]


def find(work: Work, gate: Callable[[], object] = lambda: None) -> Timings:
    """Time the models of ``work``: warm up, then call them in turns.

    Each call of one is followed by a call of the others, so that what the machine does besides
    falls on all; who begins changes each time. Modes of the models and random numbers are as
    before afterwards; where something fails, attributes of the models too.

    Args:
        work: what to do.
        gate: lets all processes through at once: before the first measured call, and before each
            one where two models are compared.

    Raises:
        DataError: if a model cannot take a batch.
        ExportError: if a file cannot.
        BenchmarkError: if ``func`` fails.
    """
    models = work.models()
    with seeded(work.seed), ExitStack() as stack:
        stack.callback(check)
        for model in models:
            stack.enter_context(at_rest(model))
            stack.enter_context(as_before_on_error(model))
        steps = [_Function(work.func, one) if work.func else _Calls(work, one) for one in models]
        for step in steps:
            step.try_out()
            check()
        seconds = in_turns(steps, work.warmup, work.iterations, gate)
        timed = (
            Timed(tuple(found), tuple(map(step.samples, range(work.iterations))))
            for step, found in zip(steps, seconds, strict=True)
        )
        return Timings(tuple(timed), tuple(step.accuracy for step in steps))


def in_turns(
    steps: Sequence[Step],
    warmup: int,
    iterations: int,
    gate: Callable[[], object] = lambda: None,
) -> list[list[float]]:
    """Return the seconds of each step, in each of so many iterations.

    Args:
        steps: each takes the number of an iteration and returns how long it took.
        warmup: iterations before, whose seconds do not count.
        iterations: those that do.
        gate: as for ``find``.
    """
    for number in range(warmup):
        for step in steps:
            step(number)
        check()
    found: list[list[float]] = [[] for _ in steps]
    for number in range(iterations):
        order = list(range(len(steps)))
        for index in order if number % 2 == 0 else reversed(order):
            if number == 0 or len(steps) > 1:
                gate()
            found[index].append(steps[index](number))
        check()
    return found


class _Calls:
    """A model, called with one batch after the other."""

    accuracy = None

    def __init__(self, work: Work, model: nn.Module) -> None:
        self._calls, self._model, self._origin = work.calls, model, work.origin

    def __call__(self, number: int) -> float:
        args, kwargs = self._calls[number % len(self._calls)]
        started = perf_counter()
        self._model(*args, **kwargs)
        return perf_counter() - started

    def samples(self, number: int) -> int:
        return samples_in(self._calls[number % len(self._calls)])

    def try_out(self) -> None:
        try:
            self(0)
        except ExportError:
            raise
        except Exception as error:  # whatever the user's model says to its data
            raise cannot_take(self._model, self._origin, error, _way_out(self._model)) from error


def _way_out(model: nn.Module) -> str:
    """Return what times a LightningModule with batches of any form; ``""`` for other modules."""
    if not hasattr(model, "validation_step"):
        return ""
    return "; `BenchmarkCallback` times `validation_step`, which takes a batch as it is"


class _Function:
    """A function of the user's, called with a model."""

    def __init__(self, func: Measure, model: nn.Module) -> None:
        self._func, self._model, self._seen = func, model, 0
        self.accuracy: float | None = None

    def __call__(self, number: int) -> float:
        started = perf_counter()
        self._func(self._model)
        return perf_counter() - started

    def samples(self, number: int) -> int:
        return self._seen

    def try_out(self) -> None:
        """Call the function once, count the samples that it shows the model, and keep a number."""
        handle = self._model.register_forward_pre_hook(self._count, with_kwargs=True)
        try:
            self.accuracy = number_or_none(self._func(self._model))
        except LpotError:
            raise
        except Exception as error:
            raise BenchmarkError(
                f"`b_func` fails with `{type(self._model).__name__}` ({in_short(error)}); it is"
                " called with the model alone, in eval mode, and brings its own data"
            ) from error
        finally:
            handle.remove()

    def _count(self, _: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self._seen += samples_in((args, kwargs))


def number_or_none(value: Any) -> float | None:
    """Return what a ``b_func`` gave, where that is a number or a tensor of one."""
    if isinstance(value, Tensor) and value.numel() == 1:
        return float(value)
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if number else None


def to_cpu(call: Call) -> Call:
    """Return the call with its tensors on the CPU."""
    return Call(*pytree.tree_map_only(Tensor, lambda one: one.detach().cpu(), tuple(call)))


@contextmanager
def threads(count: int | None) -> Iterator[None]:
    """Let torch compute with so many threads; with those of before, afterwards."""
    before = torch.get_num_threads()
    try:
        if count is not None:
            torch.set_num_threads(count)
        yield
    finally:
        torch.set_num_threads(before)
