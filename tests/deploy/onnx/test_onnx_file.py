"""ONNX models: what is in them, and what cannot be."""

from __future__ import annotations

import logging

import onnx
import pytest
import torch
from deploy_scenes import captured, small_int8, small_net, small_onnx
from torch import nn

from lpot_lightning.deploy.onnx.onnx_file import OP, onnx_model
from lpot_lightning.deploy.onnx.placing import placed
from lpot_lightning.errors import ExportError


def model_of(model, *args, path="", opset=None, **how):
    whole = captured(model, *args, path=path, **how)
    made = placed(whole, "openvino", [])
    content = onnx_model(made.module, whole.inputs, whole.given.names, made.ops, opset)
    return onnx.load_from_string(content)


def of_the_small_net():
    return onnx.load_from_string(small_onnx("openvino")[1])


def test_a_model_is_one_that_onnx_allows():
    model = of_the_small_net()
    onnx.checker.check_model(model, full_check=True)
    (given,) = model.graph.input
    assert given.name == "x"
    assert [one.dim_param or one.dim_value for one in given.type.tensor_type.shape.dim] == [
        "batch", 3, 8, 8,
    ]  # fmt: skip


def test_weights_are_8_bits_under_their_names():
    held = {one.name: one for one in of_the_small_net().graph.initializer}
    assert held["block.weight"].data_type == onnx.TensorProto.INT8
    assert list(held["block.weight"].dims) == [8, 8, 3, 3]


def test_nodes_name_the_ops_of_the_model_and_no_lines_of_code():
    model = of_the_small_net()
    properties = [(one.key, one.value) for node in model.graph.node for one in node.metadata_props]
    assert {key for key, _ in properties} == {OP}
    assert {value for _, value in properties} == {"stem.0", "block", "depthwise", "head"}
    assert b".py" not in model.SerializeToString()


def test_methods_with_names_of_their_own_in_an_opset_that_is_asked_for():
    model = model_of(small_int8(), path="encode", opset=21)
    assert {one.domain: one.version for one in model.opset_import}[""] == 21
    assert [one.name for one in model.graph.input] == ["images"]
    assert [one.name for one in model.graph.output] == ["features", "mean"]


def test_a_model_of_floats_has_no_pairs():
    before = logging.getLogger("torch.onnx").level
    kinds = {node.op_type for node in model_of(small_net()).graph.node}
    assert logging.getLogger("torch.onnx").level == before
    assert not kinds & {"QuantizeLinear", "DequantizeLinear"}


class Determinants(nn.Module):
    def forward(self, x):
        return torch.linalg.cholesky(x)


def test_what_onnx_has_not_is_told():
    with pytest.raises(ExportError, match="ONNX has nothing for `aten.linalg_cholesky_ex"):
        model_of(Determinants(), torch.eye(3).repeat(2, 1, 1))
