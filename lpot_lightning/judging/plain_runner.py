"""Plain batches and a function of the user's as what shows models data."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import chain
from time import monotonic, perf_counter
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from lpot_lightning.data.batches import Call, CollectedCalls, cannot_take, few_samples
from lpot_lightning.errors import DataError, EvaluationError, LpotError, in_short
from lpot_lightning.judging.loader_judge import number_of
from lpot_lightning.judging.protocols import Evaluation, Monitor
from lpot_lightning.machine.random_numbers import seeded
from lpot_lightning.machine.signals import check
from lpot_lightning.module.untouched import as_before_on_error
from lpot_lightning.tuning.screening import Watch

ACCURACY = "accuracy"
"""What ``eval_func`` gives."""
_STEPS = 3  # of which the median is the time of a step


class PlainRunner:
    """Judges models by a function, calibrates them on plain batches and times them.

    A pass is one call of the function: nobody can look into it. To try a model out is such a pass,
    too, because the function may call parts of the model past its ``forward``; if the next thing
    is to judge that model, what was found is taken. Random numbers start from the same seed in
    each, and are put back.

    Args:
        fresh: gives a new copy of the model that is to be quantized.
        eval_func: takes a model in eval mode and returns its accuracy.
        data: to calibrate on; without any, what ``eval_func`` shows the model takes its place.
        higher_is_better: direction of the accuracy.
        monitor: how the accuracy is called.
        judge: how ``eval_func`` is called in messages.
        seed: of random numbers.

    Example::

        runner = PlainRunner(lambda: copy.deepcopy(net), eval_func, data, seed=1978)
        runner.evaluate(net, "baseline").accuracy
    """

    def __init__(
        self,
        fresh: Callable[[], nn.Module],
        eval_func: Callable[[nn.Module], Any],
        data: CollectedCalls | None,
        *,
        higher_is_better: bool = True,
        monitor: str = ACCURACY,
        judge: str = "`eval_func`",
        seed: int,
    ) -> None:
        self._is_whole = False
        self._fresh, self._eval_func, self._data, self._seed = fresh, eval_func, data, seed
        self._monitor, self._works = Monitor(monitor, higher_is_better), False
        self._judge = judge
        self._first = data.calls[0] if data is not None else None
        self._judged: tuple[nn.Module, Evaluation] | None = None

    @property
    def batches(self) -> Any:
        """The calibration batches."""
        return () if self._data is None else self._data.calls

    @property
    def samples(self) -> int:
        """How many samples they hold."""
        return 0 if self._data is None else self._data.samples

    def fresh(self) -> nn.Module:
        """Return a new copy of the model that is to be quantized."""
        return self._fresh()

    def try_out(self, model: nn.Module) -> nn.Module:
        """Show ``model`` the first samples of the first batch, and what ``eval_func`` shows it.

        Raises:
            DataError: if the model cannot take them.
            EvaluationError: if there are none and ``eval_func`` fails.
        """
        if self._data is not None:
            model = self._shown(model, self._data.calls[0])
        try:
            with self._first_call_noted(model):
                self._judged = model, self._pass_over(model)
        except Exception:
            if self._data is None:
                raise  # else it may be the watching that it does not bear
        return model

    def _shown(self, model: nn.Module, first: Call) -> nn.Module:
        """Show ``model`` the first batch, whole where the first samples of it are not enough."""
        if not self._is_whole:
            try:
                self._show(model, few_samples(first))
            except DataError:  # a model may depend on how many samples a batch has
                self._is_whole, model = True, self._fresh()
            else:
                return model
        self._show(model, first)
        return model

    def calibrate(self, model: nn.Module) -> None:
        """Show ``model`` all batches there are.

        Raises:
            DataError: if the model cannot take one.
            EvaluationError: if there are none and ``eval_func`` fails.
        """
        if self._first is None:
            self._accuracy_of(model)
        for call in self.batches or filter(None, [self._first]):
            self._show(model, call)

    def seen(self, model: nn.Module) -> None:
        """Nothing is judged but here."""

    def evaluate(self, model: nn.Module, label: str, watch: Watch | None = None) -> Evaluation:
        """Judge ``model`` by one call of ``eval_func``.

        Args:
            model: fp32 or int8.
            label: nobody is shown it.
            watch: is never called.

        Raises:
            EvaluationError: if ``eval_func`` returns no number or moves the model away from the
                CPU; the first time, if it fails.
        """
        judged, self._judged = self._judged, None
        found = judged[1] if judged and judged[0] is model else self._pass_over(model)
        if not self._first:
            return found
        return replace(found, step_seconds=statistics.median(self.step_seconds(model, _STEPS)))

    def _pass_over(self, model: nn.Module) -> Evaluation:
        started = monotonic()
        accuracy = self._accuracy_of(model)
        seconds = monotonic() - started
        return Evaluation(
            accuracy=accuracy,
            monitor=self._monitor,
            batches=1,
            seconds=seconds,
            step_seconds=seconds,
        )

    def step_seconds(self, model: nn.Module, runs: int = 1) -> list[float]:
        """Return the seconds of calls on the first batch, of ``eval_func`` without one."""
        return [self._seconds_of_step(model) for _ in range(runs)]

    def _seconds_of_step(self, model: nn.Module) -> float:
        if self._first is None:
            started = perf_counter()
            self._accuracy_of(model)
            return perf_counter() - started
        with self._at_rest(model):
            started = perf_counter()
            self._first.of(model)
            return perf_counter() - started

    def _accuracy_of(self, model: nn.Module) -> float:
        try:
            with self._at_rest(model):
                accuracy = number_of(self._eval_func(model), self._judge)
        except LpotError:
            raise
        except Exception as error:
            if self._works:
                raise  # whether a trial may fail is for the search to say
            raise EvaluationError(
                f"{self._judge} fails with the fp32 model ({in_short(error)}); it has to work"
                " before another model can be judged by it"
            ) from error
        _check_on_cpu(model, self._judge)
        self._works = True
        return accuracy

    def _show(self, model: nn.Module, call: Call) -> None:
        origin = self._data.origin if self._data is not None else self._judge
        try:
            with self._at_rest(model):
                call.of(model)
        except Exception as error:  # whatever the user's model says to its data
            raise cannot_take(model, origin, error) from error

    @contextmanager
    def _at_rest(self, model: nn.Module) -> Iterator[None]:
        """Keep gradients, modes, attributes and random numbers from what the ``with`` does."""
        model.eval()
        try:
            with seeded(self._seed), torch.no_grad(), as_before_on_error(model):
                yield
        finally:
            model.eval()
            check()

    @contextmanager
    def _first_call_noted(self, model: nn.Module) -> Iterator[None]:
        """Keep what ``model`` is called with first: calls are timed by it."""

        def note(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            if self._first is None:
                self._first = Call(
                    *pytree.tree_map_only(Tensor, lambda one: one.detach().clone(), (args, kwargs))
                )

        handle = model.register_forward_pre_hook(note, with_kwargs=True)
        try:
            yield
        finally:
            handle.remove()


def _check_on_cpu(model: nn.Module, judge: str) -> None:
    for name, value in chain(model.named_parameters(), model.named_buffers()):
        if value.device.type != "cpu":
            raise EvaluationError(
                f"{judge} moved `{name}` to `{value.device}`; int8 runs on the CPU: leave the"
                " model there, and move the data to it"
            )
