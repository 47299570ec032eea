"""The monitored metric while a pass goes on."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from typing import Any

import numpy as np
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loops.evaluation_loop import _EvaluationLoop
from lightning.pytorch.trainer.connectors.logger_connector.result import _ResultMetric
from torch import Tensor
from torch.utils import _pytree as pytree
from torchmetrics import Metric

from lpot_lightning.data.batches import samples_in
from lpot_lightning.trainer.borrowed_loop import logged_by
from lpot_lightning.trainer.partial_metric import Held, Number, partial_of, updates
from lpot_lightning.tuning.screening import Watch

_LOOKED_AT, _MOST_LEAVES, _DEEPEST = 256, 64, 3


class Running(Callback):
    """Lets a watch look at a pass after each of its batches.

    Args:
        watch: may raise an exception to end the pass.
        loop: of the pass.
        find: returns the name of the metric to watch, ``None`` where what is logged so far does
            not tell.

    Attributes:
        batches: that are done.
        checksum: of all batches so far; ``own`` is that of the last one alone.
    """

    def __init__(self, watch: Watch, loop: _EvaluationLoop, find: Callable[[], str | None]) -> None:
        self._watch, self._loop, self._find = watch, loop, find
        self.batches = self.checksum = self.own = self._updates = 0
        self._samples = 0.0
        self._name: str | None = None

    def on_validation_batch_start(
        self, trainer: Trainer, module: LightningModule, batch: Any, *_: object
    ) -> None:
        """Look at the data, before ``validation_step`` can change them."""
        self.own = checksum(batch, 0)
        self.checksum = zlib.crc32(self.own.to_bytes(4, "big"), self.checksum)

    def on_validation_batch_end(
        self, trainer: Trainer, module: LightningModule, outputs: Any, batch: Any, *_: object
    ) -> None:
        """Look at what was logged."""
        self.batches += 1
        item = self._item()
        found = 0 if item is None else updates(item)
        if found > self._updates:
            self._updates = found
            self._samples += samples_in(batch)
        self._watch(self)

    def partial(self) -> Number | Held | None:
        """Return what the metric has seen, ``None`` before it has seen anything."""
        item = self._item()
        if item is None or not self._updates:
            return None
        assert self._name is not None
        return partial_of(self._name, item, self._samples)

    def metric(self) -> Metric | None:
        """Return the torchmetrics object that is watched; ``None`` for a plain number."""
        item = self._item()
        value = None if item is None or item.is_tensor else item.value
        return value if isinstance(value, Metric) else None

    def _item(self) -> _ResultMetric | None:
        self._name = self._name or self._find()
        return None if self._name is None else logged_by(self._loop).get(self._name)


def checksum(batch: Any, before: int) -> int:
    """Return a checksum of some numbers of each tensor of a batch, and of those before it.

    Of a batch in which there is nothing to look at it is ``before``.
    """
    for leaf in islice(_leaves(batch, _DEEPEST), _MOST_LEAVES):
        before = zlib.crc32(_few(leaf), before)
    return before


def _leaves(value: Any, deepest: int) -> Iterator[Any]:
    """Yield tensors, arrays, numbers and texts, in objects of the user's, too."""
    for leaf in pytree.tree_leaves(value):
        if isinstance(leaf, Tensor):
            if leaf.layout == torch.strided and not _is_odd(leaf):
                yield leaf
        elif isinstance(leaf, np.ndarray | int | float | str | bytes):
            yield leaf
        elif deepest:
            inside = dict(leaf) if isinstance(leaf, Mapping) else getattr(leaf, "__dict__", {})
            yield from _leaves(dict(inside), deepest - 1)


def _few(leaf: Any) -> bytes:
    if isinstance(leaf, np.ndarray):
        few = leaf.reshape(-1) if leaf.flags.c_contiguous else leaf.flat
        return repr(few[:: max(1, leaf.size // _LOOKED_AT)].tolist()).encode()
    if not isinstance(leaf, Tensor):
        return repr(leaf).encode()
    leaf, step = leaf.detach(), max(1, leaf.numel() // _LOOKED_AT)
    if leaf.is_contiguous():
        few = leaf.reshape(-1)[::step]
    else:  # to bring the whole of it in a row takes longer than many a step
        places = torch.arange(0, leaf.numel(), step, device=leaf.device)
        few = leaf[torch.unravel_index(places, leaf.shape)]
    plain = few.resolve_conj().resolve_neg().cpu().contiguous()
    return bytes(plain.view(torch.uint8).numpy())


def _is_odd(tensor: Tensor) -> bool:
    return tensor.is_quantized or tensor.is_nested or tensor.is_meta
