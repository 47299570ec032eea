"""`llms.txt`: an index of what there is to read, for programs; in the wheel, too."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import lpot_lightning

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "llms.txt").read_text()
LINKS = dict(re.findall(r"^- \[(.+?)\]\((.+?)\): .+$", PAGE, re.MULTILINE))


def test_the_wheel_has_the_same_one() -> None:
    assert (Path(lpot_lightning.__file__).parent / "llms.txt").read_text() == PAGE


def test_it_has_a_title_a_summary_and_lists_of_links() -> None:
    title, _, summary = PAGE.split("\n")[:3]
    assert title == "# lpot_lightning"
    assert summary.startswith("> ")
    sections = re.findall(r"^## (.+)$", PAGE, re.MULTILINE)
    assert (sections[0], sections[-1]) == ("Start", "Optional")
    bullets = [line for line in PAGE.splitlines() if line.startswith("- ")]
    assert len(bullets) == len(LINKS) == len(set(LINKS.values()))


def test_every_link_leads_to_a_file() -> None:
    assert [one for one in LINKS.values() if not (ROOT / one).is_file()] == []


def test_every_page_of_the_docs_is_listed() -> None:
    pages = {f"docs/{path.name}" for path in ROOT.glob("docs/*.md")} - {"docs/index.md"}
    missing = [
        f"- [{heading(ROOT / page)}]({page}): …"
        for page in sorted(pages)
        if page not in LINKS.values()
    ]
    assert missing == [], "add these lines to both `llms.txt`"


def heading(path: Path) -> str:
    return path.read_text().lstrip().splitlines()[0].removeprefix("# ")


def test_the_versions_are_those_that_are_installed() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    asked = {
        one.split(">=")[0]: one.split(">=")[1].split(",")[0] for one in project["dependencies"]
    }
    for name in ("torch", "lightning"):
        assert f"{name} {asked[name]}" in PAGE
    assert f"Python {project['requires-python'].removeprefix('>=')}" in PAGE
