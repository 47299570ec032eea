"""A file that computes something else is told by the first op that does."""

from __future__ import annotations

import onnx
import pytest
from deploy_scenes import images, small_onnx
from onnx import numpy_helper
from rung_scenes import few_rungs_onnx, rows

from lpot_lightning.deploy.onnx.faults import first_fault, other_tensor
from lpot_lightning.deploy.onnx.onnx_file import OP

CALL = (images(4, 1),)
RUNTIMES = pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])


def spoilt(path, spoil, of=small_onnx):
    """Write a model, spoilt by ``spoil``; return what it was made of."""
    made, content = of("onnxruntime")
    model = onnx.load_from_string(content)
    spoil(model)
    onnx.save(model, str(path))
    return made


def other_weight(model, name="block.weight"):
    (weight,) = (one for one in model.graph.initializer if one.name == name)
    values = numpy_helper.to_array(weight).copy()
    values.flat[0] ^= 64
    weight.CopyFrom(numpy_helper.from_array(values, weight.name))


def other_stride(model):
    """Let the depthwise convolution do something else with the same tensors."""
    for node in model.graph.node:
        if node.op_type == "HardSwish":
            node.op_type = "Relu"


def test_a_tensor_that_is_another_one(tmp_path):
    made = spoilt(tmp_path / "m.onnx", other_weight)
    said = first_fault(tmp_path / "m.onnx", made, CALL, "onnxruntime")
    assert said == "`weight` of `block` is not what was written"


@RUNTIMES
def test_an_op_that_computes_something_else(tmp_path, runtime):
    made = spoilt(tmp_path / "m.onnx", other_stride)
    said = first_fault(tmp_path / "m.onnx", made, CALL, runtime)
    assert said == "`depthwise` is the first op that gives something else"
    assert [one.name for one in tmp_path.iterdir()] == ["m.onnx"]


def test_no_op_alone(tmp_path):
    made = spoilt(tmp_path / "m.onnx", lambda _: None)
    assert first_fault(tmp_path / "m.onnx", made, CALL, "onnxruntime").startswith("each op by")


def test_all_ops_are_known_to_the_file(tmp_path):
    made = spoilt(tmp_path / "m.onnx", lambda _: None)
    model = onnx.load(str(tmp_path / "m.onnx"))
    named = {one.value for node in model.graph.node for one in node.metadata_props if one.key == OP}
    assert named == set(made.ops.values())


def other_kept(model):
    (name,) = [one.name for one in model.graph.initializer if list(one.dims) == [2, 32, 32]]
    other_weight(model, name)


def test_a_weight_that_is_kept_as_integers_is_looked_at(tmp_path):
    made = spoilt(tmp_path / "m.onnx", other_kept, few_rungs_onnx)
    told = "`values` of `narrow` is not what was written"
    assert other_tensor(tmp_path / "m.onnx", made) == told


def other_rows(model):
    """Let the least of a row be its greatest."""
    for node in model.graph.node:
        if node.op_type == "ReduceMin":
            node.op_type = "ReduceMax"


def test_a_layer_of_rows_that_differs(tmp_path):
    made = spoilt(tmp_path / "m.onnx", other_rows, few_rungs_onnx)
    told = first_fault(tmp_path / "m.onnx", made, (rows(4),), "onnxruntime")
    assert told == "`first` is the first op that gives something else"
