"""A captured graph on its way to a program."""

from __future__ import annotations

import operator
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from lpot_lightning.quantization.functions.forward import FunctionOp
from lpot_lightning.quantization.graph.ops import (
    LAYER,
    RECURRENT,
    call_layer,
    call_recurrent,
    layer_of,
)
from lpot_lightning.quantization.kernels.bf16 import BF16
from lpot_lightning.quantization.kernels.bound import bound
from lpot_lightning.quantization.kernels.layers import Int8Layer
from lpot_lightning.quantization.kernels.moving import Divide, Quantize
from lpot_lightning.quantization.kernels.rows import QuantizeRows, Rescale
from lpot_lightning.quantization.layer_forward import LayerForward
from lpot_lightning.quantization.program.memory import written
from lpot_lightning.quantization.quantized_layer import QuantizedLayer
from lpot_lightning.quantization.rungs import (
    Bf16Layer,
    DynamicLayer,
    WeightForm,
    WeightOnlyLayer,
)

MADE_BY = "lpot_made_by"
"""Where a node says which pass made it."""
NARROW = "bf16"
"""Who makes casts to bfloat16 and back."""


class Unknown(Exception):
    """A number is computed in the graph."""


class Drafted:
    """A copy of a graph in which int8 layers are spelt out: quantize, kernel, floats.

    Args:
        graph: as it was captured; it is left as it is.
        inputs: of a call.
        held: names of the placeholders for tensors that belong to modules.

    Attributes:
        module: the new graph.
        folded: which inputs are folded into kernels as tensors.
        numbers: which are as numbers, attributes of modules for one.
        sources: what stands for the layers, int8 or not.
        written: nodes whose memory is written to while others may still read it.
    """

    def __init__(self, graph: fx.GraphModule, inputs: Sequence[Any], held: Collection[str]) -> None:
        self.module = fx.GraphModule(graph, graph.graph.__deepcopy__({}))
        places = [node for node in self.graph.nodes if node.op == "placeholder"]
        self.values = dict(zip(places, inputs, strict=True))
        self.constants = {node for node in places if node.name in held}
        self.order = {node: number for number, node in enumerate(places)}
        self.folded: list[int] = []
        self.numbers: list[int] = []
        self.sources: list[LayerForward | FunctionOp] = []
        self._rows: dict[tuple[fx.Node, int], list[fx.Node]] = {}
        self._drop_identities()
        self.written = written(self.graph)
        self._spell_out()

    @property
    def graph(self) -> fx.Graph:
        """The nodes of ``module``."""
        return self.module.graph

    def step(self, node: object) -> nn.Module | None:
        """Return the step that ``node`` is, ``None`` for what is none of ours."""
        if not isinstance(node, fx.Node) or node.op != "call_module":
            return None
        return self.module.get_submodule(str(node.target))

    def steps(self, kind: type[nn.Module]) -> list[fx.Node]:
        """Return the nodes whose step is of ``kind``, in their order."""
        return [node for node in self.graph.nodes if isinstance(self.step(node), kind)]

    def add(self, after: fx.Node, step: nn.Module, given: tuple[Any, ...], made_by: str) -> fx.Node:
        """Insert ``step`` behind a node, and return its node."""
        with self.graph.inserting_after(after):
            node = self.graph.call_module(self.named(step), given)
        node.meta = {MADE_BY: made_by}
        return node

    def named(self, step: nn.Module) -> str:
        """Take ``step`` in, and return the name by which nodes call it."""
        name = f"{type(step).__name__.lower()}_{len(self.module._modules)}"
        self.module.add_submodule(name, step)
        return name

    def number(self, given: Any) -> float:
        """Return a number that is given to an op; one that a module holds is noted, and checked.

        Dynamo passes an attribute that is a float as a tensor, since it may change.

        Raises:
            Unknown: if it is computed.
        """
        if not isinstance(given, fx.Node):
            return float(given)
        source = given.args[0] if given.target == "item" else None
        if not isinstance(source, fx.Node) or source not in self.order:
            raise Unknown
        self.numbers.append(self.order[source])
        return float(self.values[source])

    def whole(self, given: Any) -> tuple[int, ...]:
        """Return whole numbers that are given to an op, as ``number`` does."""
        each = given if isinstance(given, list | tuple) else (given,)
        return tuple(self._whole(one) for one in each)

    def _whole(self, given: Any) -> int:
        if isinstance(given, int):
            return given
        value = self.values.get(given) if isinstance(given, fx.Node) else None
        if not isinstance(value, int | torch.SymInt):
            raise Unknown
        self.numbers.append(self.order[given])
        return int(value)

    def finish(self) -> Callable[..., Any]:
        """Return what computes the graph."""
        for node in reversed(self.graph.nodes):
            if not node.users and (node.target == "item" or self.step(node) is not None):
                self.graph.erase_node(node)
        self.values = {}  # those of a call, which are not to outlive it
        self.graph.lint()
        self.module.recompile()
        self.module.delete_all_unused_submodules()
        return self._called(lambda step: step.forward)

    def warm(self) -> Callable[..., Any]:
        """Return what computes the finished graph at less cost, as long as no tensor changes."""
        return self._called(
            lambda step: bound(step) if isinstance(step, Int8Layer) else step.forward
        )

    def _called(self, way: Callable[[nn.Module], Callable[..., Any]]) -> Callable[..., Any]:
        """Return what computes the graph and calls no hook: its steps are no modules of a user."""
        graph = fx.Graph()
        known: dict[fx.Node, fx.Node] = {}
        for node in self.graph.nodes:
            step = self.step(node)
            if step is None:
                known[node] = graph.node_copy(node, known.__getitem__)
            else:
                known[node] = graph.call_function(way(step), tuple(map(known.get, node.args)))
        computes: Callable[..., Any] = fx.GraphModule(self.module, graph).forward
        return computes

    def _drop_identities(self) -> None:
        for node in list(self.graph.nodes):
            if _changes_nothing(node):
                node.replace_all_uses_with(node.args[0])
                self.graph.erase_node(node)

    def _spell_out(self) -> None:
        for node in list(self.graph.nodes):
            if node.target is LAYER:
                forward = layer_of(str(node.args[1]))
                self.sources.append(forward)
                if isinstance(forward.int8, WeightForm):
                    self.spell(node, forward.int8)
                else:
                    node.target = call_layer  # a trace that is saved can hold no op of ours
            elif node.target is RECURRENT:
                node.target = call_recurrent

    def spell(self, node: fx.Node, form: WeightForm) -> None:
        """Let the steps of a layer stand where ``node`` does, whose first input is its."""
        with_floats = self._spelt(node, form)
        with_floats.meta |= node.meta
        dtype = dtype_of(node)
        last = with_floats
        if dtype not in (None, torch.float32):
            with self.graph.inserting_after(last):
                last = self.graph.call_method("to", (last, dtype))
        if node in self.written:
            self.written |= {with_floats, last}
        node.replace_all_uses_with(last)
        self.graph.erase_node(node)

    def _spelt(self, node: fx.Node, form: WeightForm) -> fx.Node:
        """Return the last of the steps, which gives floats."""
        if isinstance(form, Bf16Layer):
            layer = self.add(node, form, (self.narrowed(node, node.args[0]),), "layer")
            return self.widened(layer)
        if isinstance(form, WeightOnlyLayer):
            return self.add(node, form, (node.args[0],), "layer")
        if isinstance(form, DynamicLayer):
            return self._spelt_by_rows(node, form)
        for step in self._before(node, form):
            node.args = step, *node.args[1:]
        return self.add(node, form.kernel, (node.args[0],), "layer")

    def narrowed(self, reader: fx.Node, source: Any) -> fx.Node:
        """Return ``source`` as bfloat16, cast right before ``reader``."""
        with self.graph.inserting_before(reader):
            made = self.graph.call_method("to", (source, BF16))
        made.meta = {MADE_BY: NARROW}
        return made

    def widened(self, source: fx.Node) -> fx.Node:
        """Return a node of bfloat16 as float32, cast right behind it."""
        with self.graph.inserting_after(source):
            made = self.graph.call_method("to", (source, torch.float32))
        made.meta = {MADE_BY: NARROW}
        return made

    def _spelt_by_rows(self, node: fx.Node, int8: DynamicLayer) -> fx.Node:
        """Let the steps of a layer that quantizes rows stand behind ``node``."""
        values, scales, least = self._rows_of(node, int8.kernel.high)
        products = self.add(node, int8.kernel, (values,), "layer")
        products.meta |= node.meta
        return self.add(products, Rescale(int8.kernel), (products, scales, least), "layer")

    def _rows_of(self, node: fx.Node, high: int) -> list[fx.Node]:
        """Return the integers, scales and least values of what ``node`` reads, made once for all.

        Memory that is written to may be another by the time that the next layer reads it.
        """
        source = node.args[0]
        assert isinstance(source, fx.Node)
        known = self._rows.get((source, high))
        if known is not None and source not in self.written:
            return known
        made = self._put_before(node, QuantizeRows(high))
        with self.graph.inserting_after(made):
            parts = [self.graph.call_function(operator.getitem, (made, n)) for n in (2, 1, 0)]
        self._rows[source, high] = parts[::-1]
        return self._rows[source, high]

    def _before(self, node: fx.Node, int8: QuantizedLayer) -> Iterator[fx.Node]:
        """Yield what stands before the kernel, each with the input of ``node`` as it is then."""
        if int8.factors is not None:
            yield self._put_before(node, Divide(int8.factors))
        if int8.border:
            with self.graph.inserting_before(node):
                given = (node.args[0], list(int8.border), int8.mode)
                yield self.graph.call_function(F.pad, given)
        yield self._put_before(node, Quantize(int8.kernel.x))

    def _put_before(self, node: fx.Node, step: nn.Module) -> fx.Node:
        source = node.args[0]
        assert isinstance(source, fx.Node)
        made = self.add(node, step, (source,), "layer")
        if isinstance(step, Divide):
            made.meta |= {"example_value": source.meta.get("example_value")}
        node.prepend(made)
        return made


