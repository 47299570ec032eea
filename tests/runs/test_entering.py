"""Runs at the same time do not spoil each other's files."""

from pathlib import Path

import pytest

from lpot_lightning.errors import BusyError
from lpot_lightning.machine.lock import WorkspaceLock
from lpot_lightning.runs.entering import entered
from lpot_lightning.runs.workspace import Workspace


def test_each_of_several_runs_has_a_folder(tmp_path: Path) -> None:
    said: list[str] = []
    asked = Workspace(tmp_path / "ws")
    with (
        entered(asked, said.append) as one,
        entered(asked, said.append) as two,
        entered(asked, said.append) as three,
    ):
        assert one == asked
        assert two.folder == tmp_path / "ws" / "parallel" / "1"
        assert three.folder == tmp_path / "ws" / "parallel" / "2"
    assert "is used by another run of this process" in said[0]
    assert said[0].endswith(f"this run leaves its files in `{two.folder}`")
    with entered(asked, said.append) as again:
        assert again == asked


def test_a_folder_is_free_again_after_an_error(tmp_path: Path) -> None:
    asked = Workspace(tmp_path)
    with pytest.raises(KeyError), entered(asked, print):
        raise KeyError
    with entered(asked, print) as again:
        assert again == asked


def test_a_history_to_resume_is_that_one_or_none(tmp_path: Path) -> None:
    asked = Workspace(tmp_path, tmp_path / "history.jsonl")
    with WorkspaceLock(tmp_path), pytest.raises(BusyError), entered(asked, print):
        pass
