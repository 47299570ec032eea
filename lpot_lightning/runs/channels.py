"""Channels of a user's model: found before a training, cut after it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from torch import nn

from lpot_lightning.data.batches import few_samples
from lpot_lightning.judging.protocols import Feed
from lpot_lightning.machine.ranks import Ranks
from lpot_lightning.module.calls import ModuleCalls
from lpot_lightning.module.copying import second_model
from lpot_lightning.pruning.channels.cost import cost_of, parameters_of
from lpot_lightning.pruning.channels.cut import cut
from lpot_lightning.pruning.channels.entering import CallsByPath
from lpot_lightning.pruning.channels.finding import find_groups
from lpot_lightning.pruning.channels.group import ChannelGroups
from lpot_lightning.pruning.channels.plan import ChannelPlan
from lpot_lightning.runs.preparation import Say, called
from lpot_lightning.timing.ratio import Ratio, compared
from lpot_lightning.tuning.in_words import by_reason

SAMPLES = 2
"""Of a batch that a model is followed with."""


@dataclass(frozen=True, eq=False)
class Channels:
    """The groups of channels of a model, and the calls they were found by.

    Args:
        found: what can be cut, and why the rest cannot.
        calls: example arguments of each module that is entered from outside.
    """

    found: ChannelGroups
    calls: CallsByPath


@dataclass(frozen=True, kw_only=True)
class Smaller:
    """A model without its pruned channels, and what that saves; the whole one where none are cut.

    Args:
        model: without them.
        plan: by which they were cut out, where they were.
        parameters: how many there are, before and after.
        macs: multiply-accumulates of one sample, before and after, where channels were cut.
        speed: seconds of one step, before over after, where channels were cut.
    """

    model: nn.Module
    plan: ChannelPlan | None = None
    parameters: tuple[int, int]
    macs: tuple[int, int] | None = None
    speed: Ratio | None = None


def without_channels(
    model: nn.Module, plan: ChannelPlan | None, channels: Channels | None, feed: Feed, say: Say
) -> Smaller:
    """Return ``model`` without the channels that ``plan`` cuts, a second one, measured.

    Args:
        model: pruned, whole.
        plan: ``None`` where no channels were pruned: then it is ``model`` itself.
        channels: of the model, as they were found before it was pruned.
        feed: shows both what a step takes.
        say: takes what is going on.
    """
    if plan is None or channels is None:
        return Smaller(model=model, parameters=(parameters_of(model),) * 2)
    small = cut(second_model(model), plan)
    before, after = cost_of(model, channels.calls), cost_of(small, channels.calls)
    say("measuring the speed-up")
    return Smaller(
        model=small,
        plan=plan,
        parameters=(before.parameters, after.parameters),
        macs=(before.macs, after.macs),
        speed=compared(partial(feed.step_seconds, model), partial(feed.step_seconds, small)),
    )


def find_channels(model: nn.Module, feed: Feed, ranks: Ranks, say: Say) -> Channels:
    """Find the groups of ``model``'s channels by one dry run.

    Args:
        model: our own, in eval mode, float32, on the CPU.
        feed: shows it a few samples.
        ranks: the processes that work together; what all of them found is taken.
        say: takes which layers keep all channels, and why.

    Raises:
        ConfError: if Torch-Pruning is not installed.
        PruningError: if the model cannot be called as it was in the dry run.
    """
    works, made = called(model, feed)
    calls = _entries(works, made)
    found = ranks.together(lambda: find_groups(works, calls))
    everywhere = ranks.gather([group.name for group in found])
    for line in by_reason(found.excluded):
        say(f"keeps all channels: {line}")
    groups = [one for one in found if all(one.name in names for names in everywhere)]
    return Channels(ChannelGroups(tuple(groups), found.excluded), calls)


def _entries(model: nn.Module, made: Mapping[int, ModuleCalls]) -> dict[str, tuple[Any, Any]]:
    """Return the first call of each module that no other one was being called around."""
    entries: dict[str, tuple[Any, Any]] = {}
    for path, module in model.named_modules():
        one = made.get(id(module))
        if one is not None and one.count and any(not above for above in one.above):
            entries[path] = few_samples((one.args, one.kwargs), SAMPLES)
    return entries
