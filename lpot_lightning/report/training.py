"""How the training for int8 went: losses, accuracies, what was frozen when."""

from __future__ import annotations

from collections.abc import Sequence

from lpot_lightning.report.charts import Axis, Frame, legend
from lpot_lightning.report.facts import TuningFacts
from lpot_lightning.report.markup import Markup, section, shortened, tag
from lpot_lightning.report.numbers import accuracy, counted
from lpot_lightning.training_log import EpochLog, FrozenPart, TrainingLog


def training_section(tuning: TuningFacts) -> Markup | None:
    """Return the charts of a training for int8, and what was frozen."""
    log = tuning.training
    if log is None or not (log.epochs or log.frozen):
        return None
    losses = [(one.epoch, one.loss) for one in log.epochs if one.loss is not None]
    scores = [(one.epoch, one.accuracy) for one in log.epochs if one.accuracy is not None]
    charts = [
        _chart(log, losses, "mean training loss", "loss"),
        _chart(log, scores, f"{shortened(tuning.monitor, 40)} of the validation", "score"),
    ]
    return section(
        "training",
        "Training for int8",
        tag("div", charts, class_="pair"),
        legend(("line frozen", "frozen from here on, see below")) if log.frozen else None,
        _frozen(log.frozen),
        lede=f"{counted(len(log.epochs), 'epoch')} with the rounding of int8; epochs count from 0.",
    )


def _chart(
    log: TrainingLog, points: Sequence[tuple[int, float]], title: str, look: str
) -> Markup | None:
    if not points:
        return None
    frame = Frame(
        Axis.of([float(one.epoch) for one in log.epochs], "epoch", whole=True),
        Axis.of([y for _, y in points], title),
    )
    moments = [frame.moment(one.epoch, "frozen") for one in _within(log.frozen, log.epochs)]
    marks = [
        frame.mark(x, y, f"small {look}", f"epoch {x}: {title} {accuracy(y)}") for x, y in points
    ]
    return frame.drawn(moments, frame.path(points, look), marks, told=f"{title} by epoch")


def _within(frozen: Sequence[FrozenPart], epochs: Sequence[EpochLog]) -> list[FrozenPart]:
    known = {one.epoch for one in epochs}
    return [one for one in frozen if one.epoch in known]


def _frozen(frozen: Sequence[FrozenPart]) -> Markup | None:
    if not frozen:
        return None
    lines = [
        tag("li", f"The {one.what} are frozen from epoch {one.epoch}, step {one.step} on.")
        for one in frozen
    ]
    return tag("ul", lines, class_="plain")
