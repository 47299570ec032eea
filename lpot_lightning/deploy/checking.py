"""A file is run right after writing, and compared with what it was made of."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from statistics import median
from time import perf_counter

from torch import Tensor

from lpot_lightning.deploy.calls import own
from lpot_lightning.deploy.comparing import TOLERANCE, Computes, Distance, distance, tolerance
from lpot_lightning.deploy.exported import Checked
from lpot_lightning.deploy.onnx.faults import first_fault, other_tensor
from lpot_lightning.deploy.running.runtime import Runtime
from lpot_lightning.deploy.writing import Written
from lpot_lightning.errors import ExportError
from lpot_lightning.timing.ratio import Ratio, Steps, compared

_USUAL = "Leave that op in fp32 (`quantization.op_wise`), or take another version of the runtime"
_SCRIPTED = (
    "TorchScript keeps what the code makes of numbers, as `int(x.shape[1])` and `x.max().item()`,"
    " as they were in one call: leave that out, or export to `.pt2`"
)

LAST_BITS = 1e-5
"""Let pass of a file that is to give the same bits: layers of floats may add up otherwise."""


def checked(
    file: Runtime,
    written: Written,
    path: Path,
    model: Computes,
    calls: Sequence[Sequence[Tensor]],
    ops: int,
) -> tuple[Checked, list[str]]:
    """Return how near a file is to what it was made of, and what there is to say of it.

    Args:
        file: opened.
        written: what it was made of.
        path: of the file.
        model: the model itself, for inputs of the file.
        calls: inputs of the file, all to be right; numbers are told of the first one.
        ops: how many of its ops are int8.

    Raises:
        ExportError: if it is too far; the error names the first op that differs.
    """
    _check_tensors(written)
    (far, from_model), *_ = [_compared(file, written, path, model, call) for call in calls]
    ms, speedup = _in_turns(model, file, own(calls[0]))
    counted = file.int8_ops()
    return Checked(
        runtime=file.name,
        samples=far.samples,
        largest=far.largest,
        relative=far.relative,
        from_int8=from_model.relative,
        agreement=from_model.agreement,
        int8_ops=counted,
        ms=ms,
        speedup=speedup,
    ), [*_notes(file, counted, ops), *_another_way(from_model, ops)]


def _check_tensors(written: Written) -> None:
    """Raise an ``ExportError`` if a file does not hold what was written: that may do little to the
    answers that are compared."""
    if written.onnx is None or written.placed is None:
        return
    wrong = other_tensor(written.onnx, written.placed)
    if wrong is not None:
        raise ExportError(f"the file is damaged: {wrong}; nothing was left: export it again")


def _compared(
    file: Runtime, written: Written, path: Path, model: Computes, call: Sequence[Tensor]
) -> tuple[Distance, Distance]:
    """Return how far the file is from what was written, and from the model, in one call."""
    found, given = file(*own(call)), model(*call)
    wanted = given if written.computes is None else written.computes(*call)
    far, from_model = distance(found, wanted), distance(found, given)
    if min(far.relative, from_model.relative) > 0 or far.decided:
        most = _let_pass(written, call, wanted)
        _judge(far, from_model, most, written, path, call, file.name, model)
    return far, from_model


def _let_pass(written: Written, call: Sequence[Tensor], wanted: Sequence[Tensor]) -> float:
    """Return what relative error is let pass."""
    if written.exact:
        return LAST_BITS
    program = written.placed or written.near
    return TOLERANCE if program is None else tolerance(program.moved(*call), wanted)


def _judge(
    far: Distance,
    from_model: Distance,
    most: float,
    written: Written,
    path: Path,
    call: Sequence[Tensor],
    name: str,
    model: Computes,
) -> None:
    """Raise an ``ExportError`` if an answer is too far from what it should be."""
    if min(far.relative, from_model.relative) <= most and (not far.decided or most > TOLERANCE):
        return
    if distance(model(*call), model(*call)).largest > 0:
        raise ExportError(
            "the model gives something else each time, as what draws random numbers does, so that"
            " no file can be compared with it; leave that out in eval mode (`self.training`), or"
            " export with `check=False`"
        )
    if far.relative == float("inf"):
        told = "gives tensors of other shapes, or infinite numbers"
    elif far.relative > most:
        told = f"is off by {far.relative:.2%}, {most:.2%} is let pass"
    else:
        told = f"gives another answer for {far.decided:.2%} of the samples, where that is clear"
    why = ""
    if written.onnx is not None and written.placed is not None:
        why = first_fault(written.onnx, written.placed, call, written.runtime)
    raise ExportError(
        f"the file {told}, in {name}{f': {why}' if why else ''}; nothing was left."
        f" {_SCRIPTED if path.suffix == '.ts' else _USUAL}"
    )


def _in_turns(model: Computes, file: Computes, call: Sequence[Tensor]) -> tuple[float, Ratio]:
    """Return milliseconds of a call of the file, and how many times as long the model takes."""
    seconds: list[float] = []

    def steps(compute: Computes, kept: list[float]) -> Steps:
        def run(count: int) -> list[float]:
            found = [_seconds(compute, call) for _ in range(count)]
            kept.extend(found)
            return found

        return run

    ratio = compared(steps(model, []), steps(file, seconds))
    return median(seconds) * 1e3, ratio


def _seconds(compute: Computes, call: Sequence[Tensor]) -> float:
    started = perf_counter()
    compute(*call)
    return perf_counter() - started


def _another_way(from_model: Distance, ops: int) -> list[str]:
    """Say that a model of floats computes something else in torch than what was written."""
    if ops or from_model.relative <= TOLERANCE:
        return []
    return [
        f"the model in torch gives something else, by {from_model.relative:.2%}: it has a way of"
        " its own in eval mode that no file has (`nn.TransformerEncoder` gives zeros for what is"
        " padded)"
    ]


def _notes(file: Runtime, counted: int | None, ops: int) -> list[str]:
    if counted is None or counted >= ops:
        return []
    return [f"{file.name} computes {counted} of {ops} int8 ops in int8, the others in floats"]
