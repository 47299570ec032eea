"""A `dataloader` block of the YAML as a loader."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from torch.utils.data import DataLoader

from lpot_lightning.conf.blocks import DataloaderConf, NamedConf
from lpot_lightning.conf.buildable import check_built
from lpot_lightning.conf.dataloader import OTHER_DATASETS, OTHER_TRANSFORMS
from lpot_lightning.data.datasets import DATASETS
from lpot_lightning.data.dummy import WITHOUT_FILES
from lpot_lightning.data.filters import FILTERS
from lpot_lightning.data.images import Transform
from lpot_lightning.data.loader import dataloader_of
from lpot_lightning.data.source import Endless, Samples
from lpot_lightning.data.transforms import TRANSFORMS
from lpot_lightning.errors import ConfError, DataError

_LOG = logging.getLogger(__name__)
T = TypeVar("T")

ENDLESS = 10
"""Batches of `dummy_v2` that stand for all of them, as in LPOT."""


def loader_of(block: DataloaderConf, where: str) -> DataLoader[Any]:
    """Return the loader that a block asks for; files are looked up, and none is downloaded.

    Args:
        block: of the conf.
        where: file and key of the block, for errors.

    Raises:
        ConfError: if an option does not fit, something is for other frameworks than PyTorch, or
            Pillow is not installed.
        NotYetError: if the data set is not built yet.
        DataError: if a file is missing or damaged.

    Example::

        loader_of(conf.evaluation.accuracy.dataloader, "q.yaml: `evaluation.accuracy.dataloader`")
    """
    check_block(block, where)
    source = _named(block.dataset, DATASETS, f"{where}, `dataset`")
    transforms = _transforms(block, where)
    if transforms and not source.images:
        _LOG.warning(
            "%s: `transform` has no effect on `%s`, which gives no images", where, source.name
        )
        transforms = []
    keep = _named(block.filter, FILTERS, f"{where}, `filter`") if block.filter else None
    try:
        dataset: Any = (
            Endless(source, keep) if source.count is None else Samples(source, transforms, keep)
        )
        return dataloader_of(
            dataset, block.batch_size, last_batch=block.last_batch, shuffle=block.shuffle
        )
    except DataError as error:
        raise DataError(f"{where}: {error}") from error


def check_block(block: DataloaderConf, where: str) -> None:
    """Check all of a block that can be checked without looking for its files.

    Raises:
        ConfError: if an option does not fit, or something is for other frameworks than PyTorch.
        NotYetError: if the data set is not built yet.
    """
    check_built(block.dataset, OTHER_DATASETS, where)
    if block.dataset.name in WITHOUT_FILES:
        _named(block.dataset, WITHOUT_FILES, f"{where}, `dataset`")
    _transforms(block, where)
    if is_endless(block) and block.shuffle:
        name = block.dataset.name
        raise ConfError(f"{where}: `shuffle` needs an end, and `{name}` has none: leave it")


def _transforms(block: DataloaderConf, where: str) -> list[Transform]:
    where = f"{where}, `transform`"
    for one in block.transform:
        check_built(one, OTHER_TRANSFORMS, where)
    return [_named(one, TRANSFORMS, where) for one in block.transform]


def is_endless(block: DataloaderConf) -> bool:
    """Whether the data set of a block never ends."""
    return block.dataset.name == "dummy_v2"


def _named(named: NamedConf, table: Mapping[str, Callable[..., T]], where: str) -> T:
    try:
        return table[named.name](**named.options)
    except ConfError as error:
        raise ConfError(f"{where}: `{named.name}`: {error}") from error
    except DataError as error:
        raise DataError(f"{where}: {error}") from error
