"""Does cutting channels give what masking them gives?"""

from __future__ import annotations

import copy
import math
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

from lpot_lightning.errors import PruningError, in_short
from lpot_lightning.pruning.channels.cut import cut
from lpot_lightning.pruning.channels.entering import CallsByPath, entered
from lpot_lightning.pruning.channels.group import Group, mask
from lpot_lightning.pruning.channels.layers import ROOTS
from lpot_lightning.pruning.channels.plan import channel_plan_of

TOLERANCE = 1e-5
"""Of the largest number of an output; float32 sums in another order differ by 3e-7 (ResNet-50)."""
SHARES = (0.5, 0.8)
"""How many channels stay in the proofs: a fixed share would always divide by the same numbers."""

Outputs = list[Tensor]


class Proof:
    """Tries cuts on copies of a model; seeds torch's random numbers for each run.

    Weights of a new model may hide what goes wrong, where a layer starts with zeros for one; so
    each cut is tried with random values that hide nothing, and then with the model's own.

    Args:
        model: a copy, in eval mode; left as it is.
        calls: as of ``find_groups``.
    """

    def __init__(self, model: nn.Module, calls: CallsByPath) -> None:
        self._calls = calls
        self._bases = [base for base in (_lively(model), model) if _is_finite(base, calls)]
        if not self._bases:
            raise PruningError(
                f"`{type(model).__name__}` gives numbers that are not finite on the example batch"
            )

    def lively_copy(self) -> nn.Module:
        """Return a copy of the model with random values, or its own where these do not suit it."""
        return copy.deepcopy(self._bases[0])

    def complaint(self, groups: Sequence[Group], *, briefly: bool = False) -> str | None:
        """Return what is wrong with cutting ``groups`` together, ``None`` if nothing is.

        Args:
            groups: of the model.
            briefly: try one choice of channels with one set of values, not all.
        """
        bases, shares = (self._bases[:1], SHARES[:1]) if briefly else (self._bases, SHARES)
        for base in bases:
            for share in shares:
                reason = self._try(base, groups, _drawn(groups, share))
                if reason is not None:
                    return reason
        return None

    def _try(self, base: nn.Module, groups: Sequence[Group], kept: dict[str, Tensor]) -> str | None:
        try:
            small = cut(_sharing(base), channel_plan_of(base, groups, kept))
            got = _run(small, self._calls)
        except PruningError as error:
            return str(error)
        except Exception as error:  # of the user's forward, or of torch in it
            return f"the smaller model fails: {in_short(error)}"
        wanted = _run(_masked(base, groups, kept), self._calls)
        return None if _are_same(got, wanted) else "cutting it changes what the model computes"


def _masked(base: nn.Module, groups: Sequence[Group], kept: dict[str, Tensor]) -> nn.Module:
    changed = {part.name for group in groups for part in group.zeroed}
    masked = _sharing(base, but=changed)
    params = dict(masked.named_parameters(remove_duplicate=False))
    for group in groups:
        mask(params, group, kept[group.name])
    return masked


def _sharing(base: nn.Module, but: Collection[str] = ()) -> nn.Module:
    """Return a copy with the parameters of ``base``, besides those with the names ``but``."""
    params = dict(base.named_parameters(remove_duplicate=False))
    own = {id(params[name]) for name in but}
    shared = {id(one): one for one in params.values() if id(one) not in own}
    return copy.deepcopy(base, dict[int, Any](shared))


def _drawn(groups: Sequence[Group], share: float) -> dict[str, Tensor]:
    """Return which channels stay, at random: an odd number where that is possible."""
    generator = torch.Generator().manual_seed(len(groups))
    kept = {}
    for group in groups:
        number = min(group.n - 1, int(group.n * share) | 1)
        kept[group.name] = torch.zeros(group.n, dtype=torch.bool)
        kept[group.name][torch.randperm(group.n, generator=generator)[:number]] = True
    return kept


def _run(model: nn.Module, calls: CallsByPath) -> tuple[Outputs, Outputs]:
    """Return what layers give on the way, and what the calls give, with the same random numbers.

    A softmax at the end may hide what goes wrong before it.
    """
    seen: Outputs = []
    layers = [one for one in model.modules() if isinstance(one, ROOTS)]
    hooks = [one.register_forward_hook(lambda *call: seen.append(call[2])) for one in layers]
    try:
        with torch.no_grad(), _exact():
            torch.manual_seed(0)
            return seen, [one for _, given in entered(model, calls) for one in given]
    finally:
        for hook in hooks:
            hook.remove()


@contextmanager
def _exact() -> Iterator[None]:
    """Compute in float32 where the user lets torch use bfloat16 or TF32."""
    backends = torch.backends.mkldnn, torch.backends.cuda, torch.backends.cudnn
    places = backends[0].matmul, backends[0].conv, backends[1].matmul, backends[2].conv
    before = [one.fp32_precision for one in places]
    try:
        for one in places:
            one.fp32_precision = "ieee"
        yield
    finally:
        for one, precision in zip(places, before, strict=True):
            one.fp32_precision = precision


def _lively(model: nn.Module) -> nn.Module:
    """Return a copy with random values in which every channel shows in what is computed."""
    lively, generator = copy.deepcopy(model), torch.Generator().manual_seed(0)

    def between(tensor: Tensor, low: float, high: float) -> None:
        values = torch.rand(tensor.shape, generator=generator) * (high - low) + low
        tensor.copy_(values)

    with torch.no_grad():
        for one in lively.parameters():
            if not one.is_floating_point():
                continue
            if one.dim() < 2:
                between(one, 0.5, 1.5)
            else:
                width = math.sqrt(3 * one.shape[0] / max(one.numel(), 1))
                between(one, -width, width)
        for module in lively.modules():
            if isinstance(module, _NormBase) and module.running_mean is not None:
                between(module.running_mean, -0.5, 0.5)
                between(module.running_var, 0.5, 1.5)  # type: ignore[arg-type]
    return lively


def _is_finite(model: nn.Module, calls: CallsByPath) -> bool:
    try:
        _, given = _run(model, calls)
    except Exception:  # of the user's forward, which random values may not suit
        return False
    return all(bool(torch.isfinite(one).all()) for one in given)


def _are_same(got: tuple[Outputs, Outputs], wanted: tuple[Outputs, Outputs]) -> bool:
    if any(len(one) != len(other) for one, other in zip(got, wanted, strict=True)):
        return False
    uncut = [pair for pair in zip(got[0], wanted[0], strict=True) if pair[0].shape == pair[1].shape]
    return all(_is_close(*pair) for pair in (*uncut, *zip(got[1], wanted[1], strict=True)))


def _is_close(one: Tensor, other: Tensor) -> bool:
    if one.shape != other.shape or one.dtype != other.dtype:
        return False
    if not one.is_floating_point() or not one.numel():
        return bool(torch.equal(one, other))
    return bool((one - other).abs().max() <= TOLERANCE * other.abs().max())
