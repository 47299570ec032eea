"""Where a Trainer's run leaves its files."""

import pytest
from lit_scenes import Lit, conf, fitted, train_loader, trainer, val_loader
from users_world import kept

from lpot_lightning import QuantizationCallback, quantize
from lpot_lightning.conf.reader import read_conf
from lpot_lightning.trainer.session import workspace_in

DEFAULT = "lpot_workspace/pytorch_fx/net"
FILES = {"best_configure.yaml", "best_model_weights.pt", "best_quantized.ckpt", "history.jsonl"}


def names_in(folder):
    return {path.name for path in folder.iterdir()}


@pytest.mark.parametrize("path", [None, "here"])
def test_a_relative_workspace_lies_below_the_root_of_the_trainer(tmp_path, path):
    quantization = QuantizationCallback(conf(path))
    fitted(quantization, default_root_dir=tmp_path / "root")
    workspace = tmp_path / "root" / (path or DEFAULT)
    assert quantization.result.workspace == workspace
    assert names_in(workspace) >= FILES
    assert [one.name for one in tmp_path.iterdir()] == ["root"]


def test_so_it_does_without_a_fit(tmp_path):
    one, module = trainer(default_root_dir=tmp_path / "root"), Lit()
    with kept(one, module):
        result = quantize(one, module, train_loader(), val_loader(), conf=conf("here"))
    assert result.workspace == tmp_path / "root/here"


def test_without_a_root_it_lies_in_the_current_folder(tmp_path):
    quantization = QuantizationCallback(conf())
    fitted(quantization)
    assert quantization.result.workspace == tmp_path / DEFAULT
    assert names_in(tmp_path / DEFAULT) >= FILES


def test_an_absolute_workspace_lies_where_it_is_asked_for(callback, workspace, tmp_path):
    quantization = callback()
    fitted(quantization, default_root_dir=tmp_path / "root")
    assert quantization.result.workspace == workspace
    assert not (tmp_path / "root/workspace").exists()


def test_the_history_to_resume_is_sought_below_the_root(tmp_path):
    given = {"default_root_dir": tmp_path / "root"}
    fitted(QuantizationCallback(conf("here")), **given)
    again = QuantizationCallback(conf(tuning={"workspace": {"resume": "here"}}))
    fitted(again, **given)
    assert again.result.trials[0].replayed
    assert again.result.workspace == tmp_path / "root/here"


def test_a_root_on_another_machine_holds_no_workspace(tmp_path):
    one = trainer()
    one._default_root_dir = "s3://bucket/runs"
    asked = read_conf(conf("here"))
    assert workspace_in(one, asked).folder == tmp_path / "here"


def test_the_home_folder_is_no_relative_path(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    one = trainer(default_root_dir=tmp_path / "root")
    assert workspace_in(one, read_conf(conf("~/here"))).folder == tmp_path / "home/here"
