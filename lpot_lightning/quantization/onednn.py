"""Int8 by oneDNN's kernels on plain tensors: layers first, graphs where they can be."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from lpot_lightning.errors import ArtifactError
from lpot_lightning.module.calls import ModuleCalls
from lpot_lightning.module.stand_in import HELD, StandIn, let_compute
from lpot_lightning.quantization.corrections import EQUALIZATION
from lpot_lightning.quantization.graph.capture import Captured
from lpot_lightning.quantization.kernels.grid import Grid
from lpot_lightning.quantization.layers import PreparedLayers
from lpot_lightning.quantization.program.program import Program
from lpot_lightning.quantization.quantized_layer import (
    LayerForward,
    channels_of,
    kind_of,
    quantized,
)

_OTHERS: tuple[tuple[type[nn.Module], str], ...] = (
    (nn.modules.conv._ConvTransposeNd, "oneDNN has no int8 kernel for transposed convolutions"),
    (nn.RNNBase, "recurrent layers keep their state in floating point"),
    (nn.RNNCellBase, "recurrent layers keep their state in floating point"),
    (nn.modules.batchnorm._NormBase, "is folded into the layer before it, or computed in floats"),
    (nn.LayerNorm, "norms stay floats: int8 costs them accuracy and wins no time"),
    (nn.GroupNorm, "norms stay floats: int8 costs them accuracy and wins no time"),
    (nn.RMSNorm, "norms stay floats: int8 costs them accuracy and wins no time"),
    (nn.EmbeddingBag, "bags of a table are summed in floats"),
)
_ITS_OWN = "its `forward` computes with its weights by itself"


class OnednnBackend:
    """Backend ``onednn``: each layer is int8 by itself, and graphs compute where they can."""

    name = "onednn"

    def prepare(
        self,
        model: nn.Module,
        calls: Mapping[int, ModuleCalls],
        *,
        avoid: Collection[str] = (),
        whole: bool = True,
        for_training: bool = False,
    ) -> PreparedLayers:
        """Find the layers that can be int8 and watch them; ``model`` is left as it is.

        Args:
            model: in eval mode, on the CPU, in float32.
            calls: of every module, from a dry run.
            avoid: paths of layers that stay floats.
            whole: is of no use here, and so is ``for_training``.
        """
        del whole, for_training
        layers, excluded = {}, {}
        for path, module in model.named_modules():
            if path in avoid:
                excluded[path] = "does not work in int8 where it stands"
            elif kind_of(module) is not None:
                layers[path] = module
            elif why := _why_not(module):
                excluded[path or type(module).__name__] = why
        roots = {
            path: model.get_submodule(path)
            for path in roots_of(model, calls)
            if _holds(path, layers)
        }
        bits = 8 if _has_vnni() else 7
        return PreparedLayers(layers, calls, excluded, roots, bits=bits)

    def rebuild(self, model: nn.Module, described: Mapping[str, Any]) -> dict[str, StandIn]:
        """Return the int8 layers of the tune config, to be filled with tensors."""
        found = {}
        for path, op in described["op"].items():
            if op["activation"].get("dtype") == "fp32":
                continue
            layer = _layer_at(model, path)
            gone = tuple(op.get("gone", ()))
            int8 = quantized(layer, _grid_of(op, described), factors=_factors_of(op, layer))
            found[path] = StandIn(int8, gone=gone, forward=LayerForward(layer, int8))
        return found

    def to_plain(self, model: nn.Module) -> dict[str, Tensor]:
        """Return the whole state; its tensors are plain ones."""
        state = nn.Module.state_dict(model)
        return {name: one for name, one in state.items() if isinstance(one, Tensor)}

    def fill(self, model: nn.Module, plain: Mapping[str, Tensor], engine: str) -> None:
        """Put such a state into a model of the same structure."""
        del engine
        for name, module in model.named_modules():
            bias = f"{name}.bias"
            if name.endswith(f"{HELD}.kernel") and bias in plain and module.bias is None:
                module.bias = torch.empty_like(plain[bias])  # a correction gave it one
        own = nn.Module.state_dict(model)
        extra = {name: one for name, one in own.items() if not isinstance(one, Tensor)}
        try:
            nn.Module.load_state_dict(model, {**plain, **extra})
        except RuntimeError as error:
            reason = " ".join(str(error).split())
            raise ArtifactError(f"the weights do not fit the model: {reason}") from error

    def join(self, model: nn.Module, described: Mapping[str, Any]) -> None:
        """Let graphs compute over the int8 layers of ``model``."""
        roots = {path: model.get_submodule(path) for path in _roots(described)}
        forwards = {path: Captured(module, Program) for path, module in roots.items()}
        let_compute(model, forwards)


def _roots(described: Mapping[str, Any]) -> Iterator[str]:
    for part in described["parts"]:
        yield str(part["path"])


def _holds(root: str, layers: Collection[str]) -> bool:
    """Whether there are layers inside of the module at ``root``, which is none itself."""
    return any(path.startswith(f"{root}." if root else "") and path != root for path in layers)


def _why_not(module: nn.Module) -> str | None:
    own = list(module.parameters(recurse=False))
    if not own:
        return None
    for kind, why in _OTHERS:
        if isinstance(module, kind):
            return why
    return _ITS_OWN if any(one.dim() > 1 for one in own) else None


def _layer_at(model: nn.Module, path: str) -> nn.Module:
    try:
        layer = model.get_submodule(path)
    except AttributeError as error:
        raise ArtifactError(f"the model has no `{path}`, the quantized one had") from error
    if kind_of(layer) is None:
        raise ArtifactError(f"`{path}` is a `{type(layer).__name__}`, which has no int8 form")
    return layer


def _grid_of(op: Mapping[str, Any], described: Mapping[str, Any]) -> Grid | None:
    activation = op["activation"]
    if "scale" not in activation:
        return None
    high = 127 if described["reduce_range"] else 255
    return Grid(float(activation["scale"]), int(activation["zero_point"]), 0, high)


def _factors_of(op: Mapping[str, Any], layer: nn.Module) -> Tensor | None:
    """Return a place for the factors of an equalized layer, which are in the state."""
    return torch.ones(channels_of(layer)) if EQUALIZATION in op.get("corrections", ()) else None


def _has_vnni() -> bool:
    """Whether products of 8 bits are added up without saturation."""
    return bool(getattr(torch.cpu, "_is_vnni_supported", lambda: False)())


def roots_of(model: nn.Module, calls: Mapping[int, ModuleCalls]) -> Iterator[str]:
    """Yield the modules that are called from outside of all others."""
    for path, module in model.named_modules():
        seen = calls.get(id(module))
        if seen is not None and seen.count and any(not above for above in seen.above):
            yield path
