"""The whole page: one file that needs nothing else."""

from __future__ import annotations

import base64
import hashlib
from functools import cache
from importlib.resources import files

from lpot_lightning.report.exports import exports_section
from lpot_lightning.report.facts import Facts, PruningFacts
from lpot_lightning.report.markup import Markup, joined, shortened, tag
from lpot_lightning.report.ops import excluded_section, ops_section
from lpot_lightning.report.precision_map import map_section
from lpot_lightning.report.pruned import pruning_section
from lpot_lightning.report.speed import speed_section
from lpot_lightning.report.surroundings import conditions_section, files_section
from lpot_lightning.report.training import training_section
from lpot_lightning.report.trials import pareto_section, trials_section
from lpot_lightning.report.verdict import header
from lpot_lightning.version import VERSION

BEGINNING = 4096
"""Bytes of a page that its title is in."""
_FIRST, _TITLE = b"<!doctype html>", "lpot_lightning report"


def page(facts: Facts) -> bytes:
    """Return a report as HTML: no network, light and dark, readable without JavaScript.

    Nothing in it runs but our own script: a Content-Security-Policy names it by its hash. What
    comes from users, names of ops and metrics, is escaped.

    Args:
        facts: what it is about.

    Example::

        Path("report.html").write_bytes(page(result.facts(result.workspace)))
    """
    style, script = _asset("page.css"), _asset("page.js")
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", http_equiv="Content-Security-Policy", content=_policy(style, script)),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="color-scheme", content="light dark"),
        tag("meta", name="runs", content=_runs(facts)),
        tag("title", f"{shortened(facts.title, 60)} – {_TITLE}"),
        tag("style", Markup(style)),
    )
    body = tag(
        "body",
        header(facts),
        tag("main", _sections(facts)),
        _footer(facts),
        tag("script", Markup(script)),
    )
    text = f"{_FIRST.decode()}\n{tag('html', head, body, lang='en')}\n"
    return text.encode(errors="replace")  # half of a surrogate pair is no text


def is_page(beginning: bytes) -> bool:
    """Whether the first ``BEGINNING`` bytes of a file are those of a page of ours.

    Example::

        is_page(page(result.facts(None))[:BEGINNING])  # True
    """
    return beginning.startswith(_FIRST) and f"{_TITLE}</title>".encode() in beginning


def is_of_both(beginning: bytes, pruning: PruningFacts) -> bool:
    """Whether the first ``BEGINNING`` bytes of a file are of a page of ours of two runs.

    Args:
        beginning: of the file.
        pruning: what one of them came to; the other one is a quantization.
    """
    mark = str(tag("meta", name="runs", content=f"int8 {_mark(pruning)}"))
    return is_page(beginning) and mark.encode() in beginning


def _runs(facts: Facts) -> str:
    """Return which runs a page is of: its file may be copied, with another time."""
    int8 = None if facts.tuning is None else "int8"
    pruned = None if facts.pruning is None else _mark(facts.pruning)
    return " ".join(filter(None, (int8, pruned)))


def _mark(pruning: PruningFacts) -> str:
    """Return what two prunings that came to anything else do not share."""
    return f"pruned-{hashlib.sha256(repr(pruning).encode()).hexdigest()[:16]}"


def _sections(facts: Facts) -> list[Markup | None]:
    tuning, pruning = facts.tuning, facts.pruning
    found: list[Markup | None] = []
    if tuning is not None:
        found += [
            trials_section(tuning),
            pareto_section(tuning),
            speed_section(tuning.speed, tuning.size_ratio, ("fp32", "int8")),
            ops_section(tuning),
            map_section(tuning),
            excluded_section(tuning.excluded, tuning.causes),
            training_section(tuning),
        ]
    if pruning is not None:
        if tuning is None:
            found.append(speed_section(pruning.speed, None, ("dense", "pruned")))
        found.append(pruning_section(pruning, alone=tuning is None))
    found += [exports_section(facts.exports), conditions_section(facts)]
    return [*found, files_section(facts.files, facts.folder)]


def _footer(facts: Facts) -> Markup:
    return tag("footer", joined(f"Written by lpot_lightning {VERSION}, {facts.now}."))


def _policy(style: str, script: str) -> str:
    return (
        f"default-src 'none'; style-src {_hash(style)}; script-src {_hash(script)};"
        " base-uri 'none'; form-action 'none'"
    )


def _hash(text: str) -> str:
    digest = hashlib.sha256(text.encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"


@cache
def _asset(name: str) -> str:
    return files("lpot_lightning.report").joinpath(name).read_text(encoding="utf-8")
