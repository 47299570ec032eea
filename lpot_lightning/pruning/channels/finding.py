"""Which channels of a model can be cut, each group proved."""

from __future__ import annotations

import copy
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence

import torch
from torch import nn

from lpot_lightning.errors import in_short
from lpot_lightning.pruning.channels.coupling import coupled
from lpot_lightning.pruning.channels.entering import CallsByPath, check_calls, random_numbers_kept
from lpot_lightning.pruning.channels.group import ChannelGroups, Group
from lpot_lightning.pruning.channels.heads import head_groups
from lpot_lightning.pruning.channels.layers import ROOTS
from lpot_lightning.pruning.channels.proof import Proof
from lpot_lightning.pruning.channels.trace import graph_of, torch_pruning


def find_groups(model: nn.Module, calls: CallsByPath) -> ChannelGroups:
    """Return the groups of channels that can be cut out of ``model``, and why others cannot.

    Channels are followed through the model by Torch-Pruning. Each group then proves itself, with
    random choices of channels: the cut model runs, and gives what the masked one gives.

    Args:
        model: any; copies of it by ``copy.deepcopy`` are worked with, in eval mode.
        calls: by the path of each module that is entered from outside, args and kwargs of a small
            batch, on the device of the model. ``""`` is the model itself.

    Raises:
        ConfError: if Torch-Pruning is not installed.
        PruningError: if a call fails, or gives no tensor, or none that is finite.

    Example::

        found = find_groups(model, {"net": ((images[:2],), {})})
        sorted(group.name for group in found)  # ["net.stage1", "net.stage2", "net.stem"]
        found.excluded  # {"net.head": "its channels are what `net` gives"}
    """
    torch_pruning()
    ours = _as_needed(model)
    with random_numbers_kept(ours):
        with torch.no_grad():
            check_calls(ours, calls)
        proof = Proof(ours, calls)
        return _with_heads(ours, calls, proof, _proved(proof, _followed(ours, calls)))


def _as_needed(model: nn.Module) -> nn.Module:
    ours = copy.deepcopy(model).eval()
    for one in ours.parameters():
        one.requires_grad_(one.is_floating_point())
    return ours


def _followed(model: nn.Module, calls: CallsByPath) -> ChannelGroups:
    traced = copy.deepcopy(model)
    try:
        return coupled(traced, graph_of(traced, calls))
    except Exception as error:  # Torch-Pruning's own, about what it cannot follow
        reason = f"Torch-Pruning cannot follow the model: {in_short(error)}"
        layers = (path for path, one in model.named_modules() if isinstance(one, ROOTS))
        return ChannelGroups((), dict.fromkeys(layers, reason))


def _with_heads(
    model: nn.Module, calls: CallsByPath, proof: Proof, found: ChannelGroups
) -> ChannelGroups:
    """Return what was found and the attention heads besides, where they can be cut together."""
    excluded = dict(found.excluded)
    heads = head_groups(model, calls, proof, excluded)
    groups = _together(proof, [*found, *heads], excluded) if heads else found.groups
    return _sorted_out(groups, excluded)


def _proved(proof: Proof, found: ChannelGroups) -> ChannelGroups:
    excluded = dict(found.excluded)
    return _sorted_out(_good(proof, found.groups, excluded), excluded)


def _sorted_out(groups: Sequence[Group], excluded: Mapping[str, str]) -> ChannelGroups:
    """Return the groups, and reasons of those layers only that none of them cuts."""
    cut = {layer for group in groups for layer in group.layers}
    left = {path: why for path, why in excluded.items() if path not in cut}
    return ChannelGroups(tuple(groups), left)


def _good(proof: Proof, groups: Sequence[Group], excluded: dict[str, str]) -> list[Group]:
    """Return those of ``groups`` that can be cut together."""
    if not groups or proof.complaint(groups) is None:
        return list(groups)
    kinds: dict[str, list[Group]] = defaultdict(list)
    for group in groups:
        kinds[re.sub(r"\d+", "#", group.name)].append(group)
    good = {one.name for alike in kinds.values() for one in _passing(proof, alike, excluded)}
    return _together(proof, [one for one in groups if one.name in good], excluded)


def _passing(proof: Proof, alike: list[Group], excluded: dict[str, str]) -> list[Group]:
    """Return which of some groups pass a brief proof; in blocks that repeat, all or none do."""
    if proof.complaint(alike, briefly=True) is None:
        return alike
    reasons = {group.name: proof.complaint([group], briefly=True) for group in alike}
    for group in alike:
        reason = reasons[group.name]
        if reason is not None:
            excluded.update(dict.fromkeys(group.layers, reason))
    return [group for group in alike if reasons[group.name] is None]


def _together(proof: Proof, groups: list[Group], excluded: dict[str, str]) -> list[Group]:
    """Return a part of ``groups`` that passes the whole proof, found by halving."""
    reason = proof.complaint(groups) if groups else None
    if reason is None:
        return groups
    if len(groups) == 1:
        excluded.update(dict.fromkeys(groups[0].layers, reason))
        return []
    middle = len(groups) // 2
    one = _together(proof, groups[:middle], excluded)
    two = _together(proof, groups[middle:], excluded)
    reason = proof.complaint(one + two) if one and two else None
    if reason is None:
        return one + two
    for group in two:
        excluded.update(dict.fromkeys(group.layers, f"together with others: {reason}"))
    return one
