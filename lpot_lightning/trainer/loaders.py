"""How loaders are read: in the order of their datasets, each process its share."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Literal

from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import Trainer
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities import CombinedLoader
from lightning.pytorch.utilities.data import _update_dataloader, extract_batch_size
from torch.utils.data import (
    DataLoader,
    DistributedSampler,
    RandomSampler,
    SequentialSampler,
    SubsetRandomSampler,
)

from lpot_lightning.errors import DataError, in_short
from lpot_lightning.machine.ranks import Ranks
from lpot_lightning.trainer.borrowed_loop import read_anew
from lpot_lightning.trainer.package import either, of


def validated_on(trainer: Trainer) -> Any:
    """Return what gives the validation data of a run: loaders, a datamodule, or the module."""
    fits = trainer.state.fn == TrainerFn.FITTING
    loop = trainer.fit_loop.epoch_loop.val_loop if fits else trainer.validate_loop
    return loop._data_source.instance


@contextmanager
def given_back(loader: CombinedLoader) -> Iterator[None]:
    """End workers, and leave generators as they were found."""
    with read_anew(loader):
        try:
            yield
        finally:
            loader.reset()


def share(batches: Iterable[Any], loaders: Iterable[Any], ranks: Ranks) -> Iterator[Any]:
    """Return those of the ``batches`` of ``loaders`` that are for this process.

    Lightning gives each process samples of its own only where it made the sampler of the loader.
    Of other loaders each process takes every second, third, … batch; where there are fewer batches
    than processes, some take the first one, too.
    """
    samplers = (getattr(one, "sampler", None) for one in loaders)
    if ranks.size == 1 or any(isinstance(one, DistributedSampler) for one in samplers):
        return iter(batches)
    return _every(batches, ranks)


def _every(batches: Iterable[Any], ranks: Ranks) -> Iterator[Any]:
    first: list[Any] = []
    given = False
    for number, batch in enumerate(batches):
        first = first or [batch]
        if number % ranks.size == ranks.rank:
            given = True
            yield batch
    if not given:
        yield from first


def take(batches: Iterable[Any], size: int, origin: str) -> tuple[list[Any], int]:
    """Take whole batches until they hold ``size`` samples; a generator is closed after that.

    Raises:
        DataError: if the data raises something; ``origin`` says where it comes from.
    """
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


def combined(
    loaders: Any, mode: Literal["sequential", "max_size_cycle"] = "sequential"
) -> CombinedLoader:
    """Return what the user gave as loaders as one of Lightning's."""
    return loaders if isinstance(loaders, either(CombinedLoader)) else CombinedLoader(loaders, mode)


def unshuffled(loader: CombinedLoader) -> CombinedLoader:
    """Return the same loaders in the order of their datasets: qparams depend on the order."""
    plain = of(loader, CombinedLoader)(loader.iterables, loader._mode)
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
