"""Let graphs compute what modules computed, and undo it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from lpot_lightning.errors import QuantizationError
from lpot_lightning.module.copying import is_compiled
from lpot_lightning.module.fast_path import ways_around
from lpot_lightning.module.folding import other_hooks
from lpot_lightning.module.placeholder import WeightPlaceholder

Key = TypeVar("Key")
Undo = Callable[[], None]

HELD = "lpot_int8"
"""The name of a graph among the children of the module that it computes for."""
TYPE = "lpot_type"
"""The name of an empty parameter, where the last one is gone that told a type and a device."""

_CONTAINERS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)


@dataclass(frozen=True)
class StandIn:
    """What computes in place of a module's ``forward``.

    Args:
        graph: takes and gives what ``forward`` does; its tensors are the model's from then on.
        shared: tensors of the graph that are the module's own, by name: the graph's, the module's.
        gone: names of the module's tensors that nobody needs any more.
        forward: computes in place of ``graph``, which it calls or does not.
    """

    graph: nn.Module | None
    shared: Mapping[str, str] = field(default_factory=dict)
    gone: Collection[str] = ()
    forward: Callable[..., Any] | None = None

    @property
    def computes(self) -> Callable[..., Any]:
        """What ``forward`` of the module becomes."""
        if self.forward is not None:
            return self.forward
        assert self.graph is not None
        return self.graph.forward


class Inside:
    """What the ``forward`` of a layer is that computes as a piece of a graph only."""

    def __init__(self, layer: str, graph: str) -> None:
        self._layer, self._graph = layer, graph

    def __call__(self, *_: object, **__: object) -> None:
        """Say so."""
        raise QuantizationError(
            f"`{self._layer}` computes in int8 inside of `{self._graph}` only: call that; or call"
            f" the part that you need in `validation_step` too, then it is quantized by itself"
        )


@contextmanager
def replaced(model: nn.Module, parts: Mapping[str, StandIn]) -> Iterator[nn.Module]:
    """Let ``parts`` compute for the modules at their paths, for the time of the ``with``.

    Example::

        with replaced(model, {"net": StandIn(nn.Flatten())}) as judged:
            judged(images).shape  # [4, 64]
    """
    done: list[Undo] = []
    try:
        for undo in _exchanged(model, parts):
            done.append(undo)
        yield model
    finally:
        for undo in reversed(done):
            undo()


def put(model: nn.Module, parts: Mapping[str, StandIn]) -> None:
    """Let ``parts`` compute for good; what their modules do not need any more is gone.

    The modules stay what and where they are: their attributes, methods, hooks and names work.
    """
    for _ in _exchanged(model, parts):
        pass
    if parts:
        model.register_load_state_dict_pre_hook(_refuse_fp32)  # type: ignore[no-untyped-call]
        if callable(getattr(model, "configure_optimizers", None)):  # a LightningModule
            vars(model)["configure_optimizers"] = _refuse_training


@contextmanager
def computing(model: nn.Module, forwards: Mapping[str, Callable[..., Any]]) -> Iterator[nn.Module]:
    """Let ``forwards`` compute for the modules at their paths, for the time of the ``with``."""
    undo = let_compute(model, forwards)
    try:
        yield model
    finally:
        undo()


def let_compute(model: nn.Module, forwards: Mapping[str, Callable[..., Any]]) -> Undo:
    """Let ``forwards`` compute for the modules at their paths, and return what ends it.

    Nothing else of the modules changes: their layers, tensors, names and hooks are what they were.
    """
    done: list[Undo] = []
    for path, forward in forwards.items():
        done.append(_set(model.get_submodule(path), {"forward": forward}))
        done += [_set(above, ways_around(above)) for above in _above(model, path)]

    def undo() -> None:
        while done:
            done.pop()()

    return undo


def without_compiler(model: nn.Module) -> Undo:
    """Let modules that ``torch.compile`` gave compute as they are written; return what ends it."""
    done: list[Undo] = []
    for module in model.modules():
        if is_compiled(module):
            done.append(_set(module, {"forward": module._orig_mod.__call__}))
        if vars(module).get("_compiled_call_impl") is not None:  # by `module.compile()`
            done.append(_set(module, {"_compiled_call_impl": None}))

    def undo() -> None:
        while done:
            done.pop()()

    return undo


def _refuse_fp32(_: nn.Module, state: Mapping[str, Any], *__: object) -> None:
    """Tell what torch would call a ``KeyError``: ``ckpt_path`` names fp32 weights, for one."""
    if not any(HELD in name.split(".") for name in state):
        raise QuantizationError(
            "the model is int8 and the weights to be loaded are not: leave `ckpt_path` out; int8 is"
            " restored by `lpot_lightning.load` and `load_from_checkpoint`"
        )


def _refuse_training(*_: object, **__: object) -> None:
    """Tell, before the first batch, what torch says of a tensor without gradients, after it."""
    raise QuantizationError(
        "an int8 model cannot be trained, it has no gradients: train the fp32 model, with"
        " `QATCallback` for weights that are good in int8, and quantize it"
    )


def _exchanged(model: nn.Module, parts: Mapping[str, StandIn]) -> Iterator[Undo]:
    led: set[int] = set()
    for path, part in parts.items():
        module = model.get_submodule(path)
        for ours, theirs in part.shared.items():
            assert part.graph is not None
            _tie(part.graph, ours, module, theirs)
        for name in part.gone:
            where, _, last = name.rpartition(".")
            owner = module.get_submodule(where)
            layer = ".".join(piece for piece in (path, where) if piece)
            yield from _taken_out(owner, last, layer or type(model).__name__)
            yield _set(owner, {"forward": Inside(layer, path or type(model).__name__)})
        if part.gone and isinstance(module, nn.RNNBase):  # which holds its weights twice
            flat = [getattr(module, name) for name in module._flat_weights_names]
            yield _set(module, {"_flat_weights": flat, "_flat_weight_refs": [None] * len(flat)})
        if part.graph is not None:
            yield from _registered(model, path, part.graph)
        yield _set(module, {"forward": part.computes})
        if part.gone:
            yield _items_kept(module._forward_pre_hooks)
            _keep_only(module._forward_pre_hooks, other_hooks(module))
        if not _has_own(module) and next(module.parameters(), None) is None:
            yield _items_kept(module._parameters)
            module._parameters[TYPE] = nn.Parameter(torch.empty(0), requires_grad=False)
        for above in _above(model, path):
            if id(above) not in led:
                led.add(id(above))
                yield _set(above, ways_around(above))


def _has_own(module: nn.Module) -> bool:
    return any(one is not None for one in module._parameters.values())


def _keep_only(held: dict[int, Any], wanted: Mapping[int, Any]) -> None:
    for key in list(held):
        if key not in wanted:
            del held[key]


def _tie(graph: nn.Module, ours: str, module: nn.Module, theirs: str) -> None:
    """Let ``graph`` use a tensor of ``module`` as its own."""
    where, _, name = theirs.rpartition(".")
    owner = module.get_submodule(where)
    tensor: Tensor | None = {**owner._buffers, **owner._parameters}[name]
    where, _, name = ours.rpartition(".")
    held = graph.get_submodule(where)
    mine: dict[str, Any] = held._parameters if name in held._parameters else held._buffers
    mine[name] = tensor


def _taken_out(owner: nn.Module, name: str, layer: str) -> Iterator[Undo]:
    """Take a tensor out of the state of ``owner``; what type and shape it had can be asked."""
    for held in (owner._parameters, owner._buffers):
        tensor = held.get(name)
        if tensor is not None:
            yield _items_kept(held)
            held[name] = None
            yield _set(owner, {name: WeightPlaceholder.of(tensor, layer)})


def _registered(model: nn.Module, path: str, graph: nn.Module) -> Iterator[Undo]:
    """Make ``graph`` a part of the model's state."""
    host, names = _host(model, path)
    for name in names[:-1]:
        yield _items_kept(host._modules)
        host._modules.setdefault(name, nn.Module())
        host = host.get_submodule(name)
    yield _items_kept(host._modules)
    host._modules[names[-1]] = graph


