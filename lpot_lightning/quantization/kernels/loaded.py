"""A trace whose file packs its weights once, when it is loaded."""

from __future__ import annotations

import warnings
from typing import Any

import torch
from torch import Tensor, nn

from lpot_lightning.errors import QuantizationError


def packed_on_load(trace: torch.jit.ScriptModule) -> torch.jit.ScriptModule:
    """Return a trace of an int8 model in the form that is to be saved where speed counts.

    A kernel wants its weight packed, and a file can hold no pack: what ``torch.jit.trace`` records
    packs each weight in each call. The file of what is returned here holds the weights, and
    ``torch.jit.load``, of torch alone, in Python or C++, packs each of them once. A convolution is
    packed for the sizes of the batch that was traced, and others may be slower: trace one as it is
    to be served.

    Args:
        trace: of a model in eval mode; it is left as it is.

    Returns:
        One frozen graph that gives the same bits. It can be called, copied, and saved again.

    Raises:
        QuantizationError: if ``trace`` is frozen already.
        RuntimeError: of torch, where it is no TorchScript, or is in training mode.

    Example::

        with torch.no_grad():
            trace = torch.jit.trace(result.model.net, images)
        torch.jit.save(packed_on_load(trace), "model.pt")
        torch.jit.load("model.pt")(images)  # in a process that has torch alone
    """
    if isinstance(trace, torch.jit.ScriptModule) and not hasattr(trace, "training"):
        raise QuantizationError(
            "this trace is frozen already: give the trace itself, `packed_on_load` freezes it"
        )
    with warnings.catch_warnings():  # a DeprecationWarning in torch 2.13, a FutureWarning in 2.14
        warnings.filterwarnings("ignore", message=".*torch.jit")
        # a batch norm of floats gives other bits where it is folded into its convolution
        frozen: torch.jit.ScriptModule = torch.jit.freeze(trace, optimize_numerics=False)
        graph: Any = frozen.graph
        found = [node for kind in _KINDS for node in graph.findAllNodes(kind)]
        for number, node in enumerate(found):
            if (given := _given(node)) is not None:
                _hold(frozen, node, given, f"pack_{number}")
        torch._C._jit_pass_dce(graph)
    return frozen


def _given(node: Any) -> list[Any] | None:
    """Return what a node makes something of once for all; ``None`` for one that is not ours."""
    values = list(node.inputs())
    if node.kind() != _TIMES:
        return [value.toIValue() for value in values]
    made = values[0].node()
    if made.kind() != "aten::to":
        return None
    rows, scales = next(made.inputs()).toIValue(), values[1].toIValue()
    is_kept = isinstance(rows, Tensor) and rows.dtype is torch.int8 and isinstance(scales, Tensor)
    return [rows, scales] if is_kept and scales.shape == (len(rows), 1) else None


def _hold(frozen: Any, node: Any, given: list[Any], name: str) -> None:
    """Let ``frozen`` hold under ``name`` what ``node`` packs in each call."""
    layer = _KINDS[node.kind()](*given)
    held: Any = torch.jit.script(layer)._c
    frozen._c._register_attribute(name, held._type(), held)
    myself = next(frozen.graph.inputs())
    holder = _attribute(frozen.graph, node, myself, name, held._type())
    pack = _attribute(frozen.graph, node, holder, "pack", torch._C.TensorType.get())
    node.output().replaceAllUsesWith(pack)
    node.destroy()


def _attribute(graph: Any, before: Any, of: Any, name: str, kind: Any) -> Any:
    made = graph.create("prim::GetAttr", [of], 1).s_("name", name)
    made.insertBefore(before)
    made.output().setType(kind)
    return made.output()


class _Linear(nn.Module):
    """Packs the weight of a linear layer.

    TorchScript compiles what makes its state and takes it: so a file holds what is needed of this.
    """

    def __init__(self, weight: Tensor, shape: None) -> None:
        super().__init__()
        self.weight = weight
        self.pack = torch.ops.onednn.qlinear_prepack(weight, shape)

    @torch.jit.export
    def __getstate__(self) -> tuple[Tensor, bool]:
        """Return what a file is to hold."""
        return self.weight, self.training

    @torch.jit.export
    def __setstate__(self, state: tuple[Tensor, bool]) -> None:
        """Take it, and pack."""
        self.weight, self.training = state
        self.pack = torch.ops.onednn.qlinear_prepack(self.weight, None)


class _Conv(nn.Module):
    """Packs the weight of a convolution, as ``_Linear`` does.

    Args:
        given: what ``onednn::qconv_prepack`` takes.
    """

    def __init__(self, *given: Any) -> None:
        super().__init__()
        self.weight, self.scales, self.scale, self.zero = given[:4]
        self.stride, self.padding, self.dilation, self.groups, self.shape = given[4:]
        self.pack = torch.ops.onednn.qconv_prepack(*given)

    @torch.jit.export
    def __getstate__(
        self,
    ) -> tuple[tuple[Tensor, Tensor, float, int], list[list[int]], int, bool]:
        """Return what a file is to hold."""
        grid = self.weight, self.scales, self.scale, self.zero
        sizes = [self.stride, self.padding, self.dilation, self.shape]
        return grid, sizes, self.groups, self.training

    @torch.jit.export
    def __setstate__(
        self, state: tuple[tuple[Tensor, Tensor, float, int], list[list[int]], int, bool]
    ) -> None:
        """Take it, and pack."""
        grid, sizes, self.groups, self.training = state
        self.weight, self.scales, self.scale, self.zero = grid
        self.stride, self.padding, self.dilation, self.shape = sizes
        self.pack = torch.ops.onednn.qconv_prepack(
            self.weight,
            self.scales,
            self.scale,
            self.zero,
            self.stride,
            self.padding,
            self.dilation,
            self.groups,
            self.shape,
        )


class _Floats(nn.Module):
    """Makes floats of a weight that is kept as integers, as ``_Linear`` packs."""

    def __init__(self, values: Tensor, scales: Tensor) -> None:
        super().__init__()
        self.values, self.scales = values, scales
        self.pack = values.float() * scales

    @torch.jit.export
    def __getstate__(self) -> tuple[Tensor, Tensor, bool]:
        """Return what a file is to hold."""
        return self.values, self.scales, self.training

    @torch.jit.export
    def __setstate__(self, state: tuple[Tensor, Tensor, bool]) -> None:
        """Take it, and make floats."""
        self.values, self.scales, self.training = state
        self.pack = self.values.float() * self.scales


_TIMES = "aten::mul_"
_KINDS: dict[str, type[nn.Module]] = {
    _TIMES: _Floats,
    "onednn::qlinear_prepack": _Linear,
    "onednn::qconv_prepack": _Conv,
}
