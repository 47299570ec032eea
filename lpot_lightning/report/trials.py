"""The trials: how good each was, and the choice between accuracy and objective."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence

from lpot_lightning.recipe import Rung
from lpot_lightning.report.charts import Axis, Frame, legend
from lpot_lightning.report.facts import TuningFacts
from lpot_lightning.report.markup import (
    Content,
    Markup,
    code,
    joined,
    number_cell,
    section,
    shortened,
    table,
    tag,
)
from lpot_lightning.report.numbers import accuracy, counted, duration, objective
from lpot_lightning.tuning.score import TrialState
from lpot_lightning.tuning.trial import Trial

_LOOKS = {
    TrialState.MET: ("dot met", "met"),
    TrialState.JUDGED: ("dot missed", "not met"),
    TrialState.SCREENED: ("diamond given-up", "given up early; its accuracy is an estimate"),
    TrialState.FAILED: ("cross failed", "failed"),
}
_TITLES = {
    "performance": "milliseconds a step",
    "modelsize": "bytes of the model",
    "footprint": "bytes that a step holds at its peak",
}
_MANY = 300
"""Marks that each have a text of their own."""


def trials_section(tuning: TuningFacts) -> Markup | None:
    """Return the chart and the table of all trials."""
    if not tuning.trials:
        return None
    return section(
        "trials",
        "Trials",
        _chart(tuning),
        _table(tuning),
        lede=(
            "How good each model was that was tried, by ", code(tuning.monitor), ". ",
            _direction(tuning),
        ),
    )  # fmt: skip


def _direction(tuning: TuningFacts) -> str:
    if tuning.criterion is None:
        return ""
    return "Higher is better." if tuning.criterion.higher_is_better else "Lower is better."


def _chart(tuning: TuningFacts) -> Markup:
    goal = _goal(tuning)
    known = [one.score.accuracy for one in tuning.trials]
    lines = [one for one in (tuning.baseline, goal) if one is not None]
    numbers = [float(one.number) for one in tuning.trials]
    frame = Frame(
        Axis.of(numbers, "trial", whole=True),
        Axis.of(
            [*(one for one in known if one is not None), *lines], shortened(tuning.monitor, 40)
        ),
    )
    under: list[Content] = []
    if goal is not None and tuning.criterion is not None:
        under.append(frame.zone(goal, above=tuning.criterion.higher_is_better))
        under.append(frame.level(goal, "goal"))
    if tuning.baseline is not None:
        under.append(frame.level(tuning.baseline, "baseline"))
    marks = [_mark(frame, one, tuning) for one in tuning.trials]
    taken = [
        frame.mark(one.number, _height(one), "ring taken", f"trial {one.number} is taken")
        for one in tuning.trials
        if one.number == tuning.best
    ]
    return joined(
        (
            frame.drawn(under, taken, marks, told=f"accuracy of {counted(len(marks), 'trial')}"),
            legend(*_keys(tuning, goal)),
        )
    )


def _goal(tuning: TuningFacts) -> float | None:
    criterion, baseline = tuning.criterion, tuning.baseline
    if criterion is None or baseline is None or (criterion.relative and not baseline):
        return None
    return criterion.target(baseline)


def _height(trial: Trial) -> float | None:
    return trial.score.accuracy


def _mark(frame: Frame, trial: Trial, tuning: TuningFacts) -> Markup:
    look, said = _LOOKS[trial.score.state]
    if len(tuning.trials) > _MANY:
        return frame.dot(trial.number, _height(trial), look.split()[1])
    told = f"trial {trial.number}: {tuning.monitor} {accuracy(trial.score.accuracy)}, {said}"
    return frame.mark(trial.number, _height(trial), look, told)


def _keys(tuning: TuningFacts, goal: float | None) -> Iterator[tuple[str, Content]]:
    if tuning.baseline is not None:
        yield "line baseline", f"fp32 {accuracy(tuning.baseline)}"
    if goal is not None:
        yield "line goal", f"goal {accuracy(goal)}"
    for state in {one.score.state: None for one in tuning.trials}:
        yield _LOOKS[state]
    if tuning.best is not None:
        yield "ring taken", f"taken: trial {tuning.best}"


def _table(tuning: TuningFacts) -> Markup:
    """Return a row a trial; ops in half precision are counted where there are any."""
    kinds = ["int8", "fp32"]
    if any(one.recipe.on(Rung.BF16) for one in tuning.trials):
        kinds.insert(1, "bf16")
    trained = {one.number for one in tuning.trials if one.recipe.is_trained}
    rows = (_row(one, tuning, kinds, trained) for one in tuning.trials)
    return table(_head(tuning, kinds), rows, class_="sortable")


def _head(tuning: TuningFacts, kinds: Sequence[str]) -> Iterator[tuple[str, str]]:
    yield "trial", "number"
    yield from ((one, "number") for one in kinds)
    yield from (("accuracy", "number"), ("came to", "text"))
    if _has_objective(tuning):
        yield {"performance": "a step", "modelsize": "size"}.get(tuning.objective, "peak"), "number"
    yield "took", "number"


def _has_objective(tuning: TuningFacts) -> bool:
    return any(one.score.objective is not None for one in tuning.trials)


def _counts(trial: Trial) -> Mapping[str, int]:
    """Return how many ops are of each kind that a column counts."""
    rungs = Counter(config.rung for _, config in trial.recipe.ops)
    int8 = sum(count for rung, count in rungs.items() if rung.is_int8)
    return {"int8": int8, "bf16": rungs[Rung.BF16], "fp32": rungs[Rung.FP32]}


def _row(
    trial: Trial, tuning: TuningFacts, kinds: Sequence[str], trained: Collection[int]
) -> Markup:
    score, counts = trial.score, _counts(trial)
    best = trial.number == tuning.best
    cells = [
        number_cell(str(trial.number)),
        *(number_cell(str(counts[one])) for one in kinds),
        number_cell(f"{'≈ ' * score.screened}{accuracy(score.accuracy)}", score.accuracy),
        tag("td", _came_to(trial), tag("b", ", taken") if best else None, _rounded(trial, trained)),
    ]
    if _has_objective(tuning):
        cells.append(number_cell(objective(score.objective, tuning.objective), score.objective))
    cells.append(number_cell(duration(score.seconds), score.seconds))
    return tag("tr", cells, class_="best" if best else None)


def _rounded(trial: Trial, trained: Collection[int]) -> str | None:
    """Return how a trial rounds, where a training for int8 makes that a question.

    Args:
        trial: a trial.
        trained: numbers of those that round as they were trained.
    """
    if not trained:
        return None
    return "; trained rounding" if trial.number in trained else "; PTQ of the trained weights"


def _came_to(trial: Trial) -> Content:
    score = trial.score
    if score.failed:
        return f"failed: {shortened(score.failure or '', 300)}"
    if score.screened:
        return f"given up after {score.evaluations:.0%} of a pass"
    return "met" if score.accepted else "not met"


def pareto_section(tuning: TuningFacts) -> Markup | None:
    """Return the trials by accuracy and objective, where there is a choice."""
    known = [one for one in tuning.trials if one.score.in_full and one.score.objective is not None]
    if len(known) < 2 or len(tuning.pareto) < 2:
        return None  # there is nothing to choose between
    unit, scale = _unit(tuning.objective)
    places = {
        one.number: ((one.score.objective or 0.0) * scale, one.score.accuracy or 0.0)
        for one in known
    }
    frame = Frame(
        Axis.of([x for x, _ in places.values()], unit),
        Axis.of([y for _, y in places.values()], shortened(tuning.monitor, 40)),
    )
    front = [places[one] for one in tuning.pareto if one in places]
    marks = [_choice(frame, one, places[one.number], tuning) for one in known]
    return section(
        "pareto",
        "Accuracy against " + ("time" if tuning.objective == "performance" else "size"),
        frame.drawn(frame.path(front, "front"), marks, told=f"{len(known)} trials"),
        legend(
            *(_LOOKS[one] for one in {trial.score.state: None for trial in known}),
            ("line front", "no trial is better in both; the numbers are theirs"),
        ),
        lede=f"Each trial that was judged in full. Further left is {_less(tuning.objective)}.",
    )


def _choice(frame: Frame, trial: Trial, place: tuple[float, float], tuning: TuningFacts) -> Markup:
    look, _ = _LOOKS[trial.score.state]
    if len(tuning.trials) > _MANY and trial.number not in tuning.pareto:
        return frame.dot(*place, look.split()[1])
    told = (
        f"trial {trial.number}: {tuning.monitor} {accuracy(trial.score.accuracy)},"
        f" {objective(trial.score.objective, tuning.objective)},"
        f" {counted(len(trial.recipe.fp32_ops), 'op')} fp32"
    )
    label = str(trial.number) if trial.number in tuning.pareto else ""
    return frame.mark(*place, look, told, label)


def _unit(kind: str) -> tuple[str, float]:
    return (_TITLES[kind], 1e3) if kind == "performance" else (f"mega{_TITLES[kind]}", 1e-6)


def _less(kind: str) -> str:
    return "faster" if kind == "performance" else "smaller"
