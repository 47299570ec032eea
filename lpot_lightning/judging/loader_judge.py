"""A loader and a metric as the function that judges models."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn
from torch.utils import _pytree as pytree

from lpot_lightning.data.batches import Call, goes_once, labelled
from lpot_lightning.data.meter import Measuring, Meter
from lpot_lightning.data.postprocess import Process
from lpot_lightning.errors import ConfError, DataError, EvaluationError, LpotError, in_short
from lpot_lightning.machine.random_numbers import generators_kept, seeded
from lpot_lightning.module.fingerprint import content_hash
from lpot_lightning.module.untouched import at_rest

ALL = -1


class LoaderJudge:
    """Judges a model by one pass over a loader, and is called as an ``eval_func`` is.

    The model is in eval mode meanwhile, without gradients, and on the CPU; modes and random
    numbers are put back. Each pass draws the same ones, so that loaders that shuffle give the same
    order.

    Args:
        loader: gives batches ``(input, label)``; can be gone through more than once.
        meter: measures.
        origin: where the batches come from, for people.
        iteration: how many batches at most; ``-1`` is all.
        postprocess: what is done to ``(output, label)`` first, in this order.
        reference: gives the fp32 model whose outputs stand for labels, for a metric that compares
            no labels.
        seed: of random numbers.

    Raises:
        ConfError: if the loader can be gone through once only, or there is no ``reference`` where
            one is needed.

    Example::

        judge = LoaderJudge(loader, METRICS["topk"](k=1), origin="`eval_dataloader`", seed=1978)
        judge(model)  # such as 0.76
    """

    def __init__(
        self,
        loader: Iterable[Any],
        meter: Meter,
        *,
        origin: str,
        iteration: int = ALL,
        postprocess: Sequence[Process] = (),
        reference: Callable[[], nn.Module] | None = None,
        seed: int,
    ) -> None:
        if goes_once(loader):
            raise ConfError(
                f"{origin} is a `{type(loader).__name__}`, which can be gone through once, and each"
                " model is judged by a pass over it; allowed: a `DataLoader`, or a list of batches"
            )
        if not meter.compare_label and reference is None:
            raise ConfError(
                f"`{meter.name}` compares with what the fp32 model gives, and there is no such"
                " model here; set `compare_label: true`, and give labels"
            )
        self.meter, self.origin = meter, origin
        self._loader, self._iteration, self._postprocess = loader, iteration, postprocess
        self._reference, self._seed = reference, seed
        self._expected: list[tuple[str, Any]] | None = None
        self._digest: str | None = None

    @property
    def name(self) -> str:
        """How it is called in messages."""
        return f"the metric `{self.meter.name}`"

    @property
    def digest(self) -> str:
        """What the first pass has seen, and by what it judged, in short; ``""`` before."""
        return self._digest or ""

    def __call__(self, model: nn.Module) -> float:
        """Return what the metric comes to for ``model``.

        Raises:
            DataError: if the data cannot be read, or have no labels.
            EvaluationError: if the first model cannot take a batch, or the metric cannot take what
                it gives.
            Exception: what a later model raises, for which it may be one that does not work.
        """
        with seeded(self._seed), generators_kept([self._loader]):
            if self._reference is not None and not self.meter.compare_label and not self._expected:
                self._expected = list(self._outputs_of(self._reference()))
        with seeded(self._seed), generators_kept([self._loader]):
            return self._judged(model)

    def _judged(self, model: nn.Module) -> float:
        measuring, digest, seen = self.meter.fresh(), hashlib.sha256(), 0
        for number, (call, label) in enumerate(self._batches()):
            if self._digest is None:
                digest.update(content_hash([tuple(call), label]).encode())
            with at_rest(model), self._told(number):
                self._measure(measuring, number, call, call.of(model), label)
            seen = number + 1
        if not seen:
            raise DataError(f"{self.origin} is empty: there is no batch to judge by")
        with self._told(seen - 1):
            value = number_of(measuring.result(), self.name)
        if self._digest is None:
            self._digest = content_hash([digest.hexdigest(), repr(self.meter.identity)])
        return value

    def _measure(
        self, measuring: Measuring, number: int, call: Call, output: Any, label: Any
    ) -> None:
        if self._expected is not None:
            seen, label = self._expected[number]
            if seen != content_hash(tuple(call)):
                raise DataError(
                    f"{self.origin} gives other batches in each pass, and"
                    f" `{self.meter.name}` compares them with those of the fp32 model: let it give"
                    " the same ones, in the same order"
                )
        elif label is None:
            raise DataError(
                f"a batch of {self.origin} has no label; allowed: `(input, label)`, or a dict with"
                " `labels`; without labels, `MSE: {compare_label: false}` compares with the fp32"
                " model"
            )
        for process in self._postprocess:
            output, label = process(output, label)
        measuring.update(output, label)

    def _batches(self) -> Iterator[tuple[Call, Any]]:
        most = None if self._iteration == ALL else self._iteration
        return labelled(self._loader, origin=self.origin, most=most)

    def _outputs_of(self, model: nn.Module) -> Iterator[tuple[str, Any]]:
        for number, (call, _) in enumerate(self._batches()):
            with at_rest(model), self._told(number):
                output = call.of(model)
            held = pytree.tree_map_only(Tensor, lambda one: one.detach().clone(), output)
            yield content_hash(tuple(call)), held

    @contextmanager
    def _told(self, number: int) -> Iterator[None]:
        """Say what goes wrong with the first model; later it is for the search to say."""
        try:
            yield
        except LpotError:
            raise
        except Exception as error:
            if self._digest is not None:
                raise
            where = f"batch {number + 1} of {self.origin}"
            raise EvaluationError(
                f"{self.name} cannot be taken of {where} ({in_short(error, 400)}); the model is"
                " called with the input of `(input, label)`, a tuple one by one, a dict by name,"
                " and the metric with what it gives and the label"
            ) from error


def number_of(value: Any, giver: str) -> float:
    """Return an accuracy as a number.

    Args:
        value: a number, or a tensor or array of one.
        giver: who gave it, for people.

    Raises:
        EvaluationError: if it is none.
    """
    try:
        if not isinstance(value, str | bytes | bool):
            return float(value)
    except (TypeError, ValueError, RuntimeError):
        pass
    raise EvaluationError(
        f"{giver} returned a `{type(value).__name__}`; allowed: one number, the accuracy"
    )
