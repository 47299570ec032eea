"""The trials of a run against its goal, as a picture."""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from lpot_lightning.machine.columns import shortened
from lpot_lightning.machine.numbers import shown_number
from lpot_lightning.runs.tuning_result import TuningResult
from lpot_lightning.tuning.score import TrialState

if TYPE_CHECKING:
    from matplotlib.figure import Figure

INSTALLED_BY = "matplotlib"
_STATES = {
    TrialState.MET: ("o", "#1b7837", "met"),
    TrialState.JUDGED: ("X", "#b2182b", "not met"),
    TrialState.SCREENED: ("v", "#969696", "given up early, estimated"),
}
"""Marker, color and name of the trials in each state; failed ones have no accuracy."""


def can_draw() -> bool:
    """Whether matplotlib is installed."""
    return find_spec(INSTALLED_BY) is not None


def trials_figure(result: TuningResult) -> Figure:
    """Return the accuracy of each trial beside baseline and goal, and its ops in fp32.

    No window is opened and no backend of the user's is changed: the figure draws itself by Agg.

    Args:
        result: of a quantization.

    Example::

        trials_figure(callback.result).savefig("trials.png")
    """
    from matplotlib import rc_context
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    with rc_context({"text.usetex": False}):  # names of metrics are no TeX
        figure = Figure(figsize=(7, 4.5), dpi=100, layout="constrained")
        canvas: Any = FigureCanvasAgg(figure)
        above, below = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
        _draw_accuracy(above, result)
        _draw_ops(below, result)
        below.xaxis.set_major_locator(MaxNLocator(integer=True))
        canvas.draw()  # which makes the numbers at the axes, texts, too
    return figure


def _draw_accuracy(axes: Any, result: TuningResult) -> None:
    target = result.criterion.target(result.baseline)
    axes.axhline(result.baseline, color="#2166ac", label=f"fp32 {shown_number(result.baseline)}")
    axes.axhline(target, color="#2166ac", linestyle="--", label=f"goal {shown_number(target)}")
    for state, (marker, color, name) in _STATES.items():
        scored = [
            (one.number, one.score.accuracy) for one in result.trials if one.score.state is state
        ]
        if scored:
            axes.scatter(*zip(*scored, strict=True), marker=marker, color=color, label=name)
    axes.set_ylabel(shortened(result.monitor, 24), parse_math=False)
    axes.set_title(shortened(f"int8 trials: {result.status.replace('_', ' ')}", 60))
    axes.legend(fontsize="small")


def _draw_ops(axes: Any, result: TuningResult) -> None:
    counts = {one.number: len(one.recipe.fp32_ops) for one in result.trials}
    axes.bar([*counts], [*counts.values()], color="#bababa")
    axes.yaxis.get_major_locator().set_params(integer=True)
    axes.set_ylabel("fp32 ops")
    axes.set_xlabel("trial")
