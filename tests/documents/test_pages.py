"""Every block of README and the pages, run as one program a page, in an empty folder."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest
import users_digits
from shown_code import Block, blocks_of
from shown_commands import check, commands_of
from shown_yaml import read
from users_things import Made, Things, colour_net

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("**/*.md"))]
OTHERS = {"data-and-metrics": {"model": colour_net}}
"""What is another thing on a page than on all others."""
READ, SHELL = "yaml", ("sh", "text")
pytestmark = [
    pytest.mark.filterwarnings("ignore:.*`tensorboardX` has been removed"),
    pytest.mark.filterwarnings("ignore:.*torch.jit"),
]
each_page = pytest.mark.parametrize(
    "page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix()
)


@pytest.fixture
def things(page: Path, made: Made, monkeypatch: pytest.MonkeyPatch) -> Things:
    """Return what the blocks of a page find, with the YAML files that it shows."""
    monkeypatch.setattr(sys, "argv", ["main.py"])
    monkeypatch.setitem(sys.modules, "digits", users_digits)
    monkeypatch.setitem(sys.modules, "my_package", users_digits)
    things = Things(made, **{name: make() for name, make in OTHERS.get(page.stem, {}).items()})
    for block in shown(page):
        if block.language == READ and block.name:
            things.keep(block)
    return things


def shown(page: Path) -> list[Block]:
    return [one for one in blocks_of(page) if not one.why_not]


@pytest.mark.usefixtures("warm_processes")
@each_page
def test_the_python_of_a_page_runs(page: Path, things: Things) -> None:
    for block in shown(page):
        if block.language == "python":
            things.run(block)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of how Lightning calls jsonargparse
@each_page
def test_the_yaml_of_a_page_is_read(page: Path, things: Things) -> None:
    for block in shown(page):
        for name in re.findall(r"[\w-]+\.yaml", block.code) if block.language == READ else ():
            things.write(name)
        if block.language == READ:
            read(block)


@each_page
def test_the_commands_of_a_page_are_there(page: Path, things: Things) -> None:
    for block in shown(page):
        for words in commands_of(block) if block.language in SHELL else ():
            check(words, page, things)
