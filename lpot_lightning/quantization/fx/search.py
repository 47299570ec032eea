"""Which parts of a model become graphs."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import torch
from torch import nn

from lpot_lightning.module.calls import ModuleCalls, entered_only_through_forward
from lpot_lightning.quantization.fx.capability import OP_LAYERS
from lpot_lightning.quantization.fx.part import Part
from lpot_lightning.quantization.fx.spec import PartSpec
from lpot_lightning.quantization.fx.trace import NotTraceable, check_same_in_training

OTHERS_READ = "its weight is used by other code than its own `forward`"


class Search:
    """Walks a model from the outside in and takes the largest modules that can be traced."""

    def __init__(
        self,
        calls: Mapping[int, ModuleCalls],
        *,
        reduce_range: bool,
        avoid: Collection[str],
        for_training: bool = False,
    ) -> None:
        self._known = calls
        self._reduce_range = reduce_range
        self._avoid = avoid
        self._for_training = for_training
        self._seen: set[int] = set()
        self.parts: list[Part] = []
        self.kept_calls: list[ModuleCalls] = []
        self.excluded: dict[str, str] = {}

    def go(self, model: nn.Module, *, whole: bool) -> None:
        """Find all parts of ``model``; see ``FxBackend.prepare`` for ``whole``."""
        if whole or self._is_flat(model):
            self.visit("", model)
        else:
            self._enter("", model)

    def visit(self, path: str, module: nn.Module) -> None:
        """Make a part of ``module``, or of what it holds."""
        if id(module) in self._seen:
            return
        if not _holds_op(module):
            self._leave(path, module)
            return
        self._seen.add(id(module))
        calls = self._known.get(id(module), ModuleCalls())
        if not calls.count:
            reason = OTHERS_READ if calls.read else "is never called by the validation loop"
        elif path in self._avoid:
            reason = "does not work as a graph where it stands"
        else:
            reason = self._take(path, module, calls)
            if not reason:
                return
        if isinstance(module, OP_LAYERS):
            self.excluded[path] = reason
        self._enter(path, module)

    def _enter(self, path: str, module: nn.Module) -> None:
        for name, child in module.named_children():
            self.visit(f"{path}.{name}" if path else name, child)

    def _is_flat(self, model: nn.Module) -> bool:
        """Whether at least half of the layers that are called are attributes of ``model``."""
        called = [layer for layer in model.modules() if self._is_called_op(layer)]
        own = [layer for layer in model.children() if self._is_called_op(layer)]
        return 0 < len(called) <= 2 * len(own)

    def _is_called_op(self, layer: nn.Module) -> bool:
        return isinstance(layer, OP_LAYERS) and self._is_called(layer)

    def _is_called(self, layer: nn.Module) -> bool:
        return self._known.get(id(layer), ModuleCalls()).count > 0

    def _leave(self, path: str, module: nn.Module) -> None:
        """Name the layers with weights that nobody makes a graph for."""
        for name, layer in module.named_modules():
            scripted = isinstance(layer, torch.jit.ScriptModule)
            if not list(layer.parameters(recurse=False)) or id(layer) in self._seen:
                continue
            if scripted or self._is_called(layer):
                self._seen.add(id(layer))
                full = ".".join(piece for piece in (path, name) if piece)
                self.excluded[full] = (
                    "was scripted by `torch.jit`: quantize what it was made from"
                    if scripted
                    else f"a `{type(layer).__name__}` alone is not quantized"
                )

    def _take(self, path: str, module: nn.Module, calls: ModuleCalls) -> str:
        """Make a part of ``module`` and return ``""``, or return why it cannot be one."""
        if not calls.same_shape:
            return "is called with changing non-tensor arguments"
        if not entered_only_through_forward(module, self._known):
            return "has parts that are called past its `forward`"
        single = isinstance(module, OP_LAYERS)
        if single and self._is_read(module):
            return OTHERS_READ
        kept = tuple(name for name, layer in module.named_modules() if self._is_read(layer))
        fixed = () if single else tuple(calls.fixed[0].items())
        spec = PartSpec(path, single, fixed, kept)
        try:
            part = Part.build(spec, module, reduce_range=self._reduce_range, calls=calls)
            self._check_leaves(part, module)
            if self._for_training and not single:
                check_same_in_training(module, dict(fixed))
        except NotTraceable as error:
            return str(error)
        if not part.ops.nodes:
            return "has no int8 kernel"
        self.parts.append(part)
        self.kept_calls.append(calls)
        self._seen.update(id(layer) for layer in module.modules())
        for name, kind in part.without_kernel().items():
            self.excluded[name] = f"has no int8 kernel for `{kind}`"
        self.excluded.update((spec.name_of(name), OTHERS_READ) for name in kept)
        return ""

    def _is_read(self, layer: nn.Module) -> bool:
        """Whether others use what int8 holds in another form."""
        read = self._known.get(id(layer), ModuleCalls()).read
        return isinstance(layer, OP_LAYERS) and not read.isdisjoint(("weight", "bias"))

    def _check_leaves(self, part: Part, module: nn.Module) -> None:
        """Let no graph hold a module of torch's that calls layers worth quantizing.

        A trace takes ``nn.TransformerEncoder`` as one layer.
        """
        for name in part.leaves() if not part.spec.wrapped else ():
            leaf = module.get_submodule(name)
            if any(self._is_called_op(layer) for layer in leaf.modules() if layer is not leaf):
                raise NotTraceable(f"its `{name}` is entered for the layers inside")


def _holds_op(module: nn.Module) -> bool:
    return any(isinstance(part, OP_LAYERS) for part in module.modules())
