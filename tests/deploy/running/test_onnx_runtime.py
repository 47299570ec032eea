"""Files in ONNX Runtime."""

from __future__ import annotations

import os
from collections import Counter

import pytest
import torch
from file_scenes import STEP, conv_file, expected, images, masked_file
from onnx import TensorProto

from lpot_lightning.deploy.running.onnx_runtime import OnnxRuntime


def test_an_int8_convolution_is_computed_and_counted(tmp_path):
    opened = OnnxRuntime(conv_file(tmp_path / "model.onnx"), threads=1)
    (scores,) = opened(images())
    assert opened.inputs == ("images",)
    torch.testing.assert_close(scores, expected(images()), atol=STEP / 2, rtol=0)
    assert opened.int8_kinds() == Counter({"QLinearConv": 1})
    assert opened.int8_ops() == 1
    assert os.listdir(tmp_path) == ["model.onnx"]


def test_what_has_nothing_in_int8(tmp_path):
    opened = OnnxRuntime(masked_file(tmp_path / "model.onnx"))
    assert (opened.int8_kinds(), opened.int8_ops()) == ({}, 0)


def test_any_number_of_samples(tmp_path):
    opened = OnnxRuntime(conv_file(tmp_path / "model.onnx"))
    whole = opened(images(5))[0]
    assert torch.equal(torch.cat([opened(images(5)[:2])[0], opened(images(5)[2:])[0]]), whole)


@pytest.mark.parametrize(
    ("kind", "dtype"),
    [
        (TensorProto.FLOAT, torch.float32),
        (TensorProto.FLOAT16, torch.float16),
        (TensorProto.BFLOAT16, torch.bfloat16),
    ],
)
def test_several_tensors_of_several_types(tmp_path, kind, dtype):
    opened = OnnxRuntime(masked_file(tmp_path / "model.onnx", kind))
    masked, hidden = opened(
        torch.tensor([[3, 5]], dtype=torch.int32), torch.tensor([[True, False]])
    )
    assert (masked.dtype, masked.tolist()) == (dtype, [[3, 0]])
    assert (hidden.dtype, hidden.tolist()) == (torch.bool, [[False, True]])


def test_what_came_out_stays_when_it_is_called_again(tmp_path):
    opened = OnnxRuntime(conv_file(tmp_path / "model.onnx"))
    (scores,) = opened(images())
    kept = scores.clone()
    opened(images() + 1)
    assert torch.equal(scores, kept)


def test_as_many_threads_as_are_asked_for(tmp_path):
    path = conv_file(tmp_path / "model.onnx")
    for asked, threads in ((None, torch.get_num_threads()), (3, 3)):
        options = OnnxRuntime(path, asked)._session.get_session_options()
        assert options.intra_op_num_threads == threads
