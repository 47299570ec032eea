"""`ExportCallback`: files for other runtimes when a fit is over."""

from __future__ import annotations

import logging
import threading
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from export_scenes import made_up
from lightning.pytorch.callbacks import ModelCheckpoint
from lit_scenes import Lit, conf, fitted, train_loader, trainer, val_loader
from users_world import watched

from lpot_lightning import ExportCallback, QuantizationCallback
from lpot_lightning.deploy.export_records import read_exports
from lpot_lightning.errors import (
    ArtifactError,
    ConfError,
    EvaluationError,
    ExportError,
    QuantizationError,
)
from lpot_lightning.timing.in_turns import threads

PRUNING = {"approach": {"weight_compression": {"end_epoch": 1, "pruners": [{}]}}}


def quantization(workspace, **given):
    return QuantizationCallback(conf(workspace, **given))


def told(kind, work, *given, **named):
    with pytest.raises(kind) as caught:
        work(*given, **named)
    return str(caught.value)


def test_the_int8_model_of_the_callback_before(workspace, monkeypatch):
    exports, before = made_up(monkeypatch), quantization(workspace)
    callback = ExportCallback(["onnx", ".pt2"], opset=20)
    assert callback.exported == ()
    fitted(callback, others=(before,))
    paths = [workspace / "exports" / name for name in ("model.onnx", "model.pt2")]
    assert [one.path for one in callback.exported] == paths
    assert all(path.read_bytes() == b"a model" for path in paths)
    assert all(one.model is before.result.model for one in exports.asked)
    assert exports.asked[0].options.opset == 20


def test_the_workspace_remembers_exports_and_its_report_tells_of_them(workspace, monkeypatch):
    made_up(monkeypatch)
    callback, before = ExportCallback(["onnx"]), quantization(workspace)
    fitted(callback, others=(before,))
    before.result.export(workspace / "mine.pt2")
    found = read_exports(workspace)
    assert [str(one.path) for one in found] == ["exports/model.onnx", "mine.pt2"]
    assert found[0] == replace(callback.exported[0], path=found[0].path)
    text = (workspace / "report.html").read_text()
    assert '<section id="exports">' in text
    assert "not checked" in text


def test_records_that_are_damaged_are_told_and_cost_no_export(workspace, monkeypatch):
    made_up(monkeypatch)
    before = quantization(workspace)
    fitted(before)
    (workspace / "exports.json").write_text("no JSON")
    with pytest.warns(UserWarning, match=r"exports\.json` is not what .*; remove it") as caught:
        assert before.result.export(workspace / "mine.pt2").bytes == 7
    assert len(caught) == 1


def test_it_knows_what_the_model_is_called_with(workspace, monkeypatch):
    exports = made_up(monkeypatch)
    fitted(ExportCallback(["pt2"]), others=(quantization(workspace),))
    origin = exports.asked[0].origin
    assert (origin.root, origin.monitor, origin.accuracy) == ("net", "val_acc", 1.0)
    assert [tuple(call.args[0].shape) for call in origin.calls] == [(16, 8)] * 4


def test_the_metric_is_that_of_the_whole_validation_loop(workspace, monkeypatch):
    made_up(monkeypatch)
    callback, seen = ExportCallback(["pt2"], judge=True), []
    step = Lit.validation_step

    def noting(self, batch, batch_idx):
        seen.append(len(batch[0]))
        step(self, batch, batch_idx)

    before = quantization(workspace)
    end = before.on_fit_end

    def then(*given):
        end(*given)
        monkeypatch.setattr(Lit, "validation_step", noting)

    before.on_fit_end = then
    one = fitted(callback, others=(before,))
    assert (callback.exported[0].accuracy, callback.exported[0].monitor) == (1.0, "val_acc")
    assert seen == [16, 16, 16]
    assert one.callback_metrics == {}


def test_the_pruned_model(workspace, monkeypatch):
    from lpot_lightning import PruningCallback

    exports, before = made_up(monkeypatch), PruningCallback(conf(workspace, pruning=PRUNING))
    module = Lit(lr=0.01)
    fitted(ExportCallback(["pt2"], judge=True), module, others=(before,), max_epochs=3)
    (one,) = exports.asked
    assert one.model is before.result.model
    assert (one.origin.root, one.origin.accuracy) == ("net", before.result.accuracy)
    assert len(one.origin.calls) == 3
    assert one.path == workspace / "exports/model.pt2"


