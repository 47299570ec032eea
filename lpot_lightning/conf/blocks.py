"""The parts that several sections of LPOT's YAML share, and how a field says what is allowed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

T = TypeVar("T")

ANY = "(-inf, inf)"
COUNT = "[1, inf)"
NOT_NEGATIVE = "[0, inf)"


def checked(default: T, **allowed: Any) -> T:
    """Return a field with its default and what ``Field.integer``, ``number`` or ``text`` allows."""
    return field(default=default, metadata={"allowed": allowed})


def one_word_of(*allowed: str) -> str:
    """Return a field that holds one of these texts; the first is its default."""
    return checked(allowed[0], allowed=allowed)


@dataclass(frozen=True, eq=False)
class FrozenOptions(Mapping[str, Any]):
    """The options of a dataset, transform, metric or pruner: a mapping that never changes."""

    pairs: tuple[tuple[str, Any], ...] = ()

    def __getitem__(self, key: str) -> Any:
        return dict(self.pairs)[key]

    def __iter__(self) -> Iterator[str]:
        return iter(dict(self.pairs))

    def __len__(self) -> int:
        return len(self.pairs)

    def __hash__(self) -> int:
        return hash(frozenset(self.pairs))


@dataclass(frozen=True)
class NamedConf:
    """Something that LPOT calls by name, such as a dataset or a metric, with its options."""

    name: str
    options: FrozenOptions = FrozenOptions()


@dataclass(frozen=True, kw_only=True)
class DataloaderConf:
    """A ``dataloader`` block: which data, and how they are prepared."""

    dataset: NamedConf
    batch_size: int = checked(1, interval=COUNT)
    last_batch: str = one_word_of("rollover", "discard")
    shuffle: bool = False
    filter: NamedConf | None = None
    transform: tuple[NamedConf, ...] = ()


@dataclass(frozen=True, kw_only=True)
class TrainConf:
    """A ``train`` block: LPOT's own training loop. Under the callbacks Lightning owns all of it."""

    optimizer: NamedConf | None = None
    criterion: NamedConf | None = None
    dataloader: DataloaderConf | None = None
    start_epoch: int = checked(0, interval=NOT_NEGATIVE)
    end_epoch: int | None = checked(None, interval=NOT_NEGATIVE)
    iteration: int | None = checked(None, interval=COUNT)
    frequency: int | None = checked(None, interval=COUNT)
    hostfile: str | None = None


@dataclass(frozen=True, kw_only=True)
class TensorConf:
    """What may be chosen for one tensor, in the user's order; ``None`` leaves it open.

    The names are those of ``TensorConfig``; ``quant_mode`` is of activations, ``group_size`` of
    weights.
    """

    dtype: tuple[str, ...] | None = None
    scheme: tuple[str, ...] | None = None
    granularity: tuple[str, ...] | None = None
    algorithm: tuple[str, ...] | None = None
    quant_mode: tuple[str, ...] | None = None
    group_size: tuple[int, ...] | None = None


@dataclass(frozen=True)
class PrecisionWish:
    """What may be chosen for the weight and the activation of an op."""

    weight: TensorConf = TensorConf()
    activation: TensorConf = TensorConf()


@dataclass(frozen=True, kw_only=True)
class ConfigsConf:
    """A ``configs`` block: how many processes and threads a measurement takes."""

    cores_per_instance: int | None = checked(None, interval=COUNT)
    num_of_instance: int = checked(1, interval=COUNT)
    inter_num_of_threads: int | None = checked(None, interval=COUNT)
    intra_num_of_threads: int | None = checked(None, interval=COUNT)
    kmp_blocktime: int | None = checked(None, interval=NOT_NEGATIVE)
    kmp_affinity: str = "granularity=fine,verbose,compact,1,0"


@dataclass(frozen=True)
class PostprocessConf:
    """A ``postprocess`` block: what is done to outputs and labels before the metric."""

    transform: tuple[NamedConf, ...] = ()
