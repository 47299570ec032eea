"""One choice from each list, the most uniform first."""

from __future__ import annotations

from collections.abc import Generator, Hashable, Iterator, Sequence
from typing import TypeVar

T = TypeVar("T", bound=Hashable)


def uniform_first(options: Sequence[Sequence[T]]) -> Iterator[tuple[T, ...]]:
    """Yield one choice from each of ``options``, those with the fewest distinct choices first.

    Equally uniform ones come in the order of the product, the last list varying fastest. This is
    the order of LPOT 1.x, which built and sorted the whole product, 4 ** k entries for k lists;
    here nothing is built ahead.

    Example::

        list(uniform_first([["a", "b"], ["a", "b"]]))
        # [("a", "a"), ("b", "b"), ("a", "b"), ("b", "a")]
    """
    unmet = _groups_ahead(options)
    for distinct in range(unmet[0], len(options) + 1):
        yield from _extend((), options, distinct, unmet)


def _extend(
    chosen: tuple[T, ...], options: Sequence[Sequence[T]], distinct: int, unmet: Sequence[int]
) -> Generator[tuple[T, ...], None, None]:
    """Yield what ``chosen`` can become with exactly ``distinct`` different choices."""
    place, so_far = len(chosen), len(set(chosen))
    if not so_far + unmet[place] <= distinct <= so_far + len(options) - place:
        return
    if place == len(options):
        yield chosen
        return
    for choice in options[place]:
        yield from _extend((*chosen, choice), options, distinct, unmet)


def _groups_ahead(options: Sequence[Sequence[T]]) -> list[int]:
    """Return for each place how many new choices at least are still to come.

    Lists that share no choice, not even through others, never agree: each such group that lies
    wholly ahead brings at least one.
    """
    first = _first_places(options)
    return [sum(place >= at for place in first) for at in range(len(options) + 1)]


def _first_places(options: Sequence[Sequence[T]]) -> list[int]:
    groups: list[tuple[int, set[T]]] = []
    for place, choices in enumerate(options):
        near = [group for group in groups if group[1].intersection(choices)]
        begins = min([place, *(group[0] for group in near)])
        union = set(choices).union(*(group[1] for group in near))
        groups = [group for group in groups if group not in near] + [(begins, union)]
    return [begins for begins, _ in groups]
