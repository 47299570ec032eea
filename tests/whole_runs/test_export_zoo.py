"""Nets of every kind leave the process, and compute there what they compute here.

An export runs the file with the samples of the calibration and with a single one.
"""

from __future__ import annotations

import pytest
import torch
from int8_scenes import Batch, calibrated, converted, seeded
from peoples_nets import BROUGHT
from zoo import ZOO, calibrated_made

from lpot_lightning.deploy.export import export_model
from lpot_lightning.deploy.options import ExportOptions
from lpot_lightning.deploy.origin import Call, Origin
from lpot_lightning.errors import ExportError
from lpot_lightning.module.stand_in import let_compute

FEW = ("residual", "functions")
"""In `make test`; the others take seconds each."""
SIZES = {"graph": {"x": {0: "nodes"}, "edges": {1: "edges"}}, "episodes": False}


def brought(name):
    """Return an int8 model with its graphs, and calls of it."""
    if name in ZOO:
        net, batches, found = calibrated_made(name)
    else:
        net = seeded(BROUGHT[name].make)
        torch.manual_seed(1)
        batches = [Batch(*given) for given in BROUGHT[name].inputs()]
        found = calibrated(net, *batches)
    model = converted(net, found)
    let_compute(model, found.graphs(model))
    return model.requires_grad_(False), [Call(one.args, one.kwargs) for one in batches]


REFUSED = {
    ("episodes", "onnxruntime"): "ONNX has nothing for `aten._cdist_forward`",
    ("episodes", "openvino"): "ONNX has nothing for `aten._cdist_forward`",
    ("embedding bag", "openvino"): "cannot be opened by OpenVINO .* Failed operations .* ReduceSum",
}
"""What ONNX, or a runtime, has not."""


def exported(name, path, target=None):
    model, calls = brought(name)
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
