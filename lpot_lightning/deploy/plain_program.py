"""A program as a module that needs nothing but its inputs, for what writes files of modules."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.utils import _pytree as pytree

from lpot_lightning.deploy.whole_graph import WholeGraph
from lpot_lightning.errors import ExportError
from lpot_lightning.quantization.graph.ops import (
    FUNCTION,
    call_function,
    call_layer,
    call_recurrent,
    layer_of,
)
from lpot_lightning.quantization.program.draft import Drafted
from lpot_lightning.quantization.recurrent import WeightOnlyRecurrent

StepOf = Callable[[nn.Module, fx.Node], nn.Module]
"""Returns what is to be in the place of a step of a program, at its node."""


def plain_program(
    whole: WholeGraph,
    draft: Drafted,
    step_of: StepOf,
    instead: Mapping[Any, Callable[..., Any]] | None = None,
) -> fx.GraphModule:
    """Return what computes ``draft`` of the inputs of the file, as a flat tuple of tensors.

    Tensors of the model are buffers of it, under their names with ``_`` for dots. Sizes are asked
    of the inputs. Layers of floats are there as they are.

    Args:
        whole: whose program was drafted.
        draft: with all its passes.
        step_of: see there.
        instead: functions that are called in the place of others.

    Raises:
        ExportError: if a part of the program is decided by values of a call.
    """
    return _Building(whole, draft, step_of, instead or {}).built()


class FloatLayer(nn.Module):
    """A layer that stays in floats, with its tensors, whatever computes for it elsewhere."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.kind = type(layer)
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        """Return what the layer gives."""
        found: Tensor = self.kind.forward(self.layer, x)
        return found


class KeptRecurrent(nn.Module):
    """A recurrent layer in floats whose weights are kept as integers, tensors in and out.

    Args:
        form: that computes for it.
    """

    def __init__(self, form: WeightOnlyRecurrent) -> None:
        super().__init__()
        self.form = form

    def forward(self, x: Tensor, state: Sequence[Tensor]) -> list[Tensor]:
        """Return what the layer gives, one tensor after the other."""
        found: list[Tensor] = pytree.tree_leaves(self.form.forward(x, tuple(state) or None))
        return found


class _Building:
    def __init__(
        self,
        whole: WholeGraph,
        draft: Drafted,
        step_of: StepOf,
        instead: Mapping[Any, Callable[..., Any]],
    ) -> None:
        self.whole, self.draft, self.step_of, self.instead = whole, draft, step_of, instead
        self.root, self.graph = nn.Module(), fx.Graph()
        self.known: dict[fx.Node, Any] = {}
        self.inputs: dict[int, fx.Node] = {}

    def built(self) -> fx.GraphModule:
        for number in self.whole.used:
            name = self.whole.signature.inputs[number].name
            self.inputs[number] = self.graph.placeholder(_as_name(name))
        places = [node for node in self.draft.graph.nodes if node.op == "placeholder"]
        for place, node in enumerate(places):
            if node.users:
                self.known[node] = self._value(place)
        for node in self.draft.graph.nodes:
            self._copy(node)
        for node in self.graph.nodes:
            node.meta.clear()  # where it was captured is not where it is
        made = fx.GraphModule(self.root, self.graph)
        made.graph.lint()
        return made.eval()

    def _value(self, place: int) -> Any:
        """Return what stands for an input of the graph."""
        whole = self.whole
        if place in whole.places:
            return self.inputs[whole.places[place]]
        if place in whole.sizes:
            number, dim = whole.sizes[place]
            return self.graph.call_function(torch.ops.aten.sym_size.int, (self.inputs[number], dim))
        value = whole.values[place]
        if isinstance(value, Tensor):
            return self._held(whole.held[place], value)
        return value

    def _held(self, name: str, value: Tensor) -> fx.Node:
        own = _as_name(name)
        if not hasattr(self.root, own):
            self.root.register_buffer(own, value.detach())
        return self.graph.get_attr(own)

    def _copy(self, node: fx.Node) -> None:
        if node.op == "placeholder":
            return
        if node.op == "output":
            self.graph.output(tuple(self._picked(node)))
            return
        step = self.draft.step(node)
        if node.target is call_layer:
            step = _plain_layer(str(node.args[1]))
            self.known[node] = self._module(node, step, node.args[:1])
        elif node.target is call_recurrent:
            self.known[node] = self._module(node, _recurrent(str(node.args[2])), node.args[:2])
        elif step is not None:
            self.known[node] = self._module(node, self.step_of(step, node), node.args)
        else:
            _check_plain(node)
            made = self.known[node] = self.graph.node_copy(node, self.known.__getitem__)
            made.target = self.instead.get(made.target, made.target)

    def _module(self, node: fx.Node, step: nn.Module, given: Any) -> fx.Node:
        name = _as_name(getattr(self.draft.step(node), "op", "") or node.name)
        while hasattr(self.root, name):
            name += "_"
        self.root.add_module(name, step)
        return self.graph.call_module(name, fx.map_arg(given, self.known.__getitem__))

    def _picked(self, output: fx.Node) -> Iterator[fx.Node]:
        results: Any = output.args[0]
        for kind, number in self.whole.picked:
            yield self.known[results[number]] if kind == "result" else self.inputs[number]


def _plain_layer(name: str) -> nn.Module:
    """Return what computes for a layer that no step stands for: in floats, or rows of a table."""
    forward = layer_of(name)
    return FloatLayer(forward.layer) if forward.int8 is None else forward.int8


def _recurrent(name: str) -> nn.Module:
    """Return what computes for a recurrent layer.

    Raises:
        ExportError: if that is dynamic int8.
    """
    forward = layer_of(name)
    if isinstance(forward.int8, WeightOnlyRecurrent):
        return KeptRecurrent(forward.int8)
    raise ExportError(
        f"`{forward.op}` is a recurrent layer of dynamic int8, and files have no word for its"
        " steps; let it be weight-only int8 or fp32 by `quantization.op_wise`, export a part of the"
        " model by `method`, or export to `.ts`, which holds as many steps as the example has"
    )


def _check_plain(node: fx.Node) -> None:
    if node.target in (FUNCTION, call_function):
        raise ExportError(
            f"`{node.name}` goes by a weight that is computed of the input in each call: a file"
            " can hold fixed weights only; leave it in fp32, or export a part of the model by"
            " `method`"
        )


def _as_name(name: str) -> str:
    cleaned = "".join(one if one.isalnum() else "_" for one in name)
    return cleaned if cleaned[:1].isalpha() else f"_{cleaned}"
