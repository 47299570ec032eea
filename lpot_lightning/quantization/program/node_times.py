"""What each op costs in the program of a graph, with its way to integers and back."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, fx, nn

from lpot_lightning.quantization.graph.ops import call_layer, layer_of
from lpot_lightning.quantization.kernels.layers import Int8Layer
from lpot_lightning.quantization.kernels.moving import (
    Divide,
    Quantize,
    QuantizeDivided,
    QuantizeProduct,
)
from lpot_lightning.quantization.kernels.rows import QuantizeRows
from lpot_lightning.quantization.program.draft import Drafted
from lpot_lightning.quantization.program.memory import written
from lpot_lightning.quantization.program.program import Program

Clock = Callable[[], float]
_CAPTURED = "lpot_captured"
"""Where a node says how it was called when it was captured."""
_INTEGERS = (torch.uint8, torch.int8)
_AHEAD = Quantize, QuantizeDivided, QuantizeProduct, QuantizeRows, Divide
"""What is done for the ops that read it, not for those that it reads."""


class NodeTimes:
    """The nodes of one program, in whatever precision its ops are, and what each of them takes.

    Ops are told by ``Int8Layer.op``; all that may be int8 have to be so when this is made.

    Args:
        program: of one graph.
        inputs: of one call.
        clock: gives seconds.

    Attributes:
        ops: that are kernels here.
    """

    def __init__(self, program: Program, inputs: Sequence[Any], clock: Clock) -> None:
        graph = program.captured.graph
        self._program, self._inputs, self._clock = program, _own(graph, inputs), clock
        for node in graph.nodes:
            node.meta[_CAPTURED] = node.name
        spelt = program.drafted(self._inputs, ())
        layers = {_name(node): kernel.op for node, kernel in _kernels(spelt)}
        self.ops = set(layers.values())
        self._first = _DraftRun(program.drafted(self._inputs))
        self._first.times(self._inputs, clock)
        kept = self._first.kept({node.name: node.target for node in graph.nodes})
        known = {node: layers.get(node.name) for node in graph.nodes}
        mine = [node for node in graph.nodes if node.name not in kept]
        self._captured = {one.name: op for one, op in _spread(known, mine).items()}

    @property
    def chains(self) -> list[set[str]]:
        """The ops between which values stay integers, from floats to floats."""
        owners = {node: kernel.op for node, kernel in _kernels(self._first.draft)}
        found: list[set[fx.Node]] = [{node} for node in owners]
        for linked in self._first.linked():
            found = _joined(found, linked)
        return [{owners[node] for node in one if node in owners} for one in found]

    def int8(self) -> dict[str, float]:
        """Run the program with all ops in int8, and return the seconds of each op."""
        return self._of_ops(self._first)

    def make(self) -> Callable[[], dict[str, float]]:
        """Return what runs the program as its ops are now, and gives the seconds of each op."""
        run = _DraftRun(self._program.drafted(self._inputs))
        run.times(self._inputs, self._clock)
        return partial(self._of_ops, run)

    def _of_ops(self, run: _DraftRun) -> dict[str, float]:
        owners, found = run.owners(self._captured), defaultdict[str, float](float)
        for node, seconds in run.times(self._inputs, self._clock).items():
            if node in owners:
                found[owners[node]] += seconds
        return found


class _DraftRun:
    """A draft that is run node by node."""

    def __init__(self, draft: Drafted) -> None:
        draft.finish()
        self.draft = draft
        self._steps = {node: draft.step(node) for node in draft.graph.nodes}
        self._computes = {node: _compute(draft, node) for node in draft.graph.nodes}
        self._integers: set[fx.Node] = set()

    def times(self, inputs: Sequence[Any], clock: Clock) -> dict[fx.Node, float]:
        """Return the seconds of each node."""
        run = _Interpreter(self.draft.module, self._computes, clock)
        run.run(*inputs)
        self._integers = {node for node in run.of_integers if self._is_integer(node, run)}
        return run.seconds

    def _is_integer(self, node: fx.Node, run: _Interpreter) -> bool:
        """Whether a node gives integers that stand for floats: not those of the caller's data."""
        made = self._steps[node] is not None
        return made or any(one in run.of_integers for one in node.all_input_nodes)

    def kept(self, targets: Mapping[str, Any]) -> set[str]:
        """Return the captured nodes that still compute with floats.

        What stands behind a kernel, as the layout that the model gave, has the notes of the node in
        whose place the kernel is, and is another function.

        Args:
            targets: what each captured node calls.
        """
        return {
            name
            for node, step in self._steps.items()
            if step is None and node not in self._integers
            if targets.get(name := _name(node)) == node.target and _CAPTURED in node.meta
        }

    def linked(self) -> Iterator[set[fx.Node]]:
        """Yield the nodes that share integers."""
        for node in self._integers:
            users = [user for user in node.users if self._is_ours(user)]
            yield {node, *users}

    def _is_ours(self, node: fx.Node) -> bool:
        return self._steps[node] is not None or node in self._integers

    def owners(self, captured: Mapping[str, str]) -> dict[fx.Node, str]:
        """Return which op each node is for."""
        known: dict[fx.Node, str | None] = dict.fromkeys(self._steps)
        for node, step in self._steps.items():
            own = step.op if isinstance(step, Int8Layer) else None
            known[node] = own or (captured.get(_name(node)) if step is None else None)
        mine = [node for node in self._steps if known[node] or self._is_ours(node)]
        return _spread(known, mine, {node for node in mine if self._goes_ahead(node)})

    def _goes_ahead(self, node: fx.Node) -> bool:
        return isinstance(self._steps[node], _AHEAD)


