"""What the ways of the comparison are given, and how they count; nothing is trained."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import onnx
import openvino
import openvino_graph
import pt2e
import pytest
import torch
import way_onnxruntime
import way_ours
from families import FAMILIES, layers
from onnx import TensorProto, helper
from openvino import opset13 as ops
from torch import nn
from training import as_words
from ways import GOALS, OURS, WAYS


@pytest.mark.parametrize("name", FAMILIES)
def test_every_net_takes_the_digits_or_words_made_of_them(name: str) -> None:
    family = FAMILIES[name]
    images = torch.rand(2, 1, 16, 16)
    net = family.build().eval()
    assert net(as_words(images) if family.words else images).shape == (2, 10)
    assert layers(net) >= 3


def test_a_recurrent_module_counts_as_the_layers_that_it_has() -> None:
    assert layers(FAMILIES["GRU"].build()) == 3


def node(kind: str, *names: str) -> onnx.NodeProto:
    return helper.make_node(kind, names[:-1], names[-1:])


def test_layers_of_onnx_are_int8_between_pairs() -> None:
    weights = [helper.make_tensor(name, TensorProto.INT8, [1], [1]) for name in "wvs"]
    graph = helper.make_graph(
        [
            *(node("DequantizeLinear", "q", "s", "x"), node("DequantizeLinear", "w", "s", "wd")),
            *(node("Conv", "x", "wd", "y"), node("MatMul", "y", "v", "z")),
            *(node("Add", "v", "q", "p"), node("DequantizeLinear", "p", "s", "a")),
            node("MatMul", "x", "a", "of activations"),
        ],
        *("graph", [], [], weights),
    )
    assert way_onnxruntime.layers_in_int8(graph) == 1


def test_layers_of_openvino_are_int8_behind_what_was_quantized_and_then_moved() -> None:
    given = ops.parameter([1, 4], np.float32)
    rounded = ops.fake_quantize(given, *map(np.float32, (0, 1, 0, 1)), 256)
    moved = ops.reshape(rounded, np.array([1, 4]), special_zero=False)
    scaled = ops.multiply(ops.convert(ops.constant(np.ones((4, 4), np.int8)), "f32"), np.float32(2))
    int8 = ops.matmul(moved, scaled, False, False)
    floats = ops.matmul(ops.relu(int8), np.ones((4, 4), np.float32), False, False)
    of_activations = ops.matmul(rounded, rounded, False, True)
    model = openvino.Model([floats, of_activations], [given])
    assert openvino_graph.layers_in_int8(model) == 1


def test_images_are_given_to_onnxruntime_ten_at_a_time() -> None:
    batches = way_onnxruntime.Batches(torch.zeros(20, 3))
    shapes = [one and one["x"].shape for one in (batches.get_next() for _ in range(3))]
    assert shapes == [(10, 3), (10, 3), None]


def test_layers_of_a_graph_of_torch_are_int8_behind_a_dequantize() -> None:
    def dequantize_per_tensor(one: object) -> object:
        return one

    graph = torch.fx.Graph()
    given = [graph.call_function(dequantize_per_tensor, (graph.placeholder(n),)) for n in "xw"]
    graph.call_function(pt2e.LAYERS[0], tuple(given))
    graph.call_function(pt2e.LAYERS[1], (given[0], graph.placeholder("v")))
    assert pt2e.layers_in_int8(graph) == 1


def test_the_size_of_a_graph_is_of_the_tensors_that_it_computes_with() -> None:
    root = nn.Module()
    for name in ("used", "left"):
        root.register_buffer(name, torch.zeros(1024, 1024))
    graph = torch.fx.Graph()
    graph.output(graph.get_attr("used"))
    assert pt2e.graph_mib(torch.fx.GraphModule(root, graph)) == 4.0


def test_ours_count_layers_that_compute_in_int8() -> None:
    net = nn.ModuleDict(
        {
            "gru": nn.GRU(2, 2, 2),
            "a": nn.Linear(1, 1),
            "b": nn.Linear(1, 1),
            "e": nn.Embedding(1, 1),
        }
    )
    rungs = {"gru": "dynamic int8", "a": "int8", "b": "weight-only int8", "e": "int8"}
    assert way_ours.in_int8(SimpleNamespace(model=net, rungs=rungs)) == 3


def test_ours_and_nncf_are_asked_for_the_same_goals() -> None:
    of = {name: [way.goal for way in WAYS if way.name == name] for name in (OURS, WAYS[2].name)}
    assert list(of.values()) == [list(GOALS)] * 2
