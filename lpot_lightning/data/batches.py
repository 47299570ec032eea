"""Batches of plain loaders, and how a model is called with them."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from typing import Any, NamedTuple, TypeVar

from torch import Tensor, nn
from torch.utils import _pytree as pytree

from lpot_lightning.errors import DataError, in_short
from lpot_lightning.machine.random_numbers import generators_kept, seeded

Taken = TypeVar("Taken")


class Call(NamedTuple):
    """What a model is called with."""

    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] = {}

    def of(self, model: nn.Module) -> Any:
        """Call ``model`` on the CPU and return what it gives."""
        args, kwargs = pytree.tree_map_only(Tensor, lambda one: one.cpu(), tuple(self))
        return model(*args, **kwargs)


@dataclass(frozen=True)
class CollectedCalls:
    """Calls held in memory.

    Args:
        calls: at least one.
        samples: how many samples they hold.
        origin: where they come from, for people.
    """

    calls: tuple[Call, ...]
    samples: int
    origin: str


def call_with(batch: Any) -> Call:
    """Return how a model is called with one batch of a loader.

    A batch is LPOT's ``(input, label)``; one that is a tensor, a dict or anything else but a tuple
    or a list is the input itself, and so is what stands alone in one. An input that is a dict
    gives the arguments by name, a tuple or a list one by one.

    Raises:
        DataError: if a tuple or a list has other than one or two items.

    Example::

        call_with(((2, 3), "label")).of(pow)  # 8
    """
    given = batch
    if isinstance(batch, tuple | list):
        if len(batch) not in (1, 2):
            raise DataError(
                f"a batch is a `{type(batch).__name__}` of {len(batch)}; allowed: `(input, label)`,"
                " or the input alone; several inputs are a tuple or a dict: `((a, b), label)`"
            )
        given = batch[0]
    if isinstance(given, Mapping):
        return Call((), dict(given))
    return Call(tuple(given) if isinstance(given, tuple | list) else (given,), {})


def label_of(batch: Any) -> Any:
    """Return the label of one batch of a loader, on the CPU; ``None`` if it has none.

    It is the second of two items; of a dict, which is the input, what is called ``labels`` or
    ``label``.
    """
    label = None
    if isinstance(batch, tuple | list) and len(batch) == 2:
        label = batch[1]
    elif isinstance(batch, Mapping):
        label = batch.get("labels", batch.get("label"))
    return pytree.tree_map_only(Tensor, lambda one: one.cpu(), label)


def labelled(
    loader: Iterable[Any], *, origin: str, most: int | None = None
) -> Iterator[tuple[Call, Any]]:
    """Give a call and a label for each batch of ``loader``, at most ``most``.

    Raises:
        DataError: if the data raises something, or gives a batch of another form.
    """
    return _read(loader, lambda batch: (call_with(batch), label_of(batch)), origin, most)


def _read(
    loader: Iterable[Any], take: Callable[[Any], Taken], origin: str, most: int | None = None
) -> Generator[Taken, None, int]:
    """Give what ``take`` makes of at most ``most`` batches, and return how many there were."""
    count = 0
    try:
        for batch in islice(loader, most):
            taken = take(batch)
            count += 1
            yield taken
    except DataError as error:
        raise DataError(f"{origin}: {error}") from error
    except Exception as error:  # the user's dataset may raise whatever it likes
        raise DataError(
            f"{origin} cannot be read after {count} batches ({in_short(error)})"
        ) from error
    return count


def cannot_take(model: nn.Module, origin: str, error: Exception, way_out: str = "") -> DataError:
    """Return what says that ``model`` raised ``error`` when it was shown a batch of ``origin``."""
    return DataError(
        f"`{type(model).__name__}` cannot take a batch of {origin} ({in_short(error)}); of a batch"
        " `(input, label)` it is called with the input, a tuple of inputs one by one, a dict by"
        f" name{way_out}"
    )


def goes_once(loader: object) -> bool:
    """Whether ``loader`` is an iterator, which can be gone through once only."""
    return isinstance(loader, Iterator)


def collect(loader: Iterable[Any], size: int, *, origin: str, seed: int) -> CollectedCalls:
    """Take whole batches of ``loader`` until they hold ``size`` samples.

    Loaders that shuffle do it by ``seed``, or by their own generator, which is put back.

    Raises:
        DataError: if the data raises something, gives no batch, or one of another form.
    """
    taken: list[Call] = []
    samples = 0
    with closing(read_calls(loader, origin=origin, seed=seed)) as found:
        for call in found:
            taken.append(call)
            samples += samples_in(call)
            if samples >= size:
                break
    return CollectedCalls(tuple(taken), samples, origin)


def read_calls(loader: Iterable[Any], *, origin: str, seed: int) -> Generator[Call, None, None]:
    """Yield what a model is called with, batch by batch; close it when enough is taken.

    Loaders that shuffle do it by ``seed``, or by their own generator, which is put back.

    Raises:
        DataError: if the data raises something, gives no batch, or one of another form.
    """
    with seeded(seed), generators_kept([loader]):
        count = yield from _read(loader, call_with, origin)
    if not count:
        raise DataError(f"{origin} is empty: there is no batch to show the model")


def few_samples(batch: Any, most: int = 32) -> Any:
    """Return the first samples of ``batch`` where its tensors all hold as many, else all of it.

    Single ops are tried on it with every activation kept: 256 large images would not fit.
    """
    leaves, tree = pytree.tree_flatten(batch)
    sizes = {len(leaf) if isinstance(leaf, Tensor) and leaf.dim() else -1 for leaf in leaves}
    if len(sizes) != 1 or -1 in sizes:
        return batch
    return pytree.tree_unflatten([leaf[:most] for leaf in leaves], tree)


def samples_in(batch: Any) -> int:
    """Return the length of the first tensor; without one, a batch counts as one sample."""
    leaves: Sequence[Any] = pytree.tree_leaves(batch)
    return next((len(one) for one in leaves if isinstance(one, Tensor) and one.dim()), 1)
