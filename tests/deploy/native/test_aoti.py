"""A `.aoti.pt2`: machine code, for any batch, and nothing beside it."""

from __future__ import annotations

import getpass
import os
import tempfile
from pathlib import Path

import pytest
import torch
from deploy_scenes import answer, captured, far, images, int8_of, small_int8
from int8_scenes import Batch
from torch import nn

from lpot_lightning.deploy.native.aoti import write_aoti
from lpot_lightning.errors import ExportError

HEADERS = {f"torchinductor_{getpass.getuser()}"}
"""What torch keeps for all that it compiles."""


def rows(count):
    return torch.randn(count, 8, generator=torch.Generator().manual_seed(count))


@pytest.fixture
def place(tmp_path, monkeypatch):
    """Return an empty folder that is the only one for what is temporary."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


def near(model, batch, path):
    """Compile a model, and return how far its answers are for several sizes of a batch."""
    write_aoti(captured(model, batch(4)), path)
    compiled = torch._inductor.aoti_load_package(str(path))
    return [far(compiled(batch(n)), answer(model, batch(n))[0]) for n in (1, 4, 7)]


def test_machine_code_is_near_for_any_batch(tmp_path, place):
    env, threads = dict(os.environ), torch.get_num_threads()
    model = int8_of(
        nn.Sequential(nn.Linear(8, 8), nn.SiLU(), nn.Linear(8, 4)).eval(), Batch(rows(9))
    )
    assert max(near(model, rows, tmp_path / "model.aoti.pt2")) < 0.01
    assert (dict(os.environ), torch.get_num_threads()) == (env, threads)
    assert {one.name for one in place.iterdir()} <= HEADERS


@pytest.mark.soak
def test_convolutions_and_sums_too(tmp_path):
    assert max(near(small_int8(), images, tmp_path / "model.aoti.pt2")) < 0.01


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
