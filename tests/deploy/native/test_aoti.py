"""A `.aoti.pt2`: machine code, for any batch, and nothing beside it."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest
import torch
from deploy_scenes import answer, captured, far, images, small_int8

from lpot_lightning.deploy.native.aoti import write_aoti
from lpot_lightning.errors import ExportError


@pytest.fixture
def place(tmp_path, monkeypatch):
    """Return an empty folder that is the only one for what is temporary."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


def test_machine_code_is_near_for_any_batch(tmp_path, place):
    env, threads = dict(os.environ), torch.get_num_threads()
    write_aoti(captured(small_int8()), tmp_path / "model.aoti.pt2")
    assert (dict(os.environ), torch.get_num_threads()) == (env, threads)
    assert list(place.iterdir()) == []
    compiled = torch._inductor.aoti_load_package(str(tmp_path / "model.aoti.pt2"))
    for count in (1, 4, 7):
        assert far(compiled(images(count)), answer(small_int8(), images(count))[0]) < 0.01


def test_without_a_compiler_nothing_is_begun(tmp_path, monkeypatch):
    monkeypatch.setattr("shutil.which", lambda name: None)
    with pytest.raises(ExportError, match=r"takes a compiler of C\+\+.*`g\+\+`.*to `.pt2`"):
        write_aoti(None, tmp_path / "model.aoti.pt2")
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_compiled_leaves_nothing(tmp_path, place, monkeypatch):
    def refuse(*_: object, **__: object) -> None:
        raise KeyError("o_inv_scale")

    whole = captured(small_int8())
    monkeypatch.setattr(torch._inductor, "aoti_compile_and_package", refuse)
    with pytest.raises(ExportError, match=r"cannot compile `forward`: .*o_inv_scale.*`.pt2`"):
        write_aoti(whole, Path(tmp_path / "model.aoti.pt2"))
    assert not (tmp_path / "model.aoti.pt2").exists()
    assert list(place.iterdir()) == []