def _host(model: nn.Module, path: str) -> tuple[nn.Module, list[str]]:
    """Return which module has the graph for the one at ``path``, and its names from there.

    It is the module itself; but the children of a container are counted and gone through, so that
    the graph of one is held by the nearest module around it that is none.
    """
    host, names, above = model.get_submodule(path), [HELD], path
    while isinstance(host, _CONTAINERS) and above:
        above, _, name = above.rpartition(".")
        host, names = model.get_submodule(above), [HELD, name, *names[1:]]
    if isinstance(host, _CONTAINERS):
        return model.get_submodule(path), [HELD]
    return host, names


def _above(model: nn.Module, path: str) -> Iterator[nn.Module]:
    """Yield the module at ``path`` and all around it."""
    above = [model]
    for name in path.split(".") if path else ():
        above.append(above[-1].get_submodule(name))
    yield from reversed(above)


def _set(module: nn.Module, attributes: Mapping[str, Any]) -> Undo:
    """Give ``module`` attributes of its own and return what takes them away again."""
    own = vars(module)
    before = {name: own[name] for name in attributes if name in own}
    own.update(attributes)

    def undo() -> None:
        for name in attributes:
            del own[name]
        own.update(before)

    return undo


def _items_kept(held: dict[Key, Any]) -> Undo:
    """Return what gives a mapping its present items back, in their order."""
    before = dict(held)

    def undo() -> None:
        held.clear()
        held.update(before)

    return undo