def test_without_a_callback_before_it_is_a_copy_in_fp32(tmp_path, monkeypatch):
    exports, module = made_up(monkeypatch), Lit()
    callback = ExportCallback(["pt2"])
    fitted(callback, module, default_root_dir=tmp_path / "root")
    (one,) = exports.asked
    assert one.model is not module
    assert torch.equal(one.model.net[0].weight, module.net[0].weight)
    assert not one.model.training
    assert (one.origin.root, len(one.origin.calls)) == ("net", 3)
    assert callback.exported[0].path == tmp_path / "root/exports/model.pt2"


def test_a_copy_in_fp32_is_judged_as_it_is_validated(monkeypatch):
    made_up(monkeypatch)
    callback = ExportCallback(["pt2"], judge=True)
    fitted(callback)
    found = callback.exported[0]
    assert (found.monitor, found.accuracy, found.int8_accuracy) == ("val_acc", 1.0, 1.0)


def test_names_of_files(workspace, monkeypatch, tmp_path):
    made_up(monkeypatch)
    callback = ExportCallback(["small/net.onnx", str(tmp_path / "elsewhere/net.ts")])
    fitted(callback, others=(quantization(workspace),))
    assert [one.path for one in callback.exported] == [
        workspace / "exports/small/net.onnx",
        tmp_path / "elsewhere/net.ts",
    ]


def test_the_table_is_printed(monkeypatch, caplog, capsys):
    made_up(monkeypatch)
    callback = ExportCallback(["pt2"])
    with caplog.at_level(logging.INFO):
        fitted(callback)
    assert callback.exported[0].table() in capsys.readouterr().out
    assert "wrote `" in caplog.text


def test_a_fast_dev_run_writes_nothing(workspace, monkeypatch, caplog, tmp_path):
    exports = made_up(monkeypatch)
    with caplog.at_level(logging.INFO):
        fitted(ExportCallback(["pt2"]), others=(quantization(workspace),), fast_dev_run=1)
        fitted(ExportCallback(["pt2"]), fast_dev_run=1)
    assert exports.asked == []
    assert caplog.text.count("nothing is exported in a `fast_dev_run`") == 2
    assert not list(tmp_path.rglob("exports"))


def test_a_form_or_an_option_that_is_none_is_told_when_it_is_created():
    assert "Did you mean `onnx`?" in told(ConfError, ExportCallback, ["onxn"])
    assert "`target` is `tensorrt`" in told(ConfError, ExportCallback, ["onnx"], target="tensorrt")


def test_what_is_missing_is_told_before_the_training(monkeypatch):
    monkeypatch.setattr("lpot_lightning.deploy.requirements.find_spec", lambda name: None)
    one = trainer(ExportCallback(["onnx"]), max_epochs=1)
    said = told(ExportError, one.fit, Lit(), train_loader(), val_loader())
    assert said.endswith("`pip install 'lpot-lightning[onnx]'`")
    assert one.global_step == 0


def test_a_folder_that_cannot_be_written_is_told_before_the_training(tmp_path):
    (tmp_path / "exports").write_text("a file")
    one = trainer(ExportCallback(["pt2"]), max_epochs=1)
    said = told(ArtifactError, one.fit, Lit(), train_loader(), val_loader())
    assert said == (
        f"cannot write to the folder of an export `{tmp_path / 'exports'}`: it is a file, and no"
        " folder; give another one in `formats`"
    )
    assert one.global_step == 0


def test_what_quantizes_or_prunes_has_to_stand_before(workspace):
    one = trainer(ExportCallback(["pt2"]), quantization(workspace))
    assert told(ConfError, one.fit, Lit(), train_loader(), val_loader()) == (
        "`QuantizationCallback` stands after `ExportCallback`, which would find no model of it:"
        " `callbacks=[QuantizationCallback(…), ExportCallback(…)]`"
    )


def test_trainers_that_cannot_be_used():
    one = trainer(ExportCallback(["pt2"]), limit_val_batches=0)
    assert "there is no validation data" in told(EvaluationError, one.fit, Lit(), train_loader())


def test_several_processes_cannot_judge(monkeypatch):
    callback = ExportCallback(["pt2"], judge=True)
    one = trainer(callback)
    monkeypatch.setattr(type(one), "world_size", 2)
    said = told(ConfError, callback.setup, one, Lit(), "fit")
    assert said.startswith("`judge` is given to `ExportCallback`, and the trainer has 2 processes")


def test_a_module_that_cannot_be_copied_is_told_before_the_training():
    module, one = Lit(), trainer(ExportCallback(["pt2"]), max_epochs=1)
    module.lock = threading.Lock()
    assert "cannot be copied" in told(
        QuantizationError, one.fit, module, train_loader(), val_loader()
    )
    assert one.global_step == 0