def dtype_of(node: fx.Node) -> torch.dtype | None:
    """Return the type of what a captured node gives, ``None`` where that is not known."""
    value = node.meta.get("example_value")
    return value.dtype if isinstance(value, Tensor) else None


def shape_of(node: fx.Node) -> tuple[str, ...] | None:
    """Return the shape of what a captured node gives, its sizes as they are called."""
    value = node.meta.get("example_value")
    return tuple(map(str, value.shape)) if isinstance(value, Tensor) else None


def dims_of(node: fx.Node) -> int | None:
    """Return how many dimensions has what a captured node gives, ``None`` where nobody knows."""
    shape = shape_of(node)
    return None if shape is None else len(shape)


def only_user(node: fx.Node) -> fx.Node | None:
    """Return who reads ``node``, if that is one."""
    return next(iter(node.users)) if len(node.users) == 1 else None


def is_fresh(draft: Drafted, node: fx.Node) -> bool:
    """Whether a node gives memory of its own, which nobody but its readers knows."""
    return isinstance(draft.step(node), nn.Module)


def kernel_at(draft: Drafted, node: object) -> Int8Layer | None:
    """Return the kernel that ``node`` is."""
    step = draft.step(node)
    return step if isinstance(step, Int8Layer) else None


def _changes_nothing(node: fx.Node) -> bool:
    """Whether a node gives what it gets: dropout that is off, in a model that is judged."""
    if node.target is not F.dropout or not isinstance(node.args[0], fx.Node):
        return False
    training = node.args[2] if len(node.args) > 2 else node.kwargs.get("training", True)
    return training is False
