"""Workspaces of each format version: loaded to the last bit, or refused with the way out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from make import KINDS, conf, files, make
from museum_models import Exhibit, loader, shown
from torch import Tensor, nn

from lpot_lightning import ArtifactError, load, load_from_checkpoint
from lpot_lightning.artifacts import storage
from lpot_lightning.artifacts.tune_config import FORMAT
from lpot_lightning.commands.show import as_text, look
from lpot_lightning.conf.reader import read_conf

HERE = Path(__file__).parent
NOW = HERE / FORMAT.replace("lpot_lightning/", "format_")
READ = [NOW, *sorted(HERE.glob(f"{NOW.name}_*"))]
"""Those of this format: what is added to it later is no reason to refuse the first of them."""
OLD = sorted(set(HERE.glob("format_*")) - set(READ))
CHECKPOINT = "best_quantized.ckpt"
ALL = 600_000
"""Bytes that the museum may have; zipped they are half as many."""


def answers(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "answers.json").read_text())


def halls(*folders: Path) -> list[Any]:
    """Return each workspace of each version, to be a parameter."""
    return [
        pytest.param(folder / kind, id=f"{folder.name}-{kind}")
        for folder in folders
        for kind in answers(folder)
    ]


def opened(folder: Path, name: str) -> nn.Module:
    """Return the model that ``answers.json`` calls by this name."""
    if name in ("pair", "pruned"):
        return load(*files(folder, "best" if name == "pair" else name), Exhibit())
    if name == "fake_quant":
        return load_from_checkpoint(Exhibit, folder / "qat.ckpt", "fake_quant")
    return load_from_checkpoint(Exhibit, folder / name)


def is_answered(model: nn.Module, wanted: list[list[float]]) -> bool:
    """Whether a model answers as it did; processors round the last bits of floats otherwise."""
    with torch.no_grad():
        found = model.eval()(shown())
    return torch.allclose(found, torch.tensor(wanted), rtol=1e-5, atol=1e-6)


def stored(folder: Path, kind: str) -> dict[str, Tensor]:
    _, weights = files(folder, kind)
    return storage.read_weights(weights.read_bytes(), weights)


@pytest.mark.parametrize("folder", halls(*READ))
def test_what_this_version_writes_is_what_it_reads(folder):
    for name, wanted in answers(folder.parent)[folder.name].items():
        assert is_answered(opened(folder, name), wanted), name


@pytest.mark.parametrize("folder", halls(*READ))
def test_nothing_of_the_weights_is_computed_anew(folder):
    kind = "best" if (folder / "best_configure.yaml").exists() else "pruned"
    model, held = opened(folder, "pair" if kind == "best" else kind), stored(folder, kind)
    restored = {name: one for name, one in model.state_dict().items() if name in held}
    assert restored
    for name, one in restored.items():
        assert one.dtype == held[name].dtype, name
        assert torch.equal(one, held[name]), name


@pytest.mark.parametrize("folder", halls(*READ))
def test_all_of_it_is_shown(folder):
    assert "val_loss" in as_text(look(str(folder)))
    if (folder / "deploy.yaml").exists():
        assert read_conf(folder / "deploy.yaml").model.name == "exhibit"


@pytest.mark.parametrize("folder", halls(*OLD))
def test_an_older_one_is_refused_with_both_versions_and_the_way_out(folder):
    version = folder.parent.name.replace("format_", "lpot_lightning/")
    for name in answers(folder.parent)[folder.name]:
        if name in ("qat.ckpt", "fake_quant"):
            continue
        with pytest.raises(ArtifactError) as caught:
            opened(folder, name)
        assert f"`format` is `{version}`, this version reads `{FORMAT}`" in str(caught.value)
        assert "quantize the model again, or load it by the version" in str(caught.value)


@pytest.mark.parametrize("folder", [one for one in OLD if (one / "qat").exists()])
def test_a_training_of_an_engine_that_is_gone_says_what_is_left_of_it(folder):
    for name in ("qat.ckpt", "fake_quant"):
        with pytest.raises(ArtifactError, match="earlier versions, which is gone: train again"):
            opened(folder / "qat", name)


@pytest.mark.parametrize("folder", halls(*OLD, *READ))
def test_the_fp32_model_of_every_version_is_loaded_by_lightning(folder):
    for name in (CHECKPOINT, "qat.ckpt"):
        if (folder / name).exists():
            assert Exhibit.load_from_checkpoint(folder / name, weights_only=True).head is not None


def test_there_is_a_hall_for_each_version():
    names = ["format_1", "format_2", "format_2_without_hashes"]
    assert [one.name for one in sorted(HERE.glob("format_*"))] == names
    assert set(answers(NOW)) == set(KINDS)
    assert sum(one.stat().st_size for one in HERE.rglob("*") if one.is_file()) < ALL


def test_the_script_still_makes_one(tmp_path, monkeypatch):
    monkeypatch.setattr("lpot_lightning.runs.paying.applies", lambda job: False)
    make(tmp_path, ("cut",))
    assert is_answered(opened(tmp_path / "cut", "pruned"), answers(tmp_path)["cut"]["pruned"])
    assert conf(tmp_path)["model"]["name"] == "exhibit"
    assert len(loader()) == 4
