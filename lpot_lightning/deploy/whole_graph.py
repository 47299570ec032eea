"""One graph of all that a method of a model computes, int8 layers as one op each."""

from __future__ import annotations

import inspect
import logging
import re
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch._dynamo as dynamo
from torch import Tensor, fx, nn

from lpot_lightning.deploy.calls import BATCH, Input, ResultForm, Signature, tensors_in
from lpot_lightning.errors import ConfError, ExportError, did_you_mean, in_one_line, in_short
from lpot_lightning.module.copying import copy_of
from lpot_lightning.module.fast_path import ways_around
from lpot_lightning.quantization.graph.capture import Captured
from lpot_lightning.quantization.graph.own_code import forget, with_own_code
from lpot_lightning.quantization.layer_forward import LayerForward
from lpot_lightning.quantization.program.program import Program
from lpot_lightning.quantization.quantized_layer import RECURRENT
from lpot_lightning.quantization.rungs import WeightForm

_FIXED: dict[str, Any] = {
    "assume_static_by_default": True,
    "automatic_dynamic_shapes": False,
    "specialize_float": True,
    "allow_unspec_int_on_nn_module": False,
    "skip_nnmodule_hook_guards": True,
    "allow_rnn": True,
}
"""Numbers are those of the example; sizes too, but for those that are marked."""
_ALL, _MOST = 1 << 20, 300
_FRAME = re.compile(r'File "([^"]+)", line (\d+)')
_NOT_YOURS = str(Path(torch.__file__).parent), str(Path(__file__).parents[1])
_DECIDED = re.compile(r"Could not guard on data-dependent expression (.{1,80}?) \(unhinted")
_SYMBOL = re.compile(r"\bz?u[fi]?\d+\b")
"""How torch names a number that is known only while the model runs."""
MARKED = re.compile(r"You marked (.+?\))\. If you're using")
"""How torch says which size is fixed, before its advice."""


