"""The int8 program of one graph: what computes it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch.nn.functional as F
from torch import fx, nn

from lpot_lightning.quantization.graph.capture import Captured
from lpot_lightning.quantization.graph.guards import Outdated, only_norms_read
from lpot_lightning.quantization.graph.learned import Learned
from lpot_lightning.quantization.graph.ops import call_recurrent, layer_of
from lpot_lightning.quantization.graph.sources import attributes, constants
from lpot_lightning.quantization.graph.tracing import is_tracing, paused
from lpot_lightning.quantization.kernels.layers import Int8Layer
from lpot_lightning.quantization.kernels.proof import leave_to_arithmetic, shapes_seen
from lpot_lightning.quantization.program.chains import lengthen
from lpot_lightning.quantization.program.draft import MADE_BY, Drafted
from lpot_lightning.quantization.program.fewer_passes import quantize_within
from lpot_lightning.quantization.program.functions import spell_functions
from lpot_lightning.quantization.program.layouts import lay_out
from lpot_lightning.quantization.program.moves import quantize_once, quantize_sooner
from lpot_lightning.quantization.program.narrow import Narrow, cast_less, compute_in_bf16
from lpot_lightning.quantization.program.scaling import divide_sooner
from lpot_lightning.quantization.program.scripted import Scripted
from lpot_lightning.quantization.program.streams import read_integers
from lpot_lightning.quantization.program.watched import Watched
from lpot_lightning.quantization.program.written_out import put_together
from lpot_lightning.quantization.recurrent import WeightOnlyRecurrent
from lpot_lightning.quantization.rungs import WeightOnlyLayer

PASSES = (
    put_together, divide_sooner, quantize_once, read_integers, quantize_sooner, lengthen,
    quantize_within, cast_less,
)  # fmt: skip


class Program:
    """Computes a graph with what could be moved into its kernels.

    What is folded are tensors of the user's modules and of the layers. When one of them is another
    or has changed, or another int8 form of a layer was chosen, it is made again.

    Args:
        graph: as it was captured; it is left as it is.
        inputs: of its first call.
        narrow: whether what is no layer is bfloat16; without it nothing is.

    Attributes:
        captured: that graph.
        looks_at: names of its placeholders that nobody else has to look at in each call.

    Example::

        vars(module)["forward"] = Captured(module, Program)
    """

    def __init__(
        self, graph: fx.GraphModule, inputs: Sequence[Any], narrow: Narrow | None = None
    ) -> None:
        self.captured, self._held = graph, constants(graph, inputs)
        self._attributes, self._narrow = attributes(graph), narrow or Narrow()
        self.looks_at = only_norms_read(graph, self._held)
        self._computes: Callable[..., Any]
        self._plainly: Callable[..., Any]
        self._make(inputs)

    def __call__(self, *inputs: Any) -> Any:
        """Return what the graph gives."""
        self._keep_up(inputs)
        if is_tracing():  # two traces are compared, with the file of each op: not one of its own
            return fx.Interpreter(self._draft.module).run(*inputs)
        found = self._computes(*inputs) if self._is_proved else self._proved(inputs)
        if self._trains:
            Learned.note()
        return found

    def simulated(self, *inputs: Any) -> Any:
        """Return what the program gives by plain arithmetic in place of kernels, on any CPU."""
        self._keep_up(inputs)
        with _exactly(self._draft):
            return self._plainly(*inputs)

    @property
    def graph(self) -> fx.Graph:
        """Its steps."""
        return self._draft.graph

    @property
    def kernels(self) -> list[Int8Layer]:
        """Its layers with a weight, in the order of its steps."""
        steps = map(self._draft.step, self.graph.nodes)
        return [one for one in steps if isinstance(one, Int8Layer)]

    @property
    def kept(self) -> list[WeightOnlyLayer | WeightOnlyRecurrent]:
        """Its layers that compute in floats with weights that are kept as integers."""
        found = (self._draft.step(node) or _recurrent(node) for node in self.graph.nodes)
        return [one for one in found if isinstance(one, WeightOnlyLayer | WeightOnlyRecurrent)]

    @property
    def code(self) -> str:
        """The program as Python, a line a step, each with the pass that made it."""
        lines = []
        for node in self.graph.nodes:
            if node.op in ("placeholder", "output"):
                continue
            step = self._draft.step(node)
            what = _shown(node) if step is None else f"{type(step).__name__}({step.extra_repr()})"
            given = ", ".join(map(str, node.args))
            made_by = node.meta.get(MADE_BY, "captured")
            lines.append(f"{node.name} = {what}({given})  # {made_by}")
        return "\n".join(lines)

    def drafted(
        self, inputs: Sequence[Any], passes: Sequence[Callable[[Drafted], None]] = PASSES
    ) -> Drafted:
        """Return the graph as the program of what is chosen for its layers now."""
        draft = Drafted(self.captured, inputs, self._held)
        spell_functions(draft, self._attributes)
        lay_out(draft)
        if self._narrow.on:
            compute_in_bf16(draft)
        for make in passes:
            make(draft)
        return draft

    def _make(self, inputs: Sequence[Any]) -> None:
        draft = self.drafted(inputs)
        self._is_proved = False
        self._computes = self._plainly = draft.finish()
        self._draft = draft
        self._trains = any(map(_trains, draft.graph.nodes))
        self._watched = Watched(draft.sources, self._places(draft), draft.numbers, inputs)
        self._seen = self._state(inputs)

    def _proved(self, inputs: Sequence[Any]) -> Any:
        """Return what the graph gives, once its kernels are proved for what this call shows them.

        What a kernel gets wrong is left to plain arithmetic, alone.
        """
        with shapes_seen(self.kernels) as seen:
            found = self._plainly(*inputs)
        wrong = leave_to_arithmetic(seen)
        self._computes = Scripted(self._draft, self._draft.warm())
        self._is_proved = True
        return self._computes(*inputs) if wrong else found

    def _keep_up(self, inputs: Sequence[Any]) -> None:
        """Make the program anew where it is not that of now."""
        if self._state(inputs) != self._seen:
            if not self._watched.fits(inputs):
                raise Outdated("a tensor that it was made for is of another kind")
            self._make(inputs)

    def _places(self, draft: Drafted) -> list[int]:
        """Return the places of inputs that may change from call to call without a guard."""
        names = [node.name for node in draft.graph.nodes if node.op == "placeholder"]
        norms = (place for place, name in enumerate(names) if name in self.looks_at)
        return list(dict.fromkeys([*draft.folded, *norms]))

    def _state(self, inputs: Sequence[Any]) -> list[Any] | None:
        if not is_tracing():
            return self._of_now(inputs)
        with paused():  # numbers are asked of tensors
            return self._of_now(inputs)

    def _of_now(self, inputs: Sequence[Any]) -> list[Any] | None:
        state = self._watched.state(inputs)
        return state and [self._narrow.on, *state]


def programs_of(model: nn.Module) -> dict[str, list[Program]]:
    """Return the programs of each module that graphs compute for, as far as it was called.

    Example::

        print(programs_of(result.model)[""][0].code)
    """
    forwards = {path: vars(one).get("forward") for path, one in model.named_modules()}
    captured = {path: one for path, one in forwards.items() if isinstance(one, Captured)}
    return {
        path: [made for made in one.lowered if isinstance(made, Program)]
        for path, one in captured.items()
    }


def _trains(node: fx.Node) -> bool:
    """Whether a node is a norm that may learn."""
    given = dict(enumerate(node.args)) | node.kwargs
    return node.target is F.batch_norm and given.get(5, given.get("training", False)) is not False


def _recurrent(node: fx.Node) -> nn.Module | None:
    """Return what computes for a recurrent layer."""
    found: nn.Module | None = None
    if node.target is call_recurrent:
        found = layer_of(str(node.args[2])).int8
    return found


def _shown(node: fx.Node) -> str:
    return (
        node.target if isinstance(node.target, str) else str(getattr(node.target, "__name__", ""))
    )


@contextmanager
def _exactly(draft: Drafted) -> Iterator[None]:
    kernels = [one for one in draft.module.modules() if isinstance(one, Int8Layer)]
    before = [one.exact for one in kernels]
    try:
        for kernel in kernels:
            kernel.exact = True
        yield
    finally:
        for kernel, exact in zip(kernels, before, strict=True):
            kernel.exact = exact