class _Interpreter(fx.Interpreter):
    """Runs a graph and looks at the clock before and after each node."""

    def __init__(
        self, module: fx.GraphModule, computes: Mapping[fx.Node, Any], clock: Clock
    ) -> None:
        super().__init__(module)
        self._computes, self._clock = computes, clock
        self.seconds: dict[fx.Node, float] = {}
        self.of_integers: set[fx.Node] = set()

    def run_node(self, n: fx.Node) -> Any:
        """Return what a node gives."""
        compute = self._computes[n]
        if compute is None:
            return super().run_node(n)
        args, kwargs = self.fetch_args_kwargs_from_env(n)
        started = self._clock()
        found = compute(*args, **kwargs)
        self.seconds[n] = self._clock() - started
        first = found[0] if isinstance(found, tuple) and found else found  # of rows
        if isinstance(first, Tensor) and first.dtype in _INTEGERS:
            self.of_integers.add(n)
        return found


def _own(graph: fx.Graph, inputs: Sequence[Any]) -> list[Any]:
    """Return inputs, as copies where the graph writes to them: it is run again and again."""
    places = [node for node in graph.nodes if node.op == "placeholder"]
    changed = written(graph)
    return [
        value.clone() if node in changed and isinstance(value, Tensor) else value
        for node, value in zip(places, inputs, strict=True)
    ]


def _compute(draft: Drafted, node: fx.Node) -> Callable[..., Any] | None:
    """Return what computes a node, as it is chosen now; ``None`` for what computes nothing."""
    step = draft.step(node)
    if step is not None:
        return step.forward
    if node.op == "call_method":
        return _method(str(node.target))
    if node.op != "call_function":
        return None
    target: Any = node.target
    return _layer(str(node.args[1])) if target is call_layer else target


def _method(name: str) -> Callable[..., Any]:
    return lambda owner, *args, **kwargs: getattr(owner, name)(*args, **kwargs)


def _layer(name: str) -> Callable[..., Any]:
    """Return what computes for a layer, whatever is chosen for it later."""
    forward = layer_of(name)
    layer: nn.Module = forward.layer
    computes = type(layer).forward.__get__(layer) if forward.int8 is None else forward.int8.forward
    return lambda x, _: computes(x)


def _kernels(draft: Drafted) -> Iterator[tuple[fx.Node, Int8Layer]]:
    for node in draft.graph.nodes:
        step = draft.step(node)
        if isinstance(step, Int8Layer):
            yield node, step


def _name(node: fx.Node) -> str:
    return str(node.meta.get(_CAPTURED, node.name))


def _joined(groups: Iterable[set[fx.Node]], linked: set[fx.Node]) -> list[set[fx.Node]]:
    """Return groups, those that share nodes with ``linked`` as one."""
    apart = [one for one in groups if not one & linked]
    return [*apart, linked.union(*(one for one in groups if one & linked))]


def _spread(
    known: Mapping[fx.Node, str | None],
    mine: Sequence[fx.Node],
    ahead: Collection[fx.Node] = (),
) -> dict[fx.Node, str]:
    """Return the op of each of ``mine``: its own, else that of what it reads, else of its readers.

    Args:
        known: the ops of some.
        mine: in the order of the graph.
        ahead: what is done for those who read it.
    """
    found = {node: op for node in mine if (op := known.get(node))}
    for node in mine:
        if node not in found and node not in ahead:
            _take(found, node, node.all_input_nodes)
    for node in reversed(mine):
        if node not in found:
            _take(found, node, node.users)
    for node in mine:
        if node not in found:
            _take(found, node, node.all_input_nodes)
    return found


def _take(found: dict[fx.Node, str], node: fx.Node, around: Iterable[fx.Node]) -> None:
    op = next((found[one] for one in around if one in found), None)
    if op is not None:
        found[node] = op
