"""Functions that a weight goes into: what a graph knows of that weight is computed once."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any

import torch
from torch import Tensor, fx

from lpot_lightning.module.constants import is_random
from lpot_lightning.quantization.functions.forward import OwnerForward
from lpot_lightning.quantization.graph.ops import FUNCTION, call_function, layer_of
from lpot_lightning.quantization.graph.weight_calls import WeightCall, plain
from lpot_lightning.quantization.program.draft import Drafted


class _OfData(Exception):
    """A value depends on what the graph is called with."""


def spell_functions(draft: Drafted, attributes: Collection[str]) -> None:
    """Spell out the functions whose weight comes of parameters, as layers are.

    A weight that is computed is folded: it is computed here, and again when a tensor or a number
    that it is made of has changed. Functions that stay in floats become what they were.

    Args:
        draft: with layers that are spelt out.
        attributes: names of the inputs that are attributes of modules.
    """
    for node in list(draft.graph.nodes):
        if node.target is FUNCTION:
            _Spelling(draft, node, attributes).spell()


class _Spelling:
    """Of one of them."""

    def __init__(self, draft: Drafted, node: fx.Node, attributes: Collection[str]) -> None:
        self.draft, self.node, self.attributes = draft, node, attributes
        self.x, self.weight, self.bias, self.numbers, call = node.args
        name, self.function, self.padding = str(call).split(":")
        self.owner: OwnerForward = layer_of(name)

    def spell(self) -> None:
        draft, node = self.draft, self.node
        draft.sources += [op for op in self.owner.ops.values() if op not in draft.sources]
        forms = [op for op in self.owner.ops.values() if op.geometry[0] == self.function]
        if all(op.int8 is None and not op.awaits for op in forms):
            self._as_it_was()
            return
        values = _Values(draft, self.attributes)
        try:
            weight, bias, numbers = map(values.of, (self.weight, self.bias, self.numbers))
        except _OfData:
            node.target = call_function  # it goes by the values of each call
            return
        draft.folded += values.tensors
        draft.numbers += values.numbers
        # of the input nothing is looked at, and its values are not known here
        call = WeightCall(
            function=self.function,
            x=weight,
            weight=weight,
            bias=bias,
            numbers=tuple(numbers),
            padding=self.padding,
        )
        form = self.owner.form_of(call)
        if form is None:
            self._as_it_was()
        else:
            draft.spell(node, form.layer)
            _drop(draft, (self.weight, self.bias))

    def _as_it_was(self) -> None:
        numbers: Any = self.numbers
        function, more = plain(self.function, numbers, self.padding)
        with self.draft.graph.inserting_before(self.node):
            given = (self.x, self.weight, self.bias, *more)
            made = self.draft.graph.call_function(function, given)
        made.meta |= self.node.meta
        self.node.replace_all_uses_with(made)
        self.draft.graph.erase_node(self.node)


class _Values:
    """What nodes give that are made of a module's tensors and numbers.

    Attributes:
        tensors: places of the inputs that were looked at; so are ``numbers``.
    """

    def __init__(self, draft: Drafted, attributes: Collection[str]) -> None:
        self._draft, self._attributes = draft, attributes
        self._known: dict[fx.Node, Any] = {}
        self.tensors: list[int] = []
        self.numbers: list[int] = []

    def of(self, given: Any) -> Any:
        """Return the value of a node, or of what holds nodes.

        Raises:
            _OfData: if it has none but in a call.
        """
        return fx.node.map_arg(given, self._node)

    def _node(self, node: fx.Node) -> Any:
        if node not in self._known:
            if node in self._draft.written or is_random(node.target):
                raise _OfData
            self._known[node] = self._input(node) if node.op == "placeholder" else self._run(node)
        return self._known[node]

    def _input(self, node: fx.Node) -> Any:
        draft, value = self._draft, self._draft.values[node]
        if node in draft.constants:
            self.tensors.append(draft.order[node])
        elif node.name in self._attributes and (not isinstance(value, Tensor) or not value.dim()):
            self.numbers.append(draft.order[node])
            value = int(value) if isinstance(value, torch.SymInt) else value  # Dynamo guards it
        else:
            raise _OfData
        return value

    def _run(self, node: fx.Node) -> Any:
        compute = _RUNS.get(node.op)
        if compute is None:
            raise _OfData
        with torch.no_grad():
            return compute(self._draft, node, self.of(node.args), self.of(node.kwargs))


def _function(_: Drafted, node: fx.Node, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
    target: Any = node.target
    return target(*args, **kwargs)


def _method(_: Drafted, node: fx.Node, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
    return getattr(args[0], str(node.target))(*args[1:], **kwargs)


_RUNS: dict[str, Callable[..., Any]] = {"call_function": _function, "call_method": _method}


def _drop(draft: Drafted, given: Sequence[Any]) -> None:
    """Take out what nobody reads any more."""
    for node in given:
        if isinstance(node, fx.Node) and node.op != "placeholder" and not node.users:
            before = node.all_input_nodes
            draft.graph.erase_node(node)
            _drop(draft, before)
