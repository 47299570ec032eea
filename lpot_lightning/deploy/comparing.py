"""How far what a file gives is from what it was made of."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

TOLERANCE, MOST_TOLERANCE = 0.02, 0.5
"""Relative error that is let pass; of a net whose answers go by single integers, more."""
_TIMES = 3
"""How many times what single integers make of the answers is let pass. In a MobileNetV3 of random
weights and 7 bits they make 0.05 to 0.15 of it (torch 2.13)."""

Computes = Callable[..., Sequence[Tensor]]
"""Flat tensors in, flat tensors out."""


@dataclass(frozen=True, kw_only=True)
class Distance:
    """How far answers are from others.

    Args:
        largest: difference of two numbers.
        relative: the length of all differences over that of what they are compared with, of the
            tensor where it is largest: a large one is not to hide a small one.
        agreement: the share of samples whose greatest score is the same one; ``None`` where there
            are no scores.
        decided: the share of samples with another greatest score although the others' was clear.
        samples: how many there are.
    """

    largest: float
    relative: float
    agreement: float | None
    decided: float
    samples: int


def distance(found: Sequence[Tensor], wanted: Sequence[Tensor]) -> Distance:
    """Return how far ``found`` is from ``wanted``, tensors of one call or of several.

    Infinite where shapes differ, or one is finite where the other is not.
    """
    pairs = list(zip(found, wanted, strict=True))
    if any(one.shape != other.shape for one, other in pairs):
        return Distance(
            largest=float("inf"), relative=float("inf"), agreement=None, decided=0.0, samples=0
        )
    gaps = torch.cat([_gap(one, other) for one, other in pairs]) if pairs else torch.zeros(1)
    same, clear, samples = map(
        sum, zip(*(_agreed(one, other) for one, other in pairs), strict=True)
    )
    return Distance(
        largest=float(gaps.max()) if gaps.numel() else 0.0,
        relative=max((_relative(one, other) for one, other in pairs), default=0.0),
        agreement=same / samples if samples else None,
        decided=clear / samples if samples else 0.0,
        samples=max((len(one) for one, _ in pairs if one.dim()), default=1),
    )


def tolerance(moved: Sequence[Tensor], wanted: Sequence[Tensor]) -> float:
    """Return what relative error of a file is let pass.

    Args:
        moved: what was written gives where single integers are another one, as in a runtime that
            adds up in another order: some nets make much of that.
        wanted: what it gives.
    """
    return min(MOST_TOLERANCE, max(TOLERANCE, _TIMES * distance(moved, wanted).relative))


def _numbers(tensor: Tensor) -> Tensor:
    return torch.nan_to_num(tensor.double(), nan=0.0, posinf=0.0, neginf=0.0).flatten()


def _relative(one: Tensor, other: Tensor) -> float:
    return float(_gap(one, other).norm() / _numbers(other).norm().clamp_min(1e-12))


def _gap(one: Tensor, other: Tensor) -> Tensor:
    """Return the differences of two tensors; infinite where only one is finite."""
    apart = (_numbers(one) - _numbers(other)).abs()
    return apart.masked_fill((one.isfinite() != other.isfinite()).flatten(), float("inf"))


def _agreed(found: Tensor, wanted: Tensor) -> tuple[float, float, int]:
    """Return how many samples have the same greatest score, how many another one though it was
    clear, and how many there are; none where the tensors hold no scores."""
    if not wanted.is_floating_point() or wanted.dim() < 2 or wanted.numel() == 0:
        return 0, 0, 0
    dim = -1 if wanted.dim() == 3 else 1  # of words, or of pixels
    if wanted.shape[dim] < 2:
        return 0, 0, 0
    best, other = wanted.argmax(dim), found.argmax(dim)
    top = wanted.topk(2, dim=dim).values
    margin = (top.select(dim, 0) - top.select(dim, 1)).abs()
    clear = margin > TOLERANCE * wanted.float().square().mean().sqrt()
    return float((best == other).sum()), float(((best != other) & clear).sum()), best.numel()
