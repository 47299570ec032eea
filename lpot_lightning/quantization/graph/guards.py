"""What Dynamo guards of a graph that is being captured, and what others look at in its place."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Any

import torch.nn.functional as F
from torch import fx, nn
from torch._dynamo.symbolic_convert import InstructionTranslator
from torch._guards import Guard, TracingContext

from lpot_lightning.quantization.graph.sources import source_of

_FORWARD = re.compile(r"L\['(\w+)'\]((?:\._modules\['[^']*'\])*)\.forward\b")
_SAME = "ID_MATCH", "CLOSURE_MATCH"
"""What guards which object it is, if that is no function."""
_INSIDE = re.compile(r"\._modules\['([^']*)'\]")


class Settled:
    """A ``forward`` of which graphs read only what is never changed: which one it is tells all."""


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


def leave_out_settled() -> None:
    """Let Dynamo guard of each ``Settled`` only that it is there still.

    What it read of them, to their class and its code, was a third of all guards of a net of 22
    convolutions (torch 2.13).
    """
    guards = TracingContext.get().guards_context.dynamo_guards
    frame = InstructionTranslator.current_tx().f_locals
    same = {one.name for one in guards if one.create_fn_name() in _SAME}
    known = {name for name in same if isinstance(_forward_at(name, frame), Settled)}
    guards.inner = type(guards.inner)(one for one in guards if not _is_of(known, one))


def _forward_at(name: str, frame: Mapping[str, Any]) -> object:
    """Return the ``forward`` that a module has by itself, by the name that Dynamo has for it."""
    found = _FORWARD.fullmatch(name)
    module = frame.get(found[1]) if found else None
    for part in _INSIDE.findall(found[2]) if found else ():
        module = module._modules.get(part) if isinstance(module, nn.Module) else None
    return vars(module).get("forward") if isinstance(module, nn.Module) else None


def _is_of(known: Collection[str], guard: Guard) -> bool:
    """Whether a guard is of a ``forward`` that is ``known``, and not of which one it is."""
    found = _FORWARD.search(guard.name)
    if found is None or found[0] not in known:
        return False
    return guard.name != found[0] or guard.create_fn_name() not in _SAME
