"""Functions that stay in floats and take time, with the reason."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from lpot_lightning.module.calls import ModuleCalls
from lpot_lightning.module.function_calls import FunctionCall
from lpot_lightning.quantization.graph.weight_calls import FUNCTIONS
from lpot_lightning.quantization.reasons import (
    LOOSE_NORM,
    NARROW,
    NO_KERNEL,
    NORMS,
    NOT_REACHED,
    OF_DATA,
    OF_OTHERS,
    OPERANDS,
    PRODUCT,
    REPEATS,
    SOFTMAX,
)

LEAST_SHARE, LEAST_SECONDS = 0.05, 0.0005
"""Of the time of a dry run: functions that are not heavy by their kind are told from both on."""
MAY_BE_NARROW = ("scaled_dot_product_attention", "matmul", "bmm", "mm")
"""What graphs can compute in bfloat16."""
_PRODUCTS = ("matmul", "mm", "bmm", "mv", "baddbmm", "addmm", "addbmm", "einsum", "bilinear",
             "tensordot")  # fmt: skip
_REASONS: dict[str, str] = {
    "scaled_dot_product_attention": OPERANDS,
    "softmax": SOFTMAX,
    "log_softmax": SOFTMAX,
    **dict.fromkeys(("layer_norm", "group_norm", "rms_norm", "instance_norm"), NORMS),
    "batch_norm": LOOSE_NORM,
    **dict.fromkeys(
        ("interpolate", "upsample", "grid_sample", "cdist", "fold", "unfold", "embedding_bag",
         "conv_transpose1d", "conv_transpose2d", "conv_transpose3d"),
        NO_KERNEL,
    ),
}  # fmt: skip
_MAY_FUSE = frozenset(
    ("relu", "relu6", "silu", "gelu", "hardswish", "hardtanh", "leaky_relu", "tanh", "add")
)
_MOVE = frozenset(
    ("flatten", "view", "reshape", "permute", "transpose", "contiguous", "unflatten", "squeeze",
     "unsqueeze", "pad", "cat", "max_pool1d", "max_pool2d", "max_pool3d", "dropout", "embedding",
     "getitem")
)  # fmt: skip
"""What only moves values, or has an int8 form as a layer."""


def in_floats(
    model: nn.Module,
    calls: Mapping[int, ModuleCalls],
    known: Collection[str],
    own: Mapping[str, Collection[int]],
) -> dict[str, str]:
    """Return the functions of ``model`` that stay in floats, each with the reason.

    What is heavy by its kind is told whatever time it takes, so that two runs tell the same; other
    functions from ``LEAST_SHARE`` of the forward on, unless a kernel may do them.

    Args:
        model: as it is in ``calls``.
        calls: of every module, from a dry run.
        known: paths of modules that are ops, or that are told of as such.
        own: by path, the ids of tensors whose functions may be ops.

    Example::

        found = in_floats(net, calls, ["fc"], {})
        found["attn#matmul_0"]  # "both operands are activations; …"
    """
    whole = sum(one.seconds for one in calls.values() if not all(one.above))
    found = _norms(model, calls)
    for path, module in model.named_modules():
        if path not in known and id(module) in calls and not isinstance(module, _BatchNorm):
            for name, call in _numbered(calls[id(module)].functions):
                if not _may_be_op(call, own.get(path, ())) and (why := _why(call, whole)):
                    found[f"{path}#{name}"] = why
    return found


def narrowed(excluded: Mapping[str, str]) -> list[str]:
    """Return the names of those functions that graphs can compute in bfloat16."""
    return [
        name
        for name, why in excluded.items()
        if why == OPERANDS and name.rpartition("#")[2].rpartition("_")[0] in MAY_BE_NARROW
    ]


def told_of(excluded: Mapping[str, str], *, narrow: bool) -> dict[str, str]:
    """Return what stays floats, each with its reason.

    Args:
        excluded: by the name.
        narrow: whether graphs compute in bfloat16 what they can.
    """
    return {**excluded, **(dict.fromkeys(narrowed(excluded), NARROW) if narrow else {})}


def _norms(model: nn.Module, calls: Mapping[int, ModuleCalls]) -> dict[str, str]:
    """Return the BatchNorms that are folded into no layer."""
    found = {}
    for path, module in model.named_modules():
        if isinstance(module, _BatchNorm):
            functions = calls.get(id(module), ModuleCalls()).functions.values()
            if not functions:
                found[path] = NOT_REACHED
            elif not all(one.behind for one in functions if one.function == "batch_norm"):
                found[path] = LOOSE_NORM
    return found


def _numbered(
    functions: Mapping[tuple[str, bool, int], FunctionCall],
) -> Iterator[tuple[str, FunctionCall]]:
    """Yield each with its name: those that may be ops have the first numbers."""
    weighted = [name for name, has_weight, _ in functions if has_weight]
    for (name, has_weight, number), call in functions.items():
        yield f"{name}_{number if has_weight else number + weighted.count(name)}", call


def _may_be_op(call: FunctionCall, own: Collection[int]) -> bool:
    """Whether a function may be int8, or be computed once for all calls."""
    return call.fixed or (
        call.function in FUNCTIONS.values() and call.weighted and call.sources <= set(own)
    )


def _why(call: FunctionCall, whole: float) -> str | None:
    """Return why a function stays in floats, ``None`` for one that need not be told."""
    if call.function == "batch_norm" and call.behind:
        return None
    if call.function in FUNCTIONS.values():
        return OF_OTHERS if call.weighted else OF_DATA
    if call.function in _PRODUCTS:
        return PRODUCT if call.weighted else OPERANDS
    if call.repeats:
        return REPEATS
    if call.function in _REASONS:
        return _REASONS[call.function]
    fuses = call.function in _MOVE or (call.behind and call.function in _MAY_FUSE)
    least = max(LEAST_SECONDS, LEAST_SHARE * whole)
    return None if fuses or call.seconds < least else NO_KERNEL
