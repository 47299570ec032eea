"""Under which conditions: what was asked for, versions, machine, files."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from lpot_lightning.machine.numbers import shown_size
from lpot_lightning.report.facts import Facts, FileFacts
from lpot_lightning.report.markup import Content, Markup, code, number_cell, section, table, tag
from lpot_lightning.report.numbers import duration, goal
from lpot_lightning.tuning.about import About
from lpot_lightning.tuning.score import Criterion


def conditions_section(facts: Facts) -> Markup | None:
    """Return what the run was asked for, and where it ran."""
    about = (facts.tuning and facts.tuning.about) or (facts.pruning and facts.pruning.about)
    if not about:
        return None
    pairs = [tag("div", tag("dt", name), tag("dd", value)) for name, value in _pairs(about)]
    return section("conditions", "Conditions", tag("dl", pairs))


def _pairs(about: About) -> Iterator[tuple[str, Content]]:
    criterion = Criterion(about.goal, about.relative, about.higher_is_better)
    yield "model", code(about.model)
    yield "approach", about.approach.replace("_", " ")
    yield "metric", (code(about.monitor), _direction(about))
    kind = "relative" if about.relative else "absolute"
    asked = "may be lost" if about.goal >= 0 else "is to be won"
    yield asked, f"{goal(about.goal, criterion).lstrip('-')} ({kind})"
    if about.strategy:
        yield "strategy", about.strategy
        yield "objective", about.objective
        yield "at most", f"{about.most} trials"
    if about.timeout:
        yield "timeout", duration(about.timeout)
    yield "random seed", str(about.seed)
    yield from about.versions.items()
    yield from about.machine.items()


def _direction(about: About) -> str:
    return ", higher is better" if about.higher_is_better else ", lower is better"


def files_section(files: Sequence[FileFacts], folder: str) -> Markup | None:
    """Return what lies in the workspace."""
    if not files:
        return None
    rows = (
        tag(
            "tr",
            tag("td", code(one.name), class_="name"),
            number_cell(shown_size(one.bytes), one.bytes),
            tag("td", one.what),
        )
        for one in files
    )
    return section(
        "files",
        "Files",
        table((("file", "text"), ("size", "number"), ("what it is", "text")), rows),
        lede=("They are in ", code(folder), "."),
    )
