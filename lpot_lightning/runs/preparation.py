"""From a model to observed parts that have seen the calibration data."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from torch import nn

from lpot_lightning.artifacts.traits import Traits
from lpot_lightning.deploy.recording import CallRecorder
from lpot_lightning.errors import EvaluationError, QuantizationError, in_short
from lpot_lightning.judging.protocols import Feed
from lpot_lightning.machine.ranks import Ranks
from lpot_lightning.module.calls import ModuleCalls, recorded
from lpot_lightning.module.copying import other_types
from lpot_lightning.module.stand_in import HELD, StandIn, replaced
from lpot_lightning.quantization.backend import Backend, Prepared
from lpot_lightning.runs.options import Options
from lpot_lightning.tuning.in_words import by_reason

Say = Callable[[str], None]


def prepare(
    model: nn.Module,
    backend: Backend,
    feed: Feed,
    options: Options,
    say: Say,
    *,
    for_training: bool = False,
    trained: Mapping[str, Any] | None = None,
    left_out: Mapping[str, str] | None = None,
) -> tuple[nn.Module, Prepared, Traits]:
    """Find the parts of ``model`` that can be quantized where they stand.

    Args:
        model: in eval mode.
        backend: finds and observes.
        feed: shows the model one calibration batch, and gives a new one where that spoiled it.
        options: who else works on it.
        say: takes what the user should know.
        for_training: whether the model is to be trained for int8.
        trained: the state that such a training ended in.
        left_out: paths of modules whose ops stay in fp32, with the reason.

    Returns:
        the model to go on with, its parts, and what it is known by in its files.

    Raises:
        QuantizationError: if it is int8 already, not float32, or has nothing to quantize.
        ArtifactError: if ``trained`` is of another model.
    """
    check_not_int8(model)
    check_float32(model)
    ranks = options.ranks
    avoid: set[str] = set()
    while True:
        model, calls = called(model, feed)
        traits = Traits.of(model, calls)
        prepared = ranks.together(
            partial(
                backend.prepare,
                model,
                calls,
                avoid=avoid,
                for_training=for_training,
                trained=trained,
                left_out=left_out,
            )
        )
        broken = _not_everywhere(prepared, ranks, say) or _broken(model, prepared, feed, say)
        if not broken:
            break
        avoid |= broken
        model = feed.fresh()
    if not prepared.ops:
        reasons = "; ".join(by_reason(prepared.excluded))
        raise QuantizationError(
            f"no op of `{type(model).__name__}` can be quantized"
            f" ({reasons or 'it has no Linear, Conv or Embedding'})"
        )
    return model, prepared, traits


def settle(prepared: Prepared, ranks: Ranks) -> None:
    """Prove what can be int8.

    Raises:
        QuantizationError: if nothing can.
    """
    prepared.settle(ranks.agreed)
    if all(not op.int8_configs for op in prepared.ops):
        reasons = by_reason(prepared.excluded)
        raise QuantizationError(f"no op is left to quantize: {'; '.join(reasons)}")


def calibrate(
    model: nn.Module,
    prepared: Prepared,
    feed: Feed,
    ranks: Ranks,
    say: Say,
    recorder: CallRecorder | None = None,
) -> None:
    """Show the parts all calibration data, once, and say what stays in fp32 whatever is asked.

    Of several processes each sees its share, and what they saw is put together.

    Args:
        model: as ``prepare`` returned it; so is ``prepared``.
        feed: shows the data.
        ranks: the processes that work together.
        say: takes what the user should know.
        recorder: takes notes of what the model is called with.

    Raises:
        QuantizationError: if nothing is left to quantize.
    """
    recorder = recorder or CallRecorder(())
    with replaced(model, prepared.observed) as observed, recorder.on(observed):
        feed.calibrate(observed)
    if ranks.size > 1:
        prepared.merge(ranks.gather(prepared.statistics()))
    settle(prepared, ranks)
    for line in by_reason(prepared.excluded):
        say(f"stays in fp32: {line}")
    for line in by_reason(prepared.exact):
        say(f"is int8 by plain arithmetic, which is slow: {line}")


def check_not_int8(model: nn.Module) -> None:
    """Raise a ``QuantizationError`` if ``model`` is int8 already."""
    if name := int8_in(model):
        layer = name.partition(HELD)[0] if HELD in name.split(".") else name.rpartition(".")[0]
        where = layer.partition("._")[0].rstrip(".") or type(model).__name__
        raise QuantizationError(f"`{where}` is int8 already; quantize the fp32 model")


def int8_in(model: nn.Module) -> str | None:
    """Return the name of something in the state of ``model`` that is int8, where there is one."""
    for name, held in nn.Module.state_dict(model).items():
        ours = HELD in name.split(".")
        if ours or isinstance(held, tuple) or getattr(held, "is_quantized", False):
            return name
    return None


def check_float32(model: nn.Module) -> None:
    """Raise a ``QuantizationError`` if parameters of ``model`` are of another type."""
    others = other_types(model)
    for name, value in model.named_parameters():
        if value.dtype in others:
            raise QuantizationError(
                f"`{name}` is {str(value.dtype).removeprefix('torch.')}, int8 is made from float32:"
                " call `model.float()` first"
            )


def called(model: nn.Module, feed: Feed) -> tuple[nn.Module, Mapping[int, ModuleCalls]]:
    """Return a model that works on the calibration data, and who called what in it."""
    with recorded(model) as calls:
        works = feed.try_out(model)
    if works is not model:  # the data was changed, and the model with it
        with recorded(works) as calls:
            feed.try_out(works)
    return works, calls


def _not_everywhere(prepared: Prepared, ranks: Ranks, say: Say) -> set[str]:
    """Return the parts that are not the same in all processes: their data took other ways."""
    mine = {
        path: sorted(dict(part.graph.named_modules())) if part.graph else []
        for path, part in prepared.observed.items()
    }
    everywhere = ranks.gather(mine)
    paths = {path for parts in everywhere for path in parts}
    different = {
        path for path in paths if any(one.get(path) != mine.get(path) for one in everywhere)
    }
    for path in sorted(different):
        say(f"`{path}` is another graph in another process, whose data go another way: entering it")
    return different


def _broken(model: nn.Module, prepared: Prepared, feed: Feed, say: Say) -> set[str]:
    """Return the parts that do not work as graphs where they stand.

    The weights of its layers are gone: code around it that needs them, and did not in the dry run,
    fails. Such a part is entered deeper. Each is tried in a new model: a step that failed leaves
    its traces.
    """
    parts = prepared.observed
    if not parts:
        return set()
    with prepared.asleep():
        if _fault(model, parts, feed) is None:
            return set()
        if own := _fault(feed.fresh(), {}, feed):
            raise EvaluationError(f"the validation loop fails on a calibration batch: {own}")
        faults = {path: _fault(feed.fresh(), {path: part}, feed) for path, part in parts.items()}
    broken = {path: fault for path, fault in faults.items() if fault is not None}
    for path, fault in broken.items():
        say(f"`{path}` does not work as one graph, entering it: {fault}")
    return set(broken or parts)


def _fault(model: nn.Module, parts: Mapping[str, StandIn], feed: Feed) -> str | None:
    try:
        with replaced(model, parts) as changed:
            feed.step_seconds(changed)
    except Exception as error:  # whatever the user's code says when a graph stands in
        return in_short(error)
    return None
