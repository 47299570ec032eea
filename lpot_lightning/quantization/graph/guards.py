"""What Dynamo guards of a graph that is being captured, and what others look at in its place."""

from __future__ import annotations

from collections.abc import Collection

import torch.nn.functional as F
from torch import fx
from torch._guards import TracingContext

from lpot_lightning.quantization.graph.sources import source_of


class Outdated(Exception):
    """A graph cannot compute a call, though its guards let that pass: something else has to."""


def only_norms_read(graph: fx.GraphModule, held: Collection[str]) -> set[str]:
    """Return which of the placeholders ``held`` by modules are read by batch norms alone."""
    return {
        node.name
        for node in graph.graph.nodes
        if node.name in held and all(_is_norm_of(user, node) for user in node.users)
    }


def _is_norm_of(user: fx.Node, node: fx.Node) -> bool:
    """Whether ``user`` is a batch norm whose statistics or weights ``node`` is."""
    return user.target is F.batch_norm and (not user.args or user.args[0] is not node)


def leave_out(graph: fx.GraphModule, names: Collection[str]) -> None:
    """Let Dynamo guard nothing of the placeholders ``names``: the caller looks at them himself.

    It takes a microsecond and more a call for each of them where caches are cold, as they are after
    a call of a net: a ResNet-50 has 212, in its norms (torch 2.13).
    """
    nodes = [node for node in graph.graph.nodes if node.name in names]
    sources = {source_of(node) for node in nodes}
    guards = TracingContext.get().guards_context.dynamo_guards
    guards.inner = type(guards.inner)(one for one in guards if one.name not in sources)
