"""Commands that pages show: run where that is quick, else held against what they name."""

from __future__ import annotations

import re
import shlex
import subprocess
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path

from shown_code import Block
from users_things import Things
from warm_python import python

from lpot_lightning.commands.cli import LPOTCLI
from lpot_lightning.commands.main import main

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
LONG = {"selftest"}
"""What takes a minute, and has a test of its own."""
_ASSIGNED = re.compile(r"\w+=\S*")


def commands_of(block: Block) -> Iterator[list[str]]:
    """Return the words of each command: all lines of `sh`, those of `text` that begin with `$`."""
    for line in block.code.replace("\\\n", " ").splitlines():
        shown = line.strip()
        if block.language == "text" and not shown.startswith("$ "):
            continue
        words = shlex.split(shown.removeprefix("$ ").removesuffix("&"), comments=True)
        while words and _ASSIGNED.fullmatch(words[0]):
            words = words[1:]
        if words:
            yield words


def check(words: list[str], page: Path, things: Things) -> None:
    """Run a command, or look whether there is what it names."""
    program, *given = words
    if program not in KINDS:
        raise AssertionError(f"{page.name}: `{shlex.join(words)}` is of no kind that is checked")
    KINDS[program](given, page, things)


def _lpot_lightning(given: list[str], page: Path, things: Things) -> None:
    if given[0] in LONG:
        given = [*given, "--help"]
    for name in given:
        things.write(name)
    code = 0
    try:
        code = main(given)
    except SystemExit as ended:  # of argparse
        code = int(ended.code or 0)
    assert code == ("wrong.yaml" in given), f"{page.name}: {shlex.join(given)} ends with {code}"


def _copy(given: list[str], page: Path, things: Things) -> None:
    for inner in re.findall(r"\$\((.+?)\)", " ".join(given)):
        check(shlex.split(inner), page, things)


def _make(given: list[str], page: Path, things: Things) -> None:
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    asked = {one for one in given if not _ASSIGNED.fullmatch(one)}
    assert asked <= targets, f"{page.name}: no target {asked - targets}"


def _pip(given: list[str], page: Path, things: Things) -> None:
    extras = re.findall(r"(?:lpot-lightning|lpot_lightning\S*|\.)\[([\w,]+)\]", " ".join(given))
    asked = {one for each in extras for one in each.split(",")}
    known = set(PROJECT["optional-dependencies"])
    assert asked <= known, f"{page.name}: no extra {asked - known}"


def _python(given: list[str], page: Path, things: Things) -> None:
    if given[0] == "-c":
        compile(given[1], page.name, "exec")
        return
    if given[0] == "-m":
        if given[1] in ("venv", "pip"):
            return
        given = [one for one in given[2:] if one.endswith(".py")]
    if given[0] in things.programs:
        _run_program(given, things.programs[given[0]])
        return
    script = _found(given[0], page)
    text = script.read_text()
    if "LPOTCLI" in text:
        assert given[1] in LPOTCLI.subcommands(), f"{page.name}: {shlex.join(given)}"
        return
    for option in re.findall(r"--[\w-]+", " ".join(given[1:])):
        assert f'"{option}"' in text, f"{page.name}: `{script.name}` has no `{option}`"


def _run_program(given: list[str], block: Block) -> None:
    """Run a program that the page shows, unless it says why not."""
    if block.why_not:
        return
    done = subprocess.run([python(), *given], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, f"{block.path.name}: {shlex.join(given)}\n{done.stderr[-3000:]}"


def _nothing(given: list[str], page: Path, things: Things) -> None:
    return


def _found(name: str, page: Path) -> Path:
    places = (page.parent, ROOT, ROOT / "examples" / "digits")
    found = [one / name for one in places if (one / name).is_file()]
    assert found, f"{page.name}: there is no `{name}`"
    return found[0]


KINDS: dict[str, Callable[[list[str], Path, Things], None]] = {
    "cd": _nothing,
    "cp": _copy,
    "export": _nothing,
    "lpot-lightning": _lpot_lightning,
    "make": _make,
    "pip": _pip,
    "python": _python,
}
