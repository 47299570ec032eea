"""The clock of one step of a model: its programs, and the layers that compute alone."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any

from torch import nn

from lpot_lightning.quantization.graph.capture import Captured
from lpot_lightning.quantization.layer_forward import LayerForward
from lpot_lightning.quantization.op_clock import LayerTimes, StepTimes, noted
from lpot_lightning.quantization.program.node_times import NodeTimes
from lpot_lightning.quantization.program.program import Program
from lpot_lightning.quantization.quantized_layer import QuantizedLayer
from lpot_lightning.quantization.recurrent import RecurrentForm
from lpot_lightning.quantization.rungs import DynamicLayer, LayerForm
from lpot_lightning.recipe import Recipe


def step_times(
    captured: Iterable[Captured],
    forwards: Mapping[str, LayerForward],
    recipe: Recipe,
    choose: Callable[[Recipe], object],
    *,
    step: Callable[[int], Sequence[float]],
    clock: Callable[[], float],
) -> StepTimes:
    """Return what times the ops of a model that is ``recipe`` now.

    What a graph could not be made for is timed layer by layer; functions outside of graphs are not.

    Args:
        captured: the graphs of the model, once a step has gone through them.
        forwards: what computes for its layers, by path.
        recipe: in which the ops to be timed are int8.
        choose: lets all ops compute as a recipe says.
        step: shows the model the user's batch so many times, and returns the seconds of each.
        clock: gives seconds.

    Example::

        times = step_times(graphs, forwards, recipe, convert, step=step, clock=perf_counter)
        times.seconds(recipe)  # such as {"net.fc": 0.0001}
    """
    programs = _programs(captured)
    with noted(programs, "_computes") as given, noted(forwards, "computed") as alone:
        seconds = step(1)
    least = min(*seconds, *step(2))
    timed = [
        (NodeTimes(programs[key], calls[0][0], clock), len(calls))
        for key, calls in given.items()
        if calls
    ]
    inside = {op for one, _ in timed for op in one.ops}
    single = {
        path: LayerTimes(form.forward, _in_floats(forwards[path].layer), calls, clock)
        for path, calls in alone.items()
        if calls
        and path not in inside
        and (form := _timed_form(path, forwards[path], recipe)) is not None
    }
    return StepTimes(timed, single, recipe, choose, least)


def _programs(captured: Iterable[Captured]) -> dict[str, Program]:
    found = [one for each in captured for one in each.lowered if isinstance(one, Program)]
    return {str(number): one for number, one in enumerate(found)}


def _timed_form(path: str, forward: LayerForward, recipe: Recipe) -> LayerForm | None:
    form = forward.int8
    timed = path not in recipe.fp32_ops and isinstance(
        form, QuantizedLayer | DynamicLayer | RecurrentForm
    )
    return form if timed else None


def _in_floats(layer: nn.Module) -> Callable[..., Any]:
    return partial(type(layer).forward, layer)
