"""A module that can be copied, whatever became of it in training."""

from __future__ import annotations

import copy
from collections import OrderedDict
from collections.abc import Collection, Iterable, Iterator, Sequence
from itertools import chain
from typing import Any, TypeGuard, TypeVar

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from lpot_lightning.errors import QuantizationError, in_short
from lpot_lightning.module.flow import is_in

Model = TypeVar("Model", bound=nn.Module)
_SCALARS = frozenset((bool, int, float, str, type(None)))
_COPIED_BY = ("__deepcopy__", "__getnewargs__", "__getnewargs_ex__", "__slots__")
_AS_EVER = ("__new__", "__reduce_ex__", "__reduce__")
_MAPPINGS = frozenset((OrderedDict, dict, set))
"""What a module has ten of for hooks that it has not; `deepcopy` is slow at empty ones."""
_OF_TENSORS = ("_parameters", "_buffers")
_OTHER_TYPES = (torch.bfloat16, torch.float16, torch.float64)


class Uncompiled(nn.Module):
    """Stands where a ``torch.compile``d module stood, with the same names, and calls it plainly."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self._orig_mod = module

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Call what was compiled."""
        return self._orig_mod(*args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        """Return what the module has: a compiled one gives its attributes on, too."""
        try:
            return super().__getattr__(name)
        except AttributeError:
            if name.startswith("__"):  # how to copy it is its own affair
                raise
            return getattr(self._modules["_orig_mod"], name)


def copy_of(
    model: Model,
    *,
    share_tensors: bool = False,
    values: bool = True,
    kept: Iterable[nn.Module] = (),
) -> Model:
    """Return a deep copy of ``model``, as it is without ``torch.compile``.

    Tensors that belong to an autograd graph, as a stored activation does, are copied as values;
    torch refuses them. Hooks of a profiler are no part of the model; other hooks that cannot be
    copied, as those of a logger that holds a lock, are the same in the copy.

    Args:
        model: left as it is.
        share_tensors: whether parameters and buffers are those of ``model``: to see whether it
            can be copied, without the memory.
        values: whether parameters have their values; others have the memory alone, which nobody has
            written to.
        kept: modules inside of it that are the same in the copy.
    """
    memo: dict[int, Any] = {id(module): module for module in kept}
    modules = list(model.modules())
    for module in modules:
        memo.update(_values(module, share_tensors))
        memo.update(() if values else _places(module))
    profilers = dict(_without_profilers(modules))
    memo.update(profilers)
    try:
        copied_model = _deep_copy(model, modules, dict(memo))
    except Exception:
        shared = _not_copyable(modules)
        if not shared:
            raise
        copied_model = _deep_copy(model, modules, memo | shared)
    if profilers:
        _take_out(copied_model)
    for before, after in zip(modules, copied_model.modules(), strict=True):
        for name in _compiled(before).keys() - {"_compiler_ctx"}:
            del vars(after)[name]
    return copied_model


def _deep_copy(model: Model, modules: Sequence[nn.Module], memo: dict[int, Any]) -> Model:
    compiled = {kind for kind in set(map(type, modules)) if _is_of_dynamo(kind)}
    for module in reversed(modules):
        memo.update((id(value), None) for value in _compiled(module).values())
        if type(module) in compiled:
            inner: Any = module._orig_mod
            memo[id(module)] = Uncompiled(copy.deepcopy(inner, memo))
    with torch.no_grad():  # the tensors of a scripted module would become results of its own
        _copy_plainly(model, memo)
        return copy.deepcopy(model, memo)


def _copy_plainly(model: nn.Module, memo: dict[int, Any]) -> None:
    """Copy modules whose classes say nothing of how they are copied, for `deepcopy` to take.

    It would do the same, and look at each number of each module in twice the time.
    """
    states: dict[int, dict[str, Any]] = {}
    _plain_copies(model, memo, states, {})
    for place, state in states.items():
        copied = {  # a state may be what the module itself holds
            name: one if type(one) in _SCALARS else _copied_value(one, memo)
            for name, one in state.items()
        }
        memo[place].__setstate__(copied)


def _plain_copies(
    module: nn.Module,
    memo: dict[int, Any],
    states: dict[int, dict[str, Any]],
    plain: dict[type, bool],
) -> None:
    """Begin a copy of ``module`` and of each in it, and note what is to be copied into them.

    Args:
        module: to be copied.
        memo: of ``deepcopy``.
        states: what each of them holds, by its ``id``.
        plain: what is known of classes.
    """
    kind = type(module)
    if kind not in plain:
        plain[kind] = _is_plain(kind)
    if id(module) in memo or not plain[kind] or any(name in vars(module) for name in _COPIED_BY):
        return  # what is in it is copied as its class says
    kept: Any = module
    state = kept.__getstate__()  # a class may leave something out, and put it back
    if type(state) is not dict:
        return
    memo[id(module)], states[id(module)] = object.__new__(kind), state
    for child in module._modules.values():
        if child is not None:
            _plain_copies(child, memo, states, plain)


def _is_plain(kind: type) -> bool:
    """Whether modules of a class are their attributes, and no more, when they are copied."""
    return not any(hasattr(kind, name) for name in _COPIED_BY) and all(
        getattr(kind, name) is getattr(object, name) for name in _AS_EVER
    )


def _copied_value(value: Any, memo: dict[int, Any]) -> Any:
    """Return what ``deepcopy`` would, in a third of the time for what modules mostly hold."""
    kind = type(value)
    if kind in _SCALARS or (kind is tuple and _is_bare(value)):
        return value
    if id(value) in memo:
        return memo[id(value)]
    if kind in _MAPPINGS and not value:
        return memo.setdefault(id(value), kind())
    if kind is dict and all(type(key) is str for key in value):
        made = memo[id(value)] = {}
        made.update((key, _copied_value(one, memo)) for key, one in value.items())
        return made
    if kind is Tensor and _is_alone(value, memo):
        return _copied_tensor(value, memo)
    return copy.deepcopy(value, memo)


def _is_alone(tensor: Tensor, memo: dict[Any, Any]) -> bool:
    """Whether a tensor is all of its memory, of which nothing was copied yet, and no more."""
    if tensor.layout is not torch.strided or not tensor.is_leaf or vars(tensor):
        return False
    storage = tensor.untyped_storage()
    return (
        tensor.device.type == "cpu"
        and not tensor.is_quantized
        and not tensor.requires_grad
        and tensor.is_contiguous()
        and tensor.nbytes == storage.nbytes()
        and storage._cdata not in memo.get("torch", ())  # where torch notes what it copied
    )


def _copied_tensor(tensor: Tensor, memo: dict[Any, Any]) -> Tensor:
    """Do what ``deepcopy`` does of a buffer, whose memory others may show as well."""
    made: Tensor = tensor.detach().clone()
    memo[id(tensor)] = made
    memo.setdefault("torch", {})[tensor.untyped_storage()._cdata] = made.untyped_storage()
    return made


def _hooks(module: nn.Module) -> Iterator[dict[int, Any]]:
    """Yield the mappings of ``module`` that hold hooks, of which there are any."""
    for name, value in vars(module).items():
        if isinstance(value, dict) and value and name.endswith("_hooks"):
            yield value


def _without_profilers(modules: Iterable[nn.Module]) -> Iterator[tuple[int, Any]]:
    """Yield what stands for hooks of profilers, which record each call, by ``id``."""
    for hook in (hook for module in modules for held in _hooks(module) for hook in held.values()):
        method = getattr(hook, "func", hook)  # of a `partial`, as Lightning's `PyTorchProfiler`
        if "profiler" in type(getattr(method, "__self__", None)).__module__:
            yield id(hook), _no_hook


def _no_hook(*_: object, **__: object) -> None:
    """Do nothing."""


def _take_out(model: nn.Module) -> None:
    for held in (held for module in model.modules() for held in _hooks(module)):
        for key in [key for key, hook in held.items() if hook is _no_hook]:
            del held[key]


def _not_copyable(modules: Sequence[nn.Module]) -> dict[int, Any]:
    """Return the hooks that cannot be copied even where no module is copied for them, by ``id``."""
    memo: dict[int, Any] = {id(one): one for one in modules}
    found: dict[int, Any] = {}
    for hook in (hook for module in modules for held in _hooks(module) for hook in held.values()):
        try:
            copy.deepcopy(hook, dict(memo))
        except Exception:  # whatever the classes of others say
            found[id(hook)] = hook
    return found


def is_compiled(module: nn.Module) -> TypeGuard[Uncompiled]:
    """Whether ``torch.compile`` gave ``module``; asking torch itself imports its compiler."""
    return _is_of_dynamo(type(module))


def _is_of_dynamo(kind: type) -> bool:
    return any(one.__module__.startswith("torch._dynamo") for one in kind.__mro__)


def compiled_around(model: nn.Module, paths: Collection[str]) -> list[str]:
    """Return the modules that ``torch.compile`` gave and that are in, or around, one of ``paths``.

    Lightning compiles the steps of a module that was compiled as a whole.
    """
    found = [name for name, one in model.named_modules() if is_compiled(one)]
    whole = [type(model).__name__] if vars(model).get("_compiler_ctx") else []
    return whole + [
        name for name in found if any(is_in(name, one) or is_in(one, name) for one in paths)
    ]


def _values(module: nn.Module, share_tensors: bool) -> Iterator[tuple[int, Tensor]]:
    """Yield what stands for a tensor in the copy, by the ``id`` of the tensor."""
    for value in _tensors(module):
        if share_tensors:
            yield id(value), value
        elif not value.is_leaf:
            yield id(value), value.detach().clone()


def _tensors(module: nn.Module) -> Iterator[Tensor]:
    """Yield the tensors that ``module`` itself holds, also those in plain things."""
    for name, value in vars(module).items():
        if type(value) in _SCALARS or name in ("_modules", "_trainer") or _is_bare(value):
            continue
        held = value.values() if name in _OF_TENSORS else pytree.tree_leaves(value)
        yield from (one for one in held if isinstance(one, Tensor))


def _places(module: nn.Module) -> Iterator[tuple[int, nn.Parameter]]:
    """Yield parameters without values, by the ``id`` of those whose place they take."""
    for value in module._parameters.values():
        if type(value) is nn.Parameter and value.layout is torch.strided:
            place = torch.empty_like(value, device="cpu", requires_grad=False)
            yield id(value), nn.Parameter(place, value.requires_grad)


def _is_bare(value: Any) -> bool:
    if type(value) is tuple:
        return all(type(one) in _SCALARS for one in value)
    return type(value) in _MAPPINGS and not value


def _compiled(module: nn.Module) -> dict[str, Any]:
    """Return what Lightning puts into a module that was compiled as a whole.

    Its steps are bound to the module: in a copy they would still run that one.
    """
    own = vars(module)
    context = own.get("_compiler_ctx")
    if context is None:
        return {}
    names = (name.removeprefix("original_") for name in context if name.startswith("original_"))
    return {name: own[name] for name in ("_compiler_ctx", *names) if name in own}


def other_types(model: nn.Module) -> tuple[torch.dtype, ...]:
    """Return the half and double precision types that parameters of ``model`` are in."""
    found = {value.dtype for value in model.parameters()}
    return tuple(one for one in _OTHER_TYPES if one in found)


def second_model(model: Model, *, values: bool = True, kept: Iterable[nn.Module] = ()) -> Model:
    """Return a copy of ``model`` that shares nothing with it: float32, on the CPU, in eval mode.

    Half and double precision weights become float32, which int8 is made from. A LightningModule
    remembers its torchmetrics objects by ``id``; the copy has to find its own. What was compiled by
    ``torch.compile`` is not compiled in the copy.

    Args:
        model: left as it is.
        values: whether parameters get their values; without, only what comes into them counts.
        kept: modules inside of it that the copy shares, with their tensors.

    Raises:
        QuantizationError: if the model holds something that cannot be copied, or has no values.
    """
    _check_values(model)
    copied = _copied(model, values=values, kept=kept)
    modules = list(copied.modules())
    for module in modules:
        if "_metric_attributes" in vars(module):
            module._metric_attributes = None  # type: ignore[assignment]
    is_there = _is_of_torch(modules, ("cpu", "_apply")) and all(
        one.is_cpu for one in _state(modules)
    )
    return _in_eval_mode(_in_float32(copied if is_there else copied.cpu()))


def _in_eval_mode(model: Model) -> Model:
    """Do what ``eval`` does, without the way that torch goes to set an attribute of a module."""
    modules = list(model.modules())
    is_kept = any(hasattr(type(module), "training") for module in modules)  # by somebody's class
    if is_kept or not _is_of_torch(modules, ("eval", "train", "__setattr__")):
        return model.eval()
    for module in modules:
        vars(module)["training"] = False
    return model


def _state(modules: Iterable[nn.Module]) -> Iterator[Tensor]:
    """Yield parameters and buffers: a name for each takes ten times as long."""
    for module in modules:
        for held in (module._parameters, module._buffers):
            yield from (one for one in held.values() if one is not None)


def _is_of_torch(modules: Iterable[nn.Module], names: Sequence[str]) -> bool:
    """Whether no class of ``modules`` has methods of its own of these names."""
    kinds = set(map(type, modules))
    return all(getattr(one, name) is getattr(nn.Module, name) for one in kinds for name in names)


def _check_values(model: nn.Module) -> None:
    """Raise a ``QuantizationError`` if a tensor of ``model`` is on the meta device."""
    if not any(value.is_meta for value in _state(model.modules())):
        return
    for name, value in chain(model.named_parameters(), model.named_buffers()):
        if value.is_meta:
            raise QuantizationError(
                f"`{name}` has no values, it is on the meta device: load weights into the model"
                " before it is quantized"
            )


def _in_float32(model: Model) -> Model:
    """Make everything float32 that is in a type of the parameters that are not."""
    others = other_types(model)
    if not others:
        return model
    model._apply(  # type: ignore[no-untyped-call]
        lambda value: value.float() if value.dtype in others else value
    )
    for module in model.modules():  # Lightning and torchmetrics remember what they were cast to
        if getattr(module, "_dtype", None) in others:
            module._dtype = torch.float32  # type: ignore[assignment]
    return model


def check_copyable(model: nn.Module) -> None:
    """Raise what ``second_model`` would; no tensor is copied for it."""
    _copied(model, share_tensors=True)


def _copied(
    model: Model,
    *,
    share_tensors: bool = False,
    values: bool = True,
    kept: Iterable[nn.Module] = (),
) -> Model:
    try:
        return copy_of(model, share_tensors=share_tensors, values=values, kept=kept)
    except Exception as error:
        raise QuantizationError(
            f"`{type(model).__name__}` cannot be copied, and what is made of it is a second"
            f" object: {in_short(error)}; keep what cannot be copied out of the module"
        ) from error
