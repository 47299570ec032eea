"""Prune, then int8: one Trainer, one YAML."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from export_scenes import made_up
from lightning.pytorch.callbacks import ModelCheckpoint
from lit_scenes import conf, trainer
from qat_scenes import ConvLit, train_images, val_images

from lpot_lightning import (
    ExportCallback,
    PruningCallback,
    QATCallback,
    QuantizationCallback,
    callbacks_from_conf,
    load,
    load_from_checkpoint,
)
from lpot_lightning.errors import ArtifactError, ConfError

PTQ, QAT = "post_training_static_quant", "quant_aware_training"


def pruning(*pruners: dict[str, Any], **shared: Any) -> dict[str, Any]:
    weights = {"target_sparsity": 0.5, "end_epoch": 2, "pruners": list(pruners or ({},)), **shared}
    return {"approach": {"weight_compression": weights}}


def both(workspace: Path, approach: str = PTQ, *pruners: dict[str, Any]) -> dict[str, Any]:
    sampling = {"calibration": {"sampling_size": 32}} if approach == PTQ else {}
    return conf(
        workspace,
        pruning=pruning(*pruners),
        quantization={"approach": approach, **sampling},
        tuning={"accuracy_criterion": {"absolute": 0.5}},
    )


def fit(*callbacks: Any, folder: Path | None = None, **given: Any) -> ConvLit:
    torch.manual_seed(0)
    module = ConvLit()
    kept = (ModelCheckpoint(folder, monitor="val_acc", mode="max"),) if folder else ()
    given = {"max_epochs": 4, "enable_checkpointing": bool(folder), **given}
    trainer(*callbacks, *kept, **given).fit(module, train_images(), val_images())
    return module


def int8_weights(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    found = {name: one for name, one in model.named_modules() if name.endswith("lpot_int8.kernel")}
    if found:
        path = ".lpot_int8.kernel"
        return {name.removesuffix(path): one.weight.float() for name, one in found.items()}
    graph = model.get_submodule("lpot_int8")  # of torch.ao
    trained = {name: getattr(one, "weight", None) for name, one in graph.named_modules()}
    return {name: weight().dequantize() for name, weight in trained.items() if callable(weight)}


@pytest.mark.parametrize("approach", [PTQ, QAT])
@pytest.mark.parametrize("saved", [True, False])
def test_what_is_pruned_is_zero_in_int8(tmp_path, workspace, approach, saved):
    pruned, quantized = callbacks_from_conf(both(workspace, approach))
    module = fit(pruned, quantized, folder=tmp_path / "saved" if saved else None)
    assert pruned.result.sparsity == pytest.approx(0.5, abs=0.005)
    assert quantized.result.status == "met"
    held = int8_weights(quantized.result.model)
    assert len(held) == 3
    for name, weight in held.items():
        before = pruned.result.model.get_submodule(name).weight
        assert (weight[before == 0] == 0).all()
        assert (before == 0).float().mean() == pytest.approx(0.5, abs=0.01)
    assert not any("forward" in vars(part) for part in module.modules())


@pytest.mark.parametrize("approach", [PTQ, QAT])
def test_int8_is_compared_with_the_dense_model(workspace, approach):
    pruned, quantized = callbacks_from_conf(both(workspace, approach))
    fit(pruned, quantized)
    assert quantized.result.baseline == pruned.result.baseline


@pytest.mark.parametrize("approach", [PTQ, QAT])
def test_the_pruned_model_computes_in_fp32_and_comes_back_from_its_files(workspace, approach):
    pruned, quantized = callbacks_from_conf(both(workspace, approach))
    fit(pruned, quantized)
    again = load(
        workspace / "pruned_configure.yaml", workspace / "pruned_model_weights.pt", ConvLit()
    )
    x = torch.randn(4, 1, 8, 8)
    assert torch.equal(again(x), pruned.result.model(x))


@pytest.mark.parametrize("approach", [PTQ, QAT])
def test_channels_are_cut_before_int8(workspace, approach):
    pruned, quantized = callbacks_from_conf(both(workspace, approach, {"pattern": "channel"}))
    module = fit(pruned, quantized)
    small, int8 = pruned.result.model, quantized.result.model
    assert module.net[3].conv.weight.shape == (8, 8, 3, 3)
    assert small.net[3].conv.weight.shape == (4, 4, 3, 3)
    assert int8_weights(int8)["net.3.conv"].shape == (4, 4, 3, 3)
    files = workspace / "best_configure.yaml", workspace / "best_model_weights.pt"
    one = workspace / "best_quantized.ckpt"
    x = torch.randn(4, 1, 8, 8)
    for again in (load(*files, ConvLit()), load_from_checkpoint(ConvLit, one)):
        assert torch.equal(again(x), int8(x))
    dense = ConvLit.load_from_checkpoint(one, weights_only=True)
    assert torch.allclose(dense.eval()(x), small(x), atol=1e-5)


def test_a_plan_of_channels_that_was_edited_is_refused(workspace):
    pruned, quantized = callbacks_from_conf(both(workspace, PTQ, {"pattern": "channel"}))
    fit(pruned, quantized)
    for name, weights in (("pruned", "pruned_model"), ("best", "best_model")):
        file = workspace / f"{name}_configure.yaml"
        told = yaml.safe_load(file.read_text())
        told["channels"]["kept"][0][0] = 7 if told["channels"]["kept"][0][0] != 7 else 6
        file.write_text(yaml.safe_dump(told))
        with pytest.raises(ArtifactError):
            load(file, workspace / f"{weights}_weights.pt", ConvLit())


def test_the_wrong_order_is_told(workspace):
    asked = both(workspace)
    with pytest.raises(ConfError) as caught:
        fit(QuantizationCallback(asked), PruningCallback(asked))
    assert str(caught.value) == (
        "`QuantizationCallback` comes before `PruningCallback`, and would quantize a model that is"
        " not pruned to its end: put `PruningCallback` first in `callbacks`, or take both from"
        " `callbacks_from_conf`"
    )


def test_a_checkpoint_from_before_the_target_is_not_quantized(tmp_path, workspace, caplog):
    pruned, quantized = callbacks_from_conf(both(workspace), monitor="val_acc")
    kept = ModelCheckpoint(tmp_path / "saved", every_n_epochs=2)
    one = trainer(pruned, quantized, kept, max_epochs=3, enable_checkpointing=True)
    with caplog.at_level("INFO"):
        one.fit(ConvLit(), train_images(), val_images())
    for doing in ("judging", "quantizing"):
        assert (
            f"`{kept.best_model_path}` is from before the target sparsity was reached: {doing} the"
            " current weights"
        ) in caplog.text
    for weight in int8_weights(quantized.result.model).values():
        assert (weight == 0).float().mean() >= 0.49


def test_what_a_yaml_asks_for(workspace):
    def kinds(asked):
        return [type(one) for one in callbacks_from_conf(asked)]

    assert kinds(conf(workspace)) == [QuantizationCallback]
    assert kinds(conf(workspace, quantization={"approach": QAT})) == [QATCallback]
    assert kinds(conf(workspace, pruning=pruning())) == [PruningCallback]
    assert kinds(both(workspace)) == [PruningCallback, QuantizationCallback]
    assert kinds(both(workspace, QAT)) == [PruningCallback, QATCallback]


def test_an_export_comes_last(workspace):
    export = {"formats": ["onnx", "pt2"], "target": "openvino", "dynamic": {"x": {0: "batch"}}}
    (alone, last) = callbacks_from_conf(conf(workspace, export=export))
    assert (type(alone), type(last)) == (QuantizationCallback, ExportCallback)
    assert (last.options.target, last.options.dynamic) == ("openvino", {"x": {0: "batch"}})
    pruned = conf(workspace, export=export, pruning=pruning())
    assert [type(one) for one in callbacks_from_conf(pruned)] == [PruningCallback, ExportCallback]
    trained = {**both(workspace, QAT), "export": export}
    assert type(callbacks_from_conf(trained)[-1]) is ExportCallback


def test_a_fit_exports_what_the_yaml_asks_for(workspace, monkeypatch):
    exports = made_up(monkeypatch)
    asked = {**both(workspace), "export": {"formats": ["onnx"]}}
    pruned, quantized, export = callbacks_from_conf(asked)
    fit(pruned, quantized, export)
    assert exports.asked[0].model is quantized.result.model
    assert export.exported[0].path == workspace / "exports/model.onnx"


def test_what_is_exported_is_no_part_of_what_trials_depend_on(workspace, caplog):
    for formats in ([], ["pt2"], ["onnx"]):
        export = {"export": {"formats": formats}} if formats else {}
        asked = conf(workspace, quantization={"calibration": {"sampling_size": 32}}, **export)
        quantized, *_ = callbacks_from_conf(asked)
        with caplog.at_level("INFO"):
            fit(quantized)
    assert caplog.text.count("(from history)") == 2


def test_arguments_reach_all_of_them(workspace):
    pruned, quantized = callbacks_from_conf(
        both(workspace, QAT), monitor="val_acc", modules=["net"], baseline=0.75
    )
    for one in (pruned, quantized):
        assert (one.monitor, one.modules, one.baseline) == ("val_acc", ("net",), 0.75)
