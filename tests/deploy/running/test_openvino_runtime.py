"""Files in OpenVINO."""

from __future__ import annotations

import os

import pytest
import torch
from file_scenes import STEP, conv_file, expected, images, masked_file, xml_file
from onnx import TensorProto

from lpot_lightning.deploy.running.openvino_runtime import OpenVinoRuntime
from lpot_lightning.errors import ArtifactError, ExportError


@pytest.mark.parametrize("write", [conv_file, xml_file])
def test_an_int8_convolution_is_computed_and_counted(tmp_path, write):
    ending = "onnx" if write is conv_file else "xml"
    opened = OpenVinoRuntime(write(tmp_path / f"model.{ending}"), threads=1)
    (scores,) = opened(images())
    assert opened.inputs == ("images",)
    torch.testing.assert_close(scores, expected(images()), atol=STEP / 2, rtol=0)
    assert (opened.int8_kinds()["Convolution"], opened.int8_ops()) == (1, 1)


def test_any_number_of_samples(tmp_path):
    opened = OpenVinoRuntime(conv_file(tmp_path / "model.onnx"))
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
    opened = OpenVinoRuntime(masked_file(tmp_path / "model.onnx", kind))
    masked, hidden = opened(
        torch.tensor([[3, 5]], dtype=torch.int32), torch.tensor([[True, False]])
    )
    assert (masked.dtype, masked.tolist()) == (dtype, [[3, 0]])
    assert (hidden.dtype, hidden.tolist()) == (torch.bool, [[False, True]])
    assert opened.int8_ops() == 0


def test_a_shape_that_openvino_itself_would_take(tmp_path):
    with pytest.raises(ExportError, match=r"`images` is \[2, 8, 8\]; allowed: \[\?, 1, 8, 8\]"):
        OpenVinoRuntime(conv_file(tmp_path / "model.onnx"))(torch.ones(2, 8, 8))


def test_what_came_out_stays_when_it_is_called_again(tmp_path):
    opened = OpenVinoRuntime(conv_file(tmp_path / "model.onnx"))
    (scores,) = opened(images())
    kept = scores.clone()
    opened(images() + 1)
    assert torch.equal(scores, kept)


def test_threads_and_precision_that_are_asked_for(tmp_path):
    path = conv_file(tmp_path / "model.onnx")
    compiled = OpenVinoRuntime(path, threads=1)._compiled
    told = [compiled.get_property(key) for key in ("INFERENCE_NUM_THREADS", "NUM_STREAMS")]
    assert told == [1, 1]
    assert compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name() == "f32"


def test_the_memory_that_a_request_points_at_is_kept(tmp_path):
    # else the process crashes once a second request of the same model runs (OpenVINO 2026.4)
    opened = OpenVinoRuntime(conv_file(tmp_path / "model.onnx"))
    opened(images().double())
    assert torch.equal(opened._held[0], images())


@pytest.mark.parametrize(
    ("put", "match"),
    [(os.mkfifo, "it is a FIFO"), (lambda weights: weights.symlink_to(weights), "levels of symbo")],
)
def test_weights_that_are_no_file_are_not_given_to_openvino(tmp_path, put, match):
    """It waits for a FIFO, and ends the process at a link to itself."""
    path = xml_file(tmp_path / "model.xml")
    path.with_suffix(".bin").unlink()
    put(path.with_suffix(".bin"))
    with pytest.raises(ArtifactError, match=match):
        OpenVinoRuntime(path)