def test_where_it_fails_the_run_is_there_and_is_told(workspace, monkeypatch):
    made_up(monkeypatch, fails="the file computes something else")
    before, callback = quantization(workspace), watched(ExportCallback(["onnx"]))
    one = trainer(before, callback)
    assert told(ExportError, one.fit, Lit(), train_loader(), val_loader()) == (
        "the file computes something else. The run is over, and its int8 model is in"
        f" `{workspace}`; export it from there by `lpot_lightning.export('{workspace}',"
        " 'model.onnx', model)`."
    )
    assert (callback.watched, callback.exported) == (1, ())
    assert before.result.status == "met"
    assert (workspace / "best_quantized.ckpt").is_file()


def test_where_it_fails_alone_the_trained_weights_are_saved(tmp_path, monkeypatch):
    made_up(monkeypatch, fails="no such op")
    one = trainer(ExportCallback(["pt2"]), max_epochs=1)
    said = told(ExportError, one.fit, Lit(lr=0.1), train_loader(), val_loader())
    (saved,) = (tmp_path / "exports").iterdir()
    assert said.startswith(f"no such op. The trained weights are in `{saved}`; go on with")


def test_a_checkpoint_that_holds_them_is_enough(tmp_path, monkeypatch):
    made_up(monkeypatch, fails="no such op")
    kept = ModelCheckpoint(tmp_path / "kept")
    one = trainer(ExportCallback(["pt2"]), kept, max_epochs=1, enable_checkpointing=True)
    said = told(ExportError, one.fit, Lit(lr=0.1), train_loader(), val_loader())
    assert f"The trained weights are in `{kept.best_model_path}`" in said
    assert list((tmp_path / "exports").iterdir()) == []


def test_errors_of_others_are_told_as_ours(monkeypatch, tmp_path):
    exports = made_up(monkeypatch)
    exports.fails = RuntimeError("unsupported op")
    said = told(ExportError, fitted, ExportCallback(["pt2"]))
    path = tmp_path / "exports/model.pt2"
    assert said.startswith(f"`{path}` cannot be written (RuntimeError: unsupported op)")


def test_a_second_fit_has_no_exports_of_the_first(monkeypatch):
    exports, callback = made_up(monkeypatch), ExportCallback(["pt2"])
    fitted(callback)
    exports.fails = ExportError("no")
    with pytest.raises(ExportError):
        fitted(callback)
    assert callback.exported == ()


class Kept(ExportCallback):
    """Writes what a process knows of the exports to a file of its own."""

    def on_fit_end(self, one, module):
        try:
            super().on_fit_end(one, module)
            said = " ".join(str(found.path.name) for found in self.exported)
        except Exception as error:
            said = str(error)
        Path(f"rank_{one.global_rank}").write_text(said)


@pytest.mark.skipif(not torch.distributed.is_available(), reason="several processes are needed")
def test_of_two_processes_one_exports_and_both_hear_of_it(workspace, monkeypatch, tmp_path):
    made_up(monkeypatch)
    with threads(1):  # a forked process has none of those that torch would wait for
        one = trainer(quantization(workspace), Kept(["pt2"]), strategy="ddp_fork", devices=2)
        one.fit(Lit(), train_loader(), val_loader())
    assert [(tmp_path / f"rank_{rank}").read_text() for rank in (0, 1)] == ["model.pt2"] * 2


@pytest.mark.skipif(not torch.distributed.is_available(), reason="several processes are needed")
def test_of_two_processes_both_hear_of_a_failure(monkeypatch, tmp_path):
    made_up(monkeypatch, fails="no such op")
    with threads(1):
        one = trainer(Kept(["pt2"]), strategy="ddp_fork", devices=2)
        one.fit(Lit(), train_loader(), val_loader())
    assert all("no such op" in (tmp_path / f"rank_{rank}").read_text() for rank in (0, 1))


def test_what_was_trained_for_int8(workspace, monkeypatch):
    from lpot_lightning import QATCallback

    exports = made_up(monkeypatch)
    before = QATCallback(conf(workspace, quantization={"approach": "quant_aware_training"}))
    one = trainer(before, ExportCallback(["pt2"], judge=True), max_epochs=1)
    one.fit(Lit(lr=0.01), train_loader(), val_loader())
    (asked,) = exports.asked
    assert asked.model is before.result.model
    assert (asked.origin.root, len(asked.origin.calls) > 0) == ("net", True)
