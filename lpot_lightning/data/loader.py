"""A data set of the user's in batches, as LPOT's `dataloader` gives them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any

from torch.utils.data import DataLoader, Dataset, IterableDataset, get_worker_info

from lpot_lightning.errors import ConfError, DataError, in_short

LAST_BATCH = ("rollover", "discard")


class Stream(IterableDataset[Any]):
    """A data set that is gone through; several workers share its samples."""

    def __init__(self, dataset: Iterable[Any]) -> None:
        self._dataset = dataset

    def __iter__(self) -> Iterator[Any]:
        worker = get_worker_info()
        if worker is None:
            return iter(self._dataset)
        return islice(self._dataset, worker.id, None, worker.num_workers)


def dataloader_of(
    dataset: Any,
    batch_size: int = 1,
    collate_fn: Any = None,
    last_batch: str = "rollover",
    sampler: Any = None,
    batch_sampler: Any = None,
    num_workers: int = 0,
    pin_memory: bool = False,
    shuffle: bool = False,
) -> DataLoader[Any]:
    """Return a ``DataLoader`` over a data set with ``__getitem__`` or ``__iter__``.

    A data set with both is taken by number.

    Args:
        dataset: has ``__getitem__(index)`` and ``__len__()``, or ``__iter__()``, and gives
            ``(input, label)``.
        batch_size: samples of a batch.
        collate_fn: makes a batch of a list of samples; torch's where it is not given.
        last_batch: ``rollover`` keeps a last batch that is smaller, ``discard`` leaves it out.
        sampler: see ``DataLoader``; so are the others.
        batch_sampler: gives the numbers of each batch; takes the place of ``batch_size``,
            ``shuffle``, ``sampler`` and ``last_batch``.
        num_workers: processes that load; those of ``__iter__`` share its samples.
        pin_memory: for a later copy to a GPU.
        shuffle: whether each pass has another order; in a run, drawn by ``tuning.random_seed``.

    Raises:
        ConfError: if something is of the wrong kind, or two of them do not go together.
        DataError: if the data set is empty.

    Example::

        loader = dataloader_of([(torch.ones(3), 1), (torch.zeros(3), 0)], batch_size=2)
    """
    if isinstance(dataset, DataLoader):
        raise ConfError("`dataset` is a `DataLoader` already: use it as it is")
    if isinstance(batch_size, bool) or not isinstance(batch_size, int) or batch_size < 1:
        raise ConfError(f"`batch_size` is `{batch_size!r}`; allowed: a whole number in [1, inf)")
    if last_batch not in LAST_BATCH:
        raise ConfError(f"`last_batch` is `{last_batch!r}`; allowed: `rollover`, `discard`")
    made = _dataset(dataset)
    streams = isinstance(made, IterableDataset)
    if streams and (shuffle or sampler is not None or batch_sampler is not None):
        raise ConfError(
            f"`{type(dataset).__name__}` has no `__getitem__` and `__len__`, so nobody can choose"
            " its samples; leave `shuffle`, `sampler` and `batch_sampler` out, or write them"
        )
    given: dict[str, Any] = {"batch_size": batch_size, "shuffle": shuffle, "sampler": sampler}
    if batch_sampler is not None:
        given = {**given, "batch_sampler": batch_sampler}
    try:
        return DataLoader(
            made,
            **given,
            drop_last=last_batch == "discard",
            collate_fn=collate_fn,
            num_workers=num_workers,
            pin_memory=pin_memory,
        )
    except Exception as error:  # of torch, about arguments that do not go together
        raise ConfError(f"no `DataLoader` can be made of this ({in_short(error)})") from error


def _dataset(dataset: Any) -> Dataset[Any]:
    if isinstance(dataset, str | bytes | type) or not (
        hasattr(dataset, "__getitem__") or hasattr(dataset, "__iter__")
    ):
        kind = type(dataset).__name__
        raise ConfError(
            f"`dataset` is a `{kind}`; allowed: an object with `__getitem__(index)` and"
            " `__len__()`, or with `__iter__()`, that gives `(input, label)`"
        )
    if isinstance(dataset, IterableDataset):
        return dataset
    if not hasattr(dataset, "__getitem__") or not hasattr(dataset, "__len__"):
        return Stream(dataset)
    if not len(dataset):
        raise DataError(f"`dataset`, a `{type(dataset).__name__}`, is empty: it has no samples")
    made: Dataset[Any] = dataset
    return made
