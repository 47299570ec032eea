"""Where files lie until they are good, and what killed exports have left."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from lpot_lightning.deploy.unfinished import PREFIX, unfinished
from lpot_lightning.errors import ExportError


def killed(work) -> None:
    """Do ``work`` in a process that does not outlive it."""
    child = os.fork()
    if not child:
        try:
            work()
        finally:
            os.kill(os.getpid(), signal.SIGKILL)
    assert os.waitpid(child, 0)[1] == signal.SIGKILL


def left(folder: Path) -> list[str]:
    return sorted(str(one.relative_to(folder)) for one in folder.rglob("*") if one.is_file())


def begun(path: Path, *moved: str, new: tuple[str, ...] = ()) -> None:
    """Take files away as an export does, put some new ones there, and be killed."""
    with unfinished(path) as place:
        (place.parent / "before").mkdir()
        for name in moved:
            os.replace(path.with_name(name), place.parent / "before" / name)
        for name in new:
            path.with_name(name).write_text("new")
        os.kill(os.getpid(), signal.SIGKILL)


def test_a_file_of_its_name_in_a_folder_that_goes(tmp_path):
    with unfinished(tmp_path / "new/m.onnx") as place:
        place.write_text("content")
        assert place.name == "m.onnx"
        assert place.parent.parent == tmp_path / "new"
    assert left(tmp_path) == []


def test_what_a_killed_one_has_left_goes_with_the_next(tmp_path):
    killed(lambda: begun(tmp_path / "m.onnx"))
    assert [one.name[: len(PREFIX)] for one in tmp_path.iterdir()] == [PREFIX]
    with unfinished(tmp_path / "other.pt2") as place:
        assert list(tmp_path.iterdir()) == [place.parent]


def test_what_is_in_use_stays(tmp_path):
    with unfinished(tmp_path / "m.onnx") as one, unfinished(tmp_path / "m.onnx") as other:
        one.write_text("one")
        other.write_text("other")
        assert one.read_text() == "one"


@pytest.mark.parametrize("new", [(), ("m.bin",)])
def test_what_was_taken_away_is_put_back(tmp_path, new):
    for name in ("m.xml", "m.bin"):
        (tmp_path / name).write_text("old")
    killed(lambda: begun(tmp_path / "m.xml", "m.xml", "m.bin", new=new))
    with unfinished(tmp_path / "m.xml"):
        assert [(tmp_path / name).read_text() for name in ("m.xml", "m.bin")] == ["old", "old"]


def test_what_was_replaced_is_not(tmp_path):
    for name in ("m.xml", "m.bin"):
        (tmp_path / name).write_text("old")
    killed(lambda: begun(tmp_path / "m.xml", "m.xml", "m.bin", new=("m.bin", "m.xml")))
    with unfinished(tmp_path / "m.xml"):
        pass
    assert left(tmp_path) == ["m.bin", "m.xml"]
    assert (tmp_path / "m.xml").read_text() == "new"


def test_links_and_folders_of_others_stay(tmp_path):
    (tmp_path / "precious").mkdir()
    (tmp_path / f"{PREFIX}link").symlink_to(tmp_path / "precious")
    (tmp_path / ".lpot-other").mkdir()
    with unfinished(tmp_path / "m.onnx"):
        pass
    names = sorted(one.name for one in tmp_path.iterdir())
    assert names == sorted(["precious", f"{PREFIX}link", ".lpot-other"])


def test_errors_do_not_name_what_nobody_sees(tmp_path):
    with pytest.raises(ExportError) as caught, unfinished(tmp_path / "m.onnx") as place:
        raise ExportError(f"cannot read `{place}`")
    assert str(caught.value) == f"cannot read `{tmp_path / 'm.onnx'}`"
