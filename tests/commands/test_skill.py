"""`lpot-lightning skill`: the page for assistants, and where it is."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lpot_lightning.commands.main import main
from lpot_lightning.commands.skill import SKILL


def test_it_prints_the_page(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["skill"]) == 0
    assert capsys.readouterr().out == SKILL.read_text()


def test_it_prints_the_folder_that_is_to_be_copied(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["skill", "--path"]) == 0
    assert (Path(capsys.readouterr().out.strip()) / "SKILL.md").is_file()


def test_programs_get_both(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["skill", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found == {"path": str(SKILL.parent), "page": SKILL.read_text()}