@dataclass(frozen=True, kw_only=True)
class WholeGraph:
    """What a method computes.

    Args:
        model: a copy whose layers the graph names; it has to live as long as that.
        signature: what the method is called with.
        given: what it gives.
        program: of the graph.
        values: of the graph's inputs, in the order of their placeholders.
        held: names of those that the model holds, by the place, with dots.
        sizes: those that are sizes of inputs, by the place: which input, which dimension.
        places: of inputs of the signature, by the place; others the graph does nothing with.
        picked: what the method gives: ``"result"`` and the number of one of the graph, or
            ``"input"`` and the place of one that is given back.
    """

    model: nn.Module
    signature: Signature
    given: ResultForm
    program: Program
    values: Sequence[Any]
    held: Mapping[int, str]
    sizes: Mapping[int, tuple[int, int]]
    places: Mapping[int, int]
    picked: Sequence[tuple[str, int]]

    @property
    def used(self) -> tuple[int, ...]:
        """The numbers of the inputs that are inputs of the file."""
        given_back = {number for kind, number in self.picked if kind == "input"}
        sized = {number for number, _ in self.sizes.values()}
        return tuple(sorted({*self.places.values(), *given_back, *sized}))

    @property
    def inputs(self) -> tuple[Input, ...]:
        """The inputs of the file."""
        return tuple(self.signature.inputs[number] for number in self.used)

    def fed(self, tensors: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Return which of the tensors of a call are inputs of the file."""
        return tuple(tensors[number] for number in self.used)

    def one_sample(self, tensors: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Return inputs of the file cut down to one sample, as far as they have a ``batch``."""
        return self._cut(tensors, lambda name, size: 1 if name == BATCH else size)

    def halved(self, tensors: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Return inputs of the file with half of each size that may be any and is no ``batch``."""
        return self._cut(tensors, lambda name, size: size if name == BATCH else (size + 1) // 2)

    def _cut(self, tensors: Sequence[Tensor], to: Callable[[str, int], int]) -> tuple[Tensor, ...]:
        found = []
        for tensor, one in zip(tensors, self.inputs, strict=True):
            for dim, name in one.dynamic.items():
                tensor = tensor.narrow(dim, 0, to(name, tensor.shape[dim]))
            found.append(tensor)
        return tuple(found)


def whole_graph(
    model: nn.Module,
    path: str,
    signature_of: Callable[[Callable[..., Any]], Signature],
    output_names: Sequence[str] | None = None,
) -> WholeGraph:
    """Capture what a method computes, with int8 layers as they are.

    PyTorch's Dynamo runs the method's Python on the example; what that decides by values, as a loop
    over a length, is decided for good.

    Args:
        model: int8 or fp32, in eval mode; it is left as it is.
        path: of the method, see ``ExportOptions``.
        signature_of: says how it is called.
        output_names: see ``ExportOptions``.

    Raises:
        ConfError: if there is no such method, or the names do not fit.
        ExportError: if it cannot be captured, or fixes a size that is to be any.
    """
    copied = as_written(model)
    function = method_of(copied, path)
    signature = signature_of(function)
    capture = _Capture(copied, signature)
    return capture.whole(capture.run(function), output_names)


def method_of(model: nn.Module, path: str) -> Callable[..., Any]:
    """Return what ``path`` names: a method, or the ``forward`` of a module.

    Raises:
        ConfError: if there is nothing of that name that can be called.
    """
    where, _, last = path.rpartition(".")
    known = dict(model.named_modules())
    if path in known:
        return _forward_of(known[path])
    if where in known and last == "forward":
        return _forward_of(known[where])
    found = getattr(known.get(where), last, None)
    if callable(found):
        method: Callable[..., Any] = found
        return method
    methods = [name for name, _ in inspect.getmembers(type(model), inspect.isfunction)]
    raise ConfError(
        f"`method` is `{path}`, which `{type(model).__name__}` has not; allowed: the name of a"
        f" method or the path of a module.{did_you_mean(path, [*known, *methods])}"
    )


def _forward_of(module: nn.Module) -> Callable[..., Any]:
    own: Callable[..., Any] | None = vars(module).get("forward")
    return own or types.MethodType(type(module).forward, module)


def as_written(model: nn.Module) -> nn.Module:
    """Return a copy without graphs: its layers are int8 by themselves, and know their names."""
    copied = copy_of(model, share_tensors=True)
    for path, module in copied.named_modules():
        own = vars(module)
        forward = own.get("forward")
        if isinstance(forward, Captured):
            own.pop("forward")
            own.update({} if forward.given is None else {"forward": forward.given})
        elif isinstance(forward, LayerForward) and _is_as_in_torch(forward):
            own.pop("forward")
        elif isinstance(forward, LayerForward):
            _name_kernel(forward, path)
        own.update(ways_around(module))
    return copied


def _is_as_in_torch(forward: LayerForward) -> bool:
    """Whether a graph may hold what torch computes by: files have no word for such a layer."""
    return forward.int8 is None and isinstance(forward.layer, RECURRENT)


def _name_kernel(forward: LayerForward, path: str) -> None:
    forward.op = path
    if isinstance(forward.int8, WeightForm):
        forward.int8.kernel.op = path
    elif isinstance(forward.layer, nn.EmbeddingBag) and forward.int8 is not None:
        vars(forward.layer)["forward"] = forward.int8.forward  # plain torch: a graph may hold it


class _Capture:
    """A backend of Dynamo that keeps the one graph that it is given.

    Args:
        model: whose method is captured.
        signature: of that.
    """

    def __init__(self, model: nn.Module, signature: Signature) -> None:
        self._model, self._signature = model, signature
        self._call, self._marked = signature.marked()
        self._program: Program | None = None
        self._values: list[Any] = []
        self._shapes: list[Sequence[Any]] = []
        self._held: dict[int, str] = {}
        self._results: list[Any] = []

    def __call__(self, graph: fx.GraphModule, values: Sequence[Any]) -> Callable[..., Any]:
        """Take a graph, and return what computes it."""
        nodes = [node for node in graph.graph.nodes if node.op == "placeholder"]
        self._values, self._shapes = list(values), [_shape_of(node) for node in nodes]
        self._program, self._held = Program(graph, values), self._names(nodes)

        def compute(*given: Any) -> Any:
            self._results = list(graph.forward(*given))
            return self._results

        return compute

    def run(self, function: Callable[..., Any]) -> Any:
        """Return what ``function`` gives for the example."""

        def call(*args: Any, **kwargs: Any) -> Any:
            return function(*args, **kwargs)

        own = with_own_code(call)  # type: ignore[arg-type]
        try:
            with _quietly(), torch.no_grad(), dynamo.config.patch(_FIXED):
                compiled = torch.compile(own, backend=self, fullgraph=True)
                return compiled(*self._call.args, **self._call.kwargs)
        except Exception as error:  # whatever Dynamo, or the user's code, says
            raise self._own_fault(function) or _refused(error, self._signature) from error
        finally:
            forget(own.__code__, own.__globals__)

    def _own_fault(self, function: Callable[..., Any]) -> ExportError | None:
        """Return the error for a call that fails without a capture, too."""
        call, _ = self._signature.marked()
        try:
            with torch.no_grad():
                function(*call.args, **call.kwargs)
        except Exception as error:  # whatever the user's code says
            return ExportError(
                f"`{self._signature.method}` fails with what it is called with here"
                f" ({in_short(error)}): give an `example` as your code calls it"
            )
        return None

    def whole(self, result: Any, output_names: Sequence[str] | None) -> WholeGraph:
        """Return what was captured, once it has run.

        Args:
            result: of the run.
            output_names: see ``ExportOptions``.
        """
        if self._program is None:
            raise ExportError(f"`{self._signature.method}` computes nothing with its tensors")
        numbers = {id(tensor): number for number, tensor in enumerate(self._marked)}
        places = {
            place: numbers[id(value)]
            for place, value in enumerate(self._values)
            if id(value) in numbers
        }
        return WholeGraph(
            model=self._model,
            signature=self._signature,
            given=ResultForm.of(result, output_names, [one.name for one in self._signature.inputs]),
            program=self._program,
            values=self._values,
            held=self._held,
            sizes=self._sizes(places),
            places=places,
            picked=[self._pick(one) for one in tensors_in(result)],
        )

    def _pick(self, tensor: Tensor) -> tuple[str, int]:
        for kind, known in (("result", self._results), ("input", self._marked)):
            for number, one in enumerate(known):
                if one is tensor:
                    return kind, number
        raise ExportError(
            f"`{self._signature.method}` gives a tensor that it has not computed of its inputs;"
            " give it back as a copy, `tensor.clone()`, or leave it out"
        )

    def _names(self, nodes: Sequence[fx.Node]) -> dict[int, str]:
        """Return the names of the tensors that are no inputs, by their place."""
        state = nn.Module.state_dict(self._model, keep_vars=True)
        known = {id(one): name for name, one in state.items() if isinstance(one, Tensor)}
        given = {id(one) for one in self._marked}
        return {
            place: known.get(id(value), node.name)
            for place, (node, value) in enumerate(zip(nodes, self._values, strict=True))
            if isinstance(value, Tensor) and id(value) not in given
        }

    def _sizes(self, places: Mapping[int, int]) -> dict[int, tuple[int, int]]:
        """Return the places of sizes of inputs, each with the input and the dimension."""
        known = {
            str(size): (number, dim)
            for place, number in places.items()
            for dim, size in enumerate(self._shapes[place])
        }
        found = {n: str(one) for n, one in enumerate(self._values) if isinstance(one, torch.SymInt)}
        return {place: known[size] for place, size in found.items()}


def _shape_of(node: fx.Node) -> Sequence[Any]:
    value = node.meta.get("example_value")
    return value.shape if isinstance(value, Tensor) else ()


def _refused(error: Exception, signature: Signature) -> ExportError:
    """Return the error for what cannot be captured, with Dynamo's reason or the code's own."""
    told, method = in_one_line(error, _ALL), f"`{signature.method}`"
    if "onstraint" in type(error).__name__ or "Constraints violated" in told:
        sizes = sorted({name for one in signature.inputs for name in one.dynamic.values()})
        return ExportError(
            f"{method} works for one size of {', '.join(sizes)} only: {_broken(told)}; export it"
            " for that one with `dynamic=False`, or let the code ask for `x.shape`"
        )
    return ExportError(
        f"{method} cannot be written as one graph: {_first(told)}; what a file holds is decided by"
        " shapes alone: leave values out of conditions (`torch.where`), put checks and logs behind"
        " `if not torch.compiler.is_compiling()`, or export a part of it by `method`"
    )


def _first(told: str) -> str:
    """Return what Dynamo says before its advice, and of which line."""
    if decided := _DECIDED.search(told):
        by = _SYMBOL.sub("value", decided[1])
        return f"it decides by a value of a tensor, `{by}`{_line(told)}"
    said = told
    for mark in (" Hint:", "Developer debug context", "from user code", " Set TORCHDYN"):
        said = said.partition(mark)[0]
    said = said.partition(" Explanation:")[0] if "branching" in said else said
    return f"{said.strip(' .;')[:_MOST]}{_line(told)}"


def _broken(told: str) -> str:
    """Return which size is fixed, and in which line."""
    found = MARKED.search(told)
    return f"{_first(told) if found is None else found[1]}{_line(told) if found else ''}"


def _line(told: str) -> str:
    """Return the line of the user's code that torch tells, the innermost one."""
    found = [one for one in _FRAME.findall(told) if not any(own in one[0] for own in _NOT_YOURS)]
    return f", in line {found[-1][1]} of `{Path(found[-1][0]).name}`" if found else ""


@contextmanager
def _quietly() -> Iterator[None]:
    """Keep back what Dynamo logs of a size that is fixed: the error says it."""
    logger = logging.getLogger("torch._guards")
    before = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(before)
