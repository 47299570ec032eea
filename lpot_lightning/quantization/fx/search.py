"""Which parts of a model become graphs."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from torch import nn

from lpot_lightning.quantization.calls import Calls, entered_only_through_forward
from lpot_lightning.quantization.fx.capability import OP_LAYERS
from lpot_lightning.quantization.fx.part import Part, PartSpec
from lpot_lightning.quantization.fx.trace import NotTraceable


class Search:
    """Walks a model from the outside in and takes the largest modules that can be traced."""

    def __init__(
        self, calls: Mapping[int, Calls], *, reduce_range: bool, avoid: Collection[str]
    ) -> None:
        self._known = calls
        self._reduce_range = reduce_range
        self._avoid = avoid
        self._seen: set[int] = set()
        self.parts: list[Part] = []
        self.kept_calls: list[Calls] = []
        self.excluded: dict[str, str] = {}

    def visit(self, path: str, module: nn.Module) -> None:
        """Make a part of ``module``, or of what it holds."""
        if id(module) in self._seen:
            return
        if not _holds_op(module):
            self._leave(path, module)
            return
        self._seen.add(id(module))
        calls = self._known.get(id(module))
        reason = "is never called by the validation loop"
        if calls is not None and path in self._avoid:
            reason = "does not work as a graph where it stands"
        elif calls is not None:
            reason = self._take(path, module, calls)
            if not reason:
                return
        if isinstance(module, OP_LAYERS):
            self.excluded[path] = reason
        for name, child in module.named_children():
            self.visit(f"{path}.{name}" if path else name, child)

    def _leave(self, path: str, module: nn.Module) -> None:
        """Name the layers with weights that nobody makes a graph for."""
        for name, layer in module.named_modules():
            if layer._parameters and id(layer) in self._known and id(layer) not in self._seen:
                self._seen.add(id(layer))
                full = ".".join(piece for piece in (path, name) if piece)
                self.excluded[full] = f"a `{type(layer).__name__}` alone is not quantized"

    def _take(self, path: str, module: nn.Module, calls: Calls) -> str:
        """Make a part of ``module`` and return ``""``, or return why it cannot be one."""
        if not calls.same_shape:
            return "is called with changing non-tensor arguments"
        if not entered_only_through_forward(module, dict(self._known)):
            return "has parts that are called past its `forward`"
        single = isinstance(module, OP_LAYERS)
        fixed = () if single else tuple(calls.fixed[0].items())
        try:
            part = Part.build(
                PartSpec(path, single, fixed), module, reduce_range=self._reduce_range, calls=calls
            )
        except NotTraceable as error:
            return str(error)
        if not part.ops.nodes:
            return "has no int8 kernel"
        self.parts.append(part)
        self.kept_calls.append(calls)
        self._seen.update(id(layer) for layer in module.modules())
        for name, kind in part.without_kernel().items():
            self.excluded[name] = f"has no int8 kernel for `{kind}`"
        return ""


def _holds_op(module: nn.Module) -> bool:
    return any(isinstance(part, OP_LAYERS) for part in module.modules())
