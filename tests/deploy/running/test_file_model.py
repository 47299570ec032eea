"""Files as models."""

from __future__ import annotations

import copy
from multiprocessing.reduction import ForkingPickler

import pytest
import torch
from file_scenes import conv_file, images, masked_file

from lpot_lightning.deploy.running.file_model import FileModel
from lpot_lightning.errors import ArtifactError, ExportError

TOKENS, MASK = torch.tensor([[3, 5]]), torch.tensor([[True, False]])


def test_one_output_is_a_tensor_and_several_are_a_tuple(tmp_path):
    assert FileModel(conv_file(tmp_path / "model.onnx"))(images()).shape == (3, 4)
    masked, hidden = FileModel(masked_file(tmp_path / "other.onnx"))(TOKENS, MASK)
    assert (masked.tolist(), hidden.tolist()) == ([[3, 0]], [[False, True]])


@pytest.mark.parametrize(
    ("args", "kwargs"),
    [
        ((), {"mask": MASK, "tokens": TOKENS}),
        ((TOKENS,), {"mask": MASK, "labels": MASK}),
        (((TOKENS, MASK),), {}),
    ],
)
def test_arguments_by_name_and_nested_ones(tmp_path, args, kwargs):
    model = FileModel(masked_file(tmp_path / "model.onnx"))
    assert torch.equal(model(*args, **kwargs)[0], model(TOKENS, MASK)[0])


def test_a_name_that_the_file_has_not(tmp_path):
    model = FileModel(masked_file(tmp_path / "model.onnx"))
    with pytest.raises(ExportError) as caught:
        model(tokens=TOKENS, masks=MASK)
    assert str(caught.value) == (
        f"`{tmp_path}/model.onnx` is called with `tokens`, `masks`; allowed: `tokens`, `mask`"
    )


def test_it_is_opened_at_the_first_call(tmp_path):
    model = FileModel(tmp_path / "model.onnx")
    conv_file(tmp_path / "model.onnx")
    assert model(images()).shape == (3, 4)
    with pytest.raises(ArtifactError, match="`nowhere.onnx` is not there"):
        FileModel("nowhere.onnx")(images())


def test_copies_and_what_is_sent_elsewhere_open_it_again(tmp_path):
    model = FileModel(conv_file(tmp_path / "model.onnx"), threads=1)
    wanted = model(images())
    for other in (copy.deepcopy(model), ForkingPickler.loads(ForkingPickler.dumps(model))):
        assert other._opened is None
        assert torch.equal(other(images()), wanted)


def test_another_runtime(tmp_path):
    model = FileModel(conv_file(tmp_path / "model.onnx"), runtime="openvino")
    assert model.runtime.name.startswith("OpenVINO 20")
