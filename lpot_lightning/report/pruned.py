"""What was pruned: how sparse each layer became, and what was cut."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from lpot_lightning.pruning.pruners import LayerSparsity
from lpot_lightning.report.charts import Axis, Frame, bar, steps
from lpot_lightning.report.facts import PruningFacts
from lpot_lightning.report.markup import (
    Content,
    Markup,
    code,
    joined,
    joined_by,
    named,
    number_cell,
    section,
    shortened,
    table,
    tag,
    words,
)
from lpot_lightning.report.numbers import accuracies, share
from lpot_lightning.training_log import SparsityLog


def pruning_section(pruning: PruningFacts, *, alone: bool) -> Markup:
    """Return the course of the sparsity, and the table of layers.

    Args:
        pruning: what it came to.
        alone: whether the top of the page tells of it already.
    """
    log = () if pruning.training is None else pruning.training.sparsity
    rows = (_row(one, log) for one in pruning.layers)
    return section(
        "pruning",
        "Pruning",
        None if alone else _verdict(pruning),
        _total(pruning, log),
        table(_head(pruning, log), rows, class_="sortable layers") if pruning.layers else None,
        None if pruning.accuracy is None else _cost(pruning),
        lede=f"{share(pruning.sparsity)} of the weights that were to be pruned {_became(pruning)}.",
    )


def _became(pruning: PruningFacts) -> str:
    return "became zero, before channels were cut out" if pruning.cut else "are zero"


def _verdict(pruning: PruningFacts) -> Markup | None:
    if pruning.accuracy is None or pruning.baseline is None:
        return None
    word = "met" if pruning.met else "not met"
    pruned, dense = accuracies(pruning.accuracy, pruning.baseline)
    return tag(
        "p", "The goal of the pruning was ", tag("b", word), ": pruned ", code(pruning.monitor),
        f" {pruned}, dense {dense}.",
    )  # fmt: skip


def _total(pruning: PruningFacts, log: Sequence[SparsityLog]) -> Markup | None:
    """Return the share of zeros of all layers together, by the time."""
    if len(log) < 2 or len({one.unit for one in log}) > 1:
        return None
    sizes = {one.name: one.elements for one in pruning.layers}
    points = [(float(one.at), _share_of(one, sizes)) for one in log]
    frame = Frame(Axis.of([x for x, _ in points], log[0].unit, whole=True), Axis.shares("zeros"))
    marks = [
        frame.mark(x, y, "small sparsity", f"{log[0].unit} {x:.0f}: {share(y)} zeros")
        for x, y in points
    ]
    return frame.drawn(_stairs(frame, points), marks, told="share of zeros by time")


def _stairs(frame: Frame, points: Sequence[tuple[float, float]]) -> list[Markup]:
    """Return lines that stay level until the next point: between them nothing was pruned."""
    corners: list[tuple[float, float]] = []
    for x, y in points:
        if corners:
            corners.append((x, corners[-1][1]))
        corners.append((x, y))
    return frame.path(corners, "sparsity")


def _share_of(log: SparsityLog, sizes: Mapping[str, int]) -> float:
    known = [name for name in log.layers if name in sizes]
    zeros = sum(log.layers[name] * sizes[name] for name in known)
    return zeros / max(1, sum(sizes[name] for name in known))


def _head(pruning: PruningFacts, log: Sequence[SparsityLog]) -> Iterator[tuple[str, str]]:
    yield from (("parameter", "text"), ("shape", "text"), ("pattern", "text"))
    if len(log) > 1:
        yield "over time", "text"
    yield from (("zeros", "text"), ("target", "number"))


def _row(layer: LayerSparsity, log: Sequence[SparsityLog]) -> Markup:
    cells: list[Content] = [
        tag("td", code(layer.name), class_="name"),
        tag("td", " × ".join(map(str, layer.shape))),
        tag("td", layer.pattern),
    ]
    if len(log) > 1:
        cells.append(tag("td", _course(layer.name, log)))
    shown = (bar(layer.sparsity), tag("span", share(layer.sparsity)))
    target = "–" if layer.target is None else share(layer.target)
    cells.append(tag("td", shown, class_="share", data_v=repr(layer.sparsity)))
    cells.append(number_cell(target, layer.target if layer.target is not None else -1.0))
    return tag("tr", cells)


def _course(name: str, log: Sequence[SparsityLog]) -> Markup:
    first, last = log[0].at, log[-1].at
    long = max(1, last - first)
    return steps([((one.at - first) / long * 0.9, one.layers.get(name, 0.0)) for one in log])


def _cost(pruning: PruningFacts) -> Iterator[Content]:
    """Yield what was cut, and what that saves."""
    before, after = pruning.parameters
    if not pruning.cut:
        yield tag(
            "p", f"No channel was cut: the model keeps its {before:,} parameters, and zeros alone"
            " make a dense kernel no faster.",
        )  # fmt: skip
        return
    yield tag("h3", "What was cut")
    macs = "" if pruning.macs is None else _macs(*pruning.macs)
    yield tag("p", f"Parameters: {before:,} → {after:,} ({after / before:.1%} are left).{macs}")
    rows = (
        tag(
            "tr",
            tag("td", code(name), class_="name"),
            tag("td", _shape(one)),
            tag("td", _shape(two)),
        )
        for name, (one, two) in pruning.cut.items()
    )
    yield table((("weight", "text"), ("before", "text"), ("after", "text")), rows, class_="cut")
    if pruning.unprunable:
        yield tag("h3", "What keeps all its channels")
        yield _whole(pruning.unprunable)


def _whole(unprunable: Mapping[str, str]) -> Markup:
    """Return what channels cannot be cut out of, by the reason."""
    names: dict[str, list[str]] = {}
    for name, reason in unprunable.items():
        names.setdefault(reason, []).append(name)
    rows = (
        tag(
            "tr",
            tag("td", joined_by(", ", map(named, those)), class_="name"),
            tag("td", words(shortened(reason, 600)), class_="why"),
        )
        for reason, those in names.items()
    )
    return table((("what", "text"), ("why", "text")), rows, class_="reasons")


def _macs(before: int, after: int) -> str:
    left = f" ({after / before:.1%})" if before else ""
    return f" Multiply-accumulates of one sample: {before:,} → {after:,}{left}."


def _shape(sizes: Sequence[int]) -> Markup:
    return joined(" × ".join(map(str, sizes)))
