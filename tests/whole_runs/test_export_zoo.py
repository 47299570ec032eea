"""Nets of every kind leave the process, and compute there what they compute here.

An export runs the file with the samples of the calibration and with a single one.
"""

from __future__ import annotations

import pytest
import torch
from int8_scenes import Batch, calibrated, converted, seeded
from peoples_nets import BROUGHT
from rung_scenes import all_on
from zoo import ZOO, calibrated_made

from lpot_lightning.deploy.export import export_model
from lpot_lightning.deploy.options import ExportOptions
from lpot_lightning.deploy.origin import Call, Origin
from lpot_lightning.errors import ExportError
from lpot_lightning.module.stand_in import let_compute
from lpot_lightning.recipe import Rung

FEW = ("residual", "functions")
"""In `make test`; the others take seconds each."""
SIZES = {"graph": {"x": {0: "nodes"}, "edges": {1: "edges"}}, "episodes": False}


def brought(name, rung=None):
    """Return an int8 model with its graphs, and calls of it."""
    if name in ZOO:
        net, batches, found = calibrated_made(name)
    else:
        net = seeded(BROUGHT[name].make)
        torch.manual_seed(1)
        batches = [Batch(*given) for given in BROUGHT[name].inputs()]
        found = calibrated(net, *batches)
    model = converted(net, found, None if rung is None else all_on(found, rung))
    let_compute(model, found.graphs(model))
    return model.requires_grad_(False), [Call(one.args, one.kwargs) for one in batches]


REFUSED = {
    ("episodes", "onnxruntime"): "ONNX has nothing for `aten._cdist_forward`",
    ("episodes", "openvino"): "ONNX has nothing for `aten._cdist_forward`",
    ("LoRA", "ts"): "cannot record `forward`: Cannot insert a Tensor that requires grad",
    ("embedding bag", "openvino"): "cannot be opened by OpenVINO .* Failed operations .* ReduceSum",
}
"""What ONNX, or a runtime, has not."""


def exported(name, path, target=None, rung=None):
    model, calls = brought(name, rung)
    options = ExportOptions(target=target, dynamic=SIZES.get(name, True))
    return export_model(model, path, options, Origin(root="", calls=tuple(calls)))


def names(few=FEW):
    return [
        one if one in few else pytest.param(one, marks=pytest.mark.soak) for one in (*ZOO, *BROUGHT)
    ]


@pytest.mark.parametrize("name", names())
def test_pt2(name, tmp_path):
    made = exported(name, tmp_path / "m.pt2")
    assert made.checked is not None
    assert made.checked.relative == made.checked.largest == 0


@pytest.mark.parametrize("target", ["onnxruntime", "openvino"])
@pytest.mark.parametrize("name", names())
def test_onnx(name, target, tmp_path):
    if refused := REFUSED.get((name, target)):
        with pytest.raises(ExportError, match=refused):
            exported(name, tmp_path / "m.onnx", target)
        return
    made = exported(name, tmp_path / "m.onnx", target)
    assert made.checked is not None
    assert made.checked.int8_ops == made.int8_ops


@pytest.mark.parametrize("ending", ["pt2", "ts"])
@pytest.mark.parametrize("rung", [Rung.DYNAMIC, Rung.WEIGHT_ONLY])
@pytest.mark.parametrize("name", names(("linear",)))
def test_rungs_in_torch(name, rung, ending, tmp_path):
    if refused := REFUSED.get((name, ending)):
        with pytest.raises(ExportError, match=refused):
            exported(name, tmp_path / f"m.{ending}", rung=rung)
        return
    made = exported(name, tmp_path / f"m.{ending}", rung=rung)
    assert made.checked is not None
    assert made.checked.from_int8 == 0
    assert made.int8_ops + made.kept_ops > 0 or "embedding" in name


@pytest.mark.parametrize("target", ["onnxruntime", "openvino"])
@pytest.mark.parametrize("rung", [Rung.DYNAMIC, Rung.WEIGHT_ONLY])
@pytest.mark.parametrize("name", names(("linear",)))
def test_rungs_in_onnx(name, rung, target, tmp_path):
    if refused := REFUSED.get((name, target)):
        with pytest.raises(ExportError, match=refused):
            exported(name, tmp_path / "m.onnx", target, rung)
        return
    made = exported(name, tmp_path / "m.onnx", target, rung)
    assert made.checked is not None
    assert made.checked.int8_ops == made.int8_ops
