"""Which batches the observers see."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from typing import Any, Literal

from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.utilities import CombinedLoader
from lightning.pytorch.utilities.data import _update_dataloader, extract_batch_size
from torch import Tensor
from torch.utils import _pytree as pytree
from torch.utils.data import (
    DataLoader,
    DistributedSampler,
    RandomSampler,
    SequentialSampler,
    SubsetRandomSampler,
)

from lpot_lightning.callbacks.quiet import generators_kept
from lpot_lightning.errors import DataError, in_short

Source = Literal["train", "val"]
HOOK = "calib_dataloader"
VALIDATION = "the validation data"


@dataclass(frozen=True)
class CalibrationData:
    """Batches held in memory, one list a validation dataloader of the user.

    Args:
        batches: where ``validation_step`` takes a ``dataloader_idx`` and the data is not its own,
            all of them come under index 0.
        samples: how many samples they hold.
        origin: where they come from, for people.
    """

    batches: tuple[tuple[Any, ...], ...]
    samples: int
    origin: str


def collect_hook(trainer: Trainer, module: LightningModule, size: int) -> CalibrationData | None:
    """Take ``size`` samples from ``calib_dataloader()`` of datamodule or module, if there is one.

    Raises:
        DataError: if it gives nothing.
    """
    for owner in (trainer.datamodule, module):  # type: ignore[attr-defined]
        hook = getattr(owner, HOOK, None)
        if callable(hook):
            origin = f"`{type(owner).__name__}.{HOOK}()`"
            return _collect(_combined(hook()), size, origin, trainer)
    return None


def collect_train(trainer: Trainer, given: Any, size: int) -> CalibrationData | None:
    """Take ``size`` samples of the training data, unshuffled; ``None`` if there is none.

    There is none, too, in a generator that the training has read to its end.

    The loaders are the ``given`` ones, else those of the fit, else newly asked for.

    A ``CombinedLoader``, or a collection of loaders, gives its combined batches; an iterable
    dataset gives what comes first.
    """
    loader, source = trainer.fit_loop._combined_loader, trainer.fit_loop._data_source
    if given is not None:
        loader = _combined(given, mode="max_size_cycle")
    elif loader is None:
        if not source.is_defined():
            return None
        loader = _combined(source.dataloader(), mode="max_size_cycle")
    try:
        return _collect(_unshuffled(loader), size, "the training data", trainer)
    except DataError as error:
        read_before = any(isinstance(one, Iterator) for one in loader.flattened)
        if error.__cause__ is None and read_before:  # empty, and not failing
            return None
        raise


def collect_val(loader: CombinedLoader, size: int) -> CalibrationData:
    """Take ``size`` samples of the validation data, an equal share from each loader."""
    share = math.ceil(size / max(1, len(loader.flattened)))
    with _given_back(loader):
        taken = [_take(one, share, VALIDATION) for one in loader.flattened]
    return _checked(
        tuple(tuple(batches) for batches, _ in taken),
        sum(samples for _, samples in taken),
        VALIDATION,
    )


def padded(data: CalibrationData, loaders: int) -> CalibrationData:
    """Return ``data`` with as many lists as the user has validation loaders."""
    missing = max(0, loaders - len(data.batches))
    return CalibrationData(data.batches + ((),) * missing, data.samples, data.origin)


def shortened(batch: Any, most: int = 32) -> Any:
    """Return the first samples of ``batch`` where its tensors all hold as many, else all of it.

    Single ops are tried on it with every activation kept: 256 large images would not fit.
    """
    leaves, tree = pytree.tree_flatten(batch)
    sizes = {len(leaf) if isinstance(leaf, Tensor) and leaf.dim() else -1 for leaf in leaves}
    if len(sizes) != 1 or -1 in sizes:
        return batch
    return pytree.tree_unflatten([leaf[:most] for leaf in leaves], tree)


def _collect(loader: CombinedLoader, size: int, origin: str, trainer: Trainer) -> CalibrationData:
    limit = int(trainer.limit_train_batches) if trainer.fast_dev_run else None  # type: ignore[attr-defined]
    with _given_back(loader):  # not by `loader.limits`: a cycle does not obey them
        all_batches = (batch for batch, _, _ in loader)
        batches, samples = _take(islice(all_batches, limit), size, origin)
    return _checked((tuple(batches),), samples, origin)


@contextmanager
def _given_back(loader: CombinedLoader) -> Iterator[None]:
    """End workers, and leave generators as they were found."""
    with generators_kept(loader.flattened):
        try:
            yield
        finally:
            loader.reset()


def _checked(batches: tuple[tuple[Any, ...], ...], samples: int, origin: str) -> CalibrationData:
    if samples == 0:
        raise DataError(f"{origin} has no batch to calibrate on")
    return CalibrationData(batches, samples, origin)


def _take(batches: Iterable[Any], size: int, origin: str) -> tuple[list[Any], int]:
    """Take whole batches until they hold ``size`` samples; a generator is closed after that."""
    taken: list[Any] = []
    samples = 0
    try:
        for batch in batches:
            taken.append(batch)
            samples += _samples_in(batch)
            if samples >= size:
                break
    except Exception as error:  # the user's dataset may raise whatever it likes
        raise DataError(
            f"{origin} cannot be read after {len(taken)} batches ({in_short(error)}); repair it,"
            " or give calibration data of its own by a `calib_dataloader()`"
        ) from error
    return taken, samples


def _samples_in(batch: Any) -> int:
    try:
        return extract_batch_size(batch)
    except (MisconfigurationException, RecursionError):
        return 1  # no tensor to count by


def _combined(
    loaders: Any, mode: Literal["sequential", "max_size_cycle"] = "sequential"
) -> CombinedLoader:
    return loaders if isinstance(loaders, CombinedLoader) else CombinedLoader(loaders, mode)


def _unshuffled(loader: CombinedLoader) -> CombinedLoader:
    """Return the same loaders in the order of their datasets: qparams depend on the order."""
    plain = CombinedLoader(loader.iterables, loader._mode)
    plain.flattened = [_in_order(one) for one in loader.flattened]
    return plain


def _in_order(loader: Any) -> Any:
    if not isinstance(loader, DataLoader):
        return loader
    sampler: Any = loader.sampler
    if isinstance(sampler, RandomSampler):
        sampler = SequentialSampler(loader.dataset)  # type: ignore[arg-type]
    elif type(sampler) is DistributedSampler:
        sampler = DistributedSampler(
            sampler.dataset, sampler.num_replicas, sampler.rank, shuffle=False
        )
    elif isinstance(sampler, SubsetRandomSampler):
        sampler = sampler.indices
    else:
        return loader
    try:
        return _update_dataloader(loader, sampler)
    except MisconfigurationException:
        return loader  # a class of the user's that cannot be made again: shuffled, by our seed
