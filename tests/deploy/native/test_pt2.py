"""A `.pt2` in a process with torch alone: the bits of the model, for any batch."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
import torch
from deploy_scenes import answer, captured, images, int8_of, small_int8, small_net
from int8_scenes import Batch
from torch import nn

from lpot_lightning.deploy.native.pt2 import write_pt2
from lpot_lightning.errors import ExportError

SIZES = 1, 4, 7
SERVE = """
import json, sys, torch

@torch.library.register_fake("onednn::qlinear_prepack")
def linear_shape(weight, shape):
    return weight.new_empty(weight.shape[1], weight.shape[0])

@torch.library.register_fake("onednn::qconv_prepack")
def conv_shape(weight, *more):
    return torch.empty_like(weight)

model = torch.export.load("model.pt2").module()
tensors = dict(model.named_buffers())
for node in list(model.graph.nodes):
    if "prepack" in str(node.target):
        given = torch.fx.map_arg(node.args, lambda one: tensors[one.target])
        model.register_buffer(f"{node}_once", node.target(*given), persistent=False)
        with model.graph.inserting_before(node):
            node.replace_all_uses_with(model.graph.get_attr(f"{node}_once"))
        model.graph.erase_node(node)
model.recompile()
batches, wanted = torch.load("wanted.pt", weights_only=True)
with torch.no_grad():
    found = [torch.equal(model(batch), one) for batch, one in zip(batches, wanted)]
ours = [name for name in sys.modules if name.startswith(("lpot", "lightning"))]
print(json.dumps([found, ours, "_prepack.default" in model.code]))
"""


def test_torch_alone_gives_the_bits_of_the_model(tmp_path):
    write_pt2(captured(small_int8()), tmp_path / "model.pt2")
    batches = [images(count) for count in SIZES]
    wanted = [answer(small_int8(), one)[0] for one in batches]
    torch.save((batches, wanted), tmp_path / "wanted.pt")
    done = subprocess.run(
        [sys.executable, "-I", "-W", "ignore", "-c", SERVE],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == [[True] * len(SIZES), [], False]


def test_floats_go_the_same_way(tmp_path):
    write_pt2(captured(small_net()), tmp_path / "model.pt2")
    program = torch.export.load(tmp_path / "model.pt2").module()
    for count in SIZES:
        wanted = small_net()(images(count))
        torch.testing.assert_close(program(images(count)), wanted)


def test_weights_are_integers(tmp_path):
    net, x = nn.Sequential(nn.Linear(256, 256)).eval(), torch.randn(4, 256)
    for name, model in (("fp32", net), ("int8", int8_of(net, Batch(x), Batch(x)))):
        write_pt2(captured(model, x), tmp_path / name)
    fp32, int8 = ((tmp_path / name).stat().st_size for name in ("fp32", "int8"))
    assert fp32 - int8 > 2.5 * 256 * 256


class Deciding(nn.Module):
    """What it does is in the values that it gets."""

    def forward(self, x):
        return x * 2 if x.sum() > 0 else x


def test_what_cannot_be_exported_is_told_and_leaves_nothing(tmp_path, monkeypatch):
    def refuse(*_: object, **__: object) -> None:
        raise RuntimeError("no fake for aten.roll.default here")

    whole = captured(small_net())
    monkeypatch.setattr(torch.export, "export", refuse)
    with pytest.raises(ExportError, match=r"for `aten.roll.default`: .*export to `.ts`"):
        write_pt2(whole, tmp_path / "model.pt2")
    assert list(tmp_path.iterdir()) == []


def test_what_depends_on_values_is_told():
    with pytest.raises(ExportError, match=r"`forward` cannot be written as one graph"):
        captured(Deciding(), images(2))
