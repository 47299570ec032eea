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
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
OTHERS = {"data-and-metrics": {"model": colour_net}}
"""What is another thing on a page than on all others."""
pytestmark = [
    pytest.mark.filterwarnings("ignore:.*`tensorboardX` has been removed"),
    pytest.mark.filterwarnings("ignore:.*torch.jit"),
]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # how Lightning calls jsonargparse
@pytest.mark.usefixtures("warm_processes")
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_the_blocks_of_a_page_run_in_their_order(
    page: Path, made: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["main.py"])
    for name in ("digits", "my_package"):
        monkeypatch.setitem(sys.modules, name, users_digits)
    things = Things(made, **{name: make() for name, make in OTHERS.get(page.stem, {}).items()})
    blocks = blocks_of(page)
    for block in blocks:
        if block.name:
            things.keep(block)
    for block in blocks:
        if block.language in RUN and not block.why_not:
            RUN[block.language](block, things)


def run_python(block: Block, things: Things) -> None:
    things.run(block)


def read_yaml(block: Block, things: Things) -> None:
    for name in re.findall(r"[\w-]+\.yaml", block.code):
        things.write(name)
    read(block, things.kinds())


def run_commands(block: Block, things: Things) -> None:
    for words in commands_of(block):
        check(words, block.path, things)


RUN = {"python": run_python, "yaml": read_yaml, "sh": run_commands, "text": run_commands}
"""Blocks of other languages are shown only."""
