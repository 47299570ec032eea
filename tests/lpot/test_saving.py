"""The `save` of a tuned model."""

from __future__ import annotations

import copy
import pickle
from functools import partial
from pathlib import Path

import pytest
import torch
from plain_scenes import Net, corners, net, quantization

from lpot_lightning import ArtifactError, load
from lpot_lightning.artifacts.storage import Names
from lpot_lightning.lpot.saving import save_files

FILES = ["best_configure.yaml", "best_model_weights.pt"]


class Saver(Net):
    def save(self) -> str:
        return "mine"


def test_copies_of_the_model_save_the_same(workspace: Path) -> None:
    int8 = quantization(workspace)(net())
    for number, one in enumerate([copy.deepcopy(int8), pickle.loads(pickle.dumps(int8))]):  # noqa: S301
        one.save(f"saved/{number}")
        assert sorted(path.name for path in Path(f"saved/{number}").iterdir()) == FILES
    images = corners(400, seed=1).tensors[0]
    assert torch.equal(
        load("saved/0/" + FILES[0], "saved/0/" + FILES[1], net())(images), int8(images)
    )


def test_without_a_folder_the_files_are_where_they_are(workspace: Path) -> None:
    int8, before = quantization(workspace)(net()), sorted(workspace.iterdir())
    int8.save()
    int8.save(workspace)
    assert sorted(workspace.iterdir()) == before


def test_a_model_whose_files_were_replaced_is_not_saved_as_another(workspace: Path) -> None:
    int8 = quantization(workspace)(net())
    (workspace / FILES[0]).write_text("format: another\n")
    with pytest.raises(ArtifactError, match="has the files of another model by now"):
        int8.save("saved")
    assert not Path("saved").exists()


def test_a_class_with_a_save_keeps_it(workspace: Path) -> None:
    model = Saver()
    model.load_state_dict(net().state_dict())
    assert quantization(workspace)(model.eval()).save() == "mine"


def test_the_users_model_gets_none(workspace: Path) -> None:
    model = net()
    quantization(workspace)(model)
    assert not hasattr(model, "save")


def test_a_copy_saves_its_own_files_and_not_those_of_the_run_before(workspace: Path) -> None:
    before = net()
    before.save = partial(save_files, Path("earlier"), Names("pruned.yaml", "pruned.pt"), "")
    quantization(workspace)(before).save("saved")
    assert sorted(path.name for path in Path("saved").iterdir()) == FILES


def test_a_folder_that_cannot_be_written_is_the_one_that_was_given(workspace: Path) -> None:
    int8 = quantization(workspace)(net())
    Path("taken").touch()
    with pytest.raises(ArtifactError, match="folder `taken`: it is a file.* one to `save`"):
        int8.save("taken")


def test_a_save_that_was_set_by_hand_stays(workspace: Path) -> None:
    model = net()
    model.save = lambda: "mine"
    assert quantization(workspace)(model).save() == "mine"
