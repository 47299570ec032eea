"""`export`: a result, a model in memory, a workspace."""

from __future__ import annotations

import pytest
import torch
from export_scenes import made_up
from lit_scenes import Lit, conf, fitted, train_loader, trainer, val_loader
from torch import nn
from users_world import kept

from lpot_lightning import QuantizationCallback, export, quantize
from lpot_lightning.deploy.export_records import read_exports
from lpot_lightning.errors import ArtifactError, ConfError, ExportError


@pytest.fixture
def exports(monkeypatch):
    return made_up(monkeypatch)


@pytest.fixture
def result(callback):
    callback = callback()
    fitted(callback)
    return callback.result


def told(kind, *given, **named):
    with pytest.raises(kind) as caught:
        export(*given, **named)
    return str(caught.value)


def test_a_result(exports, result):
    exported = export(result, "a.onnx", target="openvino", judge=True)
    (one,) = exports.asked
    assert one.model is result.model
    assert one.options.target == "openvino"
    assert (exported.accuracy, exported.int8_accuracy) == (1.0, 1.0)


def test_a_result_exports_itself(exports, result):
    assert result.export("a.pt2", check=False).form == "pt2"
    assert exports.asked[0].options.check is False
    with pytest.raises(ConfError, match="`traget` is no option of an export"):
        result.export("a.pt2", traget="openvino")


def test_a_model_in_memory_needs_an_example(exports, result):
    x = torch.ones(2, 8)
    export(result.model, "a.pt2", example=x)
    assert exports.asked[0].model is result.model
    assert exports.asked[0].options.example is x
    said = told(ExportError, nn.Linear(8, 2).eval(), "a.pt2")
    assert said.startswith("nobody knows what `Linear` is called with: give an `example`")


def test_a_model_that_trains_is_copied(exports):
    net = nn.Sequential(nn.Linear(8, 2), nn.Dropout())
    export(net, "a.pt2", example=torch.ones(1, 8))
    assert net.training
    assert not exports.asked[0].model.training


def test_a_workspace_and_the_fp32_model(exports, result, workspace):
    export(workspace, "a.onnx", Lit())
    export(str(workspace), "b.onnx", Lit())
    one, x = exports.asked[0], torch.ones(2, 8)
    assert torch.equal(one.model(x), result.model(x))
    assert (one.origin.root, one.origin.monitor, one.origin.accuracy) == ("net", "val_acc", 1.0)
    (call,) = one.origin.calls
    stored = result.origin.calls[0].args[0]
    assert torch.equal(call.args[0], stored[: len(call.args[0])])


def test_a_workspace_remembers_what_was_exported_from_it(exports, result, workspace):
    export(workspace, "a.pt2", Lit())
    (found,) = read_exports(workspace)
    assert found.path.name == "a.pt2"
    assert '<section id="exports">' in (workspace / "report.html").read_text()


def test_the_call_of_what_is_asked_for(exports, workspace):
    class Two(Lit):
        def __init__(self):
            super().__init__()
            self.head = nn.Linear(3, 3)

        def validation_step(self, batch, batch_idx):
            self.acc(self.head(self.net(batch[0])), batch[1])
            self.log("val_acc", self.acc)

    goal = {"accuracy_criterion": {"absolute": 1.0}}
    quantize(trainer(), Two(), train_loader(), val_loader(), conf=conf(workspace, tuning=goal))
    for method, root, width in ((None, "net", 8), ("head", "head", 3), ("net.forward", "net", 8)):
        export(workspace, "a.pt2", Two(), method=method)
        origin = exports.asked[-1].origin
        assert (origin.root, origin.calls[0].args[0].shape[1]) == (root, width)


def test_a_workspace_of_a_pruning_knows_how_it_is_called(exports, workspace):
    from lpot_lightning import PruningCallback

    pruning = {"approach": {"weight_compression": {"end_epoch": 1, "pruners": [{}]}}}
    callback = PruningCallback(conf(workspace, pruning=pruning))
    fitted(callback, Lit(lr=0.01), max_epochs=3)
    export(workspace, "a.pt2", Lit())
    asked = exports.asked[0]
    assert torch.equal(asked.model.net[0].weight, callback.result.model.net[0].weight)
    assert asked.origin.calls[0].args[0].shape[1] == 8


def test_what_is_no_workspace(exports, tmp_path):
    said = told(ArtifactError, tmp_path, "a.pt2", Lit())
    assert said == (
        f"`{tmp_path}` holds none of `best_configure.yaml`, `pruned_configure.yaml`; allowed: the"
        " workspace of a quantization or a pruning"
    )


def test_what_cannot_be_exported(exports, result):
    assert told(ConfError, "ws", "a.pt2").startswith("`model` is missing: the files of `ws` hold")
    assert told(ConfError, "ws", "a.pt2", 3).startswith("`model` is a `int`: the files of `ws`")
    assert told(ConfError, result, "a.pt2", Lit()).startswith("`model` goes with a workspace")
    assert told(ConfError, result, "a.pt2", trainer=trainer()).startswith("`trainer` goes with a")
    assert told(ConfError, 3, "a.pt2") == (
        "what is exported is a `int`; allowed: a result, a model, or the path of a workspace"
    )


def test_a_trainer_judges_a_workspace_and_is_as_before(exports, result, workspace):
    one, module = trainer(), Lit()
    with kept(one, module):
        found = export(workspace, "a.pt2", module, trainer=one, data=val_loader(), judge=True)
    assert (found.monitor, found.accuracy, found.int8_accuracy) == ("val_acc", 1.0, 1.0)
    said = told(ConfError, workspace, "a.pt2", module, trainer=3)
    assert said == (
        "`trainer` is a `int`, and `model` a `Lit`; allowed: a Lightning `Trainer` for a"
        " LightningModule"
    )


def test_nobody_judges_a_workspace(exports, result, workspace):
    said = told(ExportError, workspace, "a.pt2", Lit(), judge=True)
    assert said.startswith("`judge` takes the metric of your own validation, and there is nobody")


def test_a_quantization_without_a_fit_exports_what_its_yaml_asks_for(exports, workspace):
    asked = conf(workspace, export={"formats": ["onnx"], "judge": True})
    result = quantize(trainer(), Lit(), train_loader(), val_loader(), conf=asked)
    (one,) = exports.asked
    assert one.path == workspace / "exports/model.onnx"
    assert one.model is result.model
    assert one.path.read_bytes() == b"a model"


def test_where_that_fails_the_run_is_there(exports, workspace):
    exports.fails = ExportError("no such op")
    asked = conf(workspace, export={"formats": ["onnx"]})
    with pytest.raises(ExportError) as caught:
        quantize(trainer(), Lit(), train_loader(), val_loader(), conf=asked)
    assert str(caught.value).startswith("no such op. The run is over, and its int8 model is in")
    exports.fails = None
    export(workspace, "a.onnx", Lit())


def test_what_is_missing_is_told_before_the_quantization(workspace, monkeypatch):
    monkeypatch.setattr("lpot_lightning.deploy.requirements.find_spec", lambda name: None)
    asked = conf(workspace, export={"formats": ["onnx"]})
    with pytest.raises(ExportError, match="an export to onnx needs `onnx`"):
        quantize(trainer(), Lit(), train_loader(), val_loader(), conf=asked)
    assert not (workspace / "result.json").exists()


def test_a_callback_alone_says_who_exports(workspace):
    with pytest.warns(UserWarning, match="`export` is done by an `ExportCallback`: take both from"):
        QuantizationCallback(conf(workspace, export={"formats": ["onnx"]}))
