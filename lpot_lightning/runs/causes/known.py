"""Why ops are not int8, as a run knows it without measuring more, in words."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from lpot_lightning.quantization import reasons
from lpot_lightning.quantization.capability import ACTIVATIONS, WEIGHT
from lpot_lightning.quantization.floats import MAY_BE_NARROW
from lpot_lightning.quantization.graph.breaks import RAISES, TURNED_OFF, GraphBreak
from lpot_lightning.recipe import OpConfig
from lpot_lightning.runs.causes.words import op_wise
from lpot_lightning.runs.frozen import TEACHER
from lpot_lightning.runs.paying_result import NotPaying
from lpot_lightning.tuning.causes import Cause, CauseKind

_KERNEL, _TRACED, _OTHER = CauseKind.NO_KERNEL, CauseKind.NOT_TRACED, CauseKind.NONE_OF_THESE
KNOWN: dict[str, tuple[CauseKind, str]] = {
    reasons.NORMS: (_KERNEL, ""),
    reasons.SOFTMAX: (_KERNEL, ""),
    reasons.NARROW: (_KERNEL, ""),
    reasons.NO_KERNEL: (_KERNEL, ""),
    reasons.OF_DATA: (_KERNEL, ""),
    reasons.OPERANDS: (_KERNEL, ""),
    reasons.NO_WEIGHT: (_KERNEL, ""),
    reasons.LOOSE_NORM: (
        _KERNEL,
        "put it right behind a convolution or linear layer: then that does its work",
    ),
    reasons.PRODUCT: (
        _KERNEL,
        "write it as `F.linear(x, weight)`, whose weight has its outputs first, or as `nn.Linear`",
    ),
    reasons.TRANSPOSED: (
        _KERNEL,
        "put `nn.Upsample` and a convolution in its place, which can be int8, and train again",
    ),
    reasons.RECURRENT: (
        _KERNEL,
        "quantize after the training, with `QuantizationCallback`: then it can be dynamic int8",
    ),
    reasons.REPEATS: (_OTHER, "let ops that are int8, and nothing else, read what it gives"),
    reasons.SCRIPTED: (_TRACED, "give the module as Python, without `torch.jit.script`"),
    reasons.OF_OTHERS: (
        _OTHER,
        "let the module that has the weight call the function itself",
    ),
    reasons.CHANGES: (_OTHER, "use one module for each weight"),
    reasons.NOT_REACHED: (
        _OTHER,
        "give a `calib_dataloader()` whose first batch comes by it, if the model needs it",
    ),
    reasons.UNSEEN: (
        _OTHER,
        "calibrate with data that come by it: a `calib_dataloader()`, or a larger"
        " `quantization: {calibration: {sampling_size: 1000}}`",
    ),
    reasons.SOME_ONLY: (_OTHER, "give all processes data that go the same ways"),
    reasons.STANDS_ELSEWHERE: (
        _OTHER,
        "let the code around it call the layer, and not read its weight",
    ),
    reasons.DERIVED: (_OTHER, "compute no gradient through it in the validation, if you can"),
    reasons.MAX_NORM: (_OTHER, "leave `max_norm` out, and limit the weight after the training"),
    TEACHER: (CauseKind.ASKED_FOR, "name it in `modules`"),
}
"""What is to be done about each reason that nothing has to be measured for; nothing, if empty."""
_NOTHING = "there is nothing to be done about it"
_ELSE = "change what the reason names, and quantize again"
_BF16 = "on a CPU that multiplies bfloat16, ask for it: `quantization: {float: bf16}`"
_INT8 = OpConfig(ACTIVATIONS[0], WEIGHT)
_VALUES = ("item()", "tolist", "data-dependent", "branching", "generic_jump")
_SPEAKS = ("print", "logging", "logger", "warn")
_LINES: dict[tuple[str, ...], str] = {
    _VALUES: "let no value of a tensor decide what is computed: `torch.where` in place of `if`, or"
    " do it outside of `forward`",
    _SPEAKS: "leave the call out while a graph is made: `if not torch.compiler.is_compiling():`",
    (TURNED_OFF,): "leave `TORCHDYNAMO_DISABLE` out of the environment, or"
    " `torch._dynamo.config.disable` out of the code",
    ("torch.compiler.disable",): "leave `torch.compiler.disable` out, or call"
    " the function outside of `forward`",
}
_JUMP = "it asks a tensor for its value to go on"
_QUIETLY = "let the code raise nothing while `torch.compiler.is_compiling()`"
_PLAIN_TORCH = "write the line in plain torch, or move it out of `forward`"


def of_excluded(excluded: Mapping[str, str], root: str = "") -> dict[str, Cause]:
    """Return the causes of what cannot be int8.

    Args:
        excluded: the reasons, by name.
        root: the name of the model itself.
    """
    products: dict[str, list[str]] = {}
    for name, why in excluded.items():
        if why == reasons.PRODUCT:
            products.setdefault(name.rpartition("#")[0] or root, []).append(f"`{name}`")
    return {
        name: _multiplied(why, products[name])
        if name in products and why.endswith(reasons.NO_WEIGHT)
        else _excluded(name, why)
        for name, why in excluded.items()
    }


def _multiplied(why: str, products: list[str]) -> Cause:
    """Return the cause of a module that multiplies by what may be its weights itself."""
    remedy = f"where {', '.join(products)} multiplies by it, {KNOWN[reasons.PRODUCT][1]}"
    return Cause(kind=_KERNEL, found=why, remedy=remedy)


def _excluded(name: str, why: str) -> Cause:
    ending = reasons.NO_WEIGHT if why.endswith(reasons.NO_WEIGHT) else why
    kind, remedy = KNOWN.get(ending, (_OTHER, _ELSE))
    function = name.rpartition("#")[2].rpartition("_")[0]
    if why == reasons.OPERANDS and function in MAY_BE_NARROW:
        remedy = _BF16
    return Cause(kind=kind, found=why if remedy else f"{why}; {_NOTHING}", remedy=remedy)


def of_slower(not_paying: Mapping[str, NotPaying]) -> dict[str, Cause]:
    """Return the causes of the ops that are in fp32 since int8 is slower."""
    return {
        op: Cause(
            kind=CauseKind.SLOWER,
            found=one.why,
            remedy="it is fastest as it is, and int8 wins more in larger batches and layers; to"
            f" have it int8 all the same, {op_wise(op, _INT8)}",
        )
        for op, one in not_paying.items()
    }


def of_asked(ops: Iterable[str]) -> dict[str, Cause]:
    """Return the causes of the ops that have nothing but fp32 to choose."""
    return {
        op: Cause(
            kind=CauseKind.ASKED_FOR,
            found="`op_wise`, `model_wise`, `approach` or `modules` leave it nothing but fp32",
            remedy="take it out of what asks for fp32, or into `modules`",
        )
        for op in ops
    }


def of_breaks(breaks: Mapping[str, GraphBreak]) -> dict[str, Cause]:
    """Return the causes of the modules whose own code ends a graph, by name."""
    return {
        name: Cause(kind=CauseKind.NOT_TRACED, found=_broken(one), remedy=_line_remedy(one.reason))
        for name, one in breaks.items()
    }


def _broken(one: GraphBreak) -> str:
    text = f" (`{one.text}`)" if one.text else ""
    place = f"line {one.line} of `{Path(one.file).name}`{text}" if one.file else "its `forward`"
    return f"{place} is in no graph, and values are floats around it; {_said(one.reason)}"


def _said(reason: str) -> str:
    if reason.startswith(RAISES):
        return reason
    return _JUMP if reason.startswith("generic_jump") else f"Dynamo says: {reason}"


def _line_remedy(reason: str) -> str:
    if reason.startswith(RAISES):
        return _QUIETLY
    said = reason.lower()
    found = (remedy for words, remedy in _LINES.items() if any(one in said for one in words))
    return next(found, _PLAIN_TORCH)
