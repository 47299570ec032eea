"""From a model to a file that was checked, or to nothing at all."""

from __future__ import annotations

import os
from pathlib import Path

import onnx
import pytest
import torch
from deploy_scenes import answer, captured, exported, far, images, origin, small_int8, small_net
from int8_scenes import state_of
from onnx import numpy_helper
from rung_scenes import few_rungs, rows
from torch import nn

from lpot_lightning.deploy import export, writing
from lpot_lightning.deploy.options import ExportOptions
from lpot_lightning.deploy.origin import Call
from lpot_lightning.deploy.running.runtimes import open_file
from lpot_lightning.errors import ArtifactError, ConfError, ExportError


def files(folder):
    return sorted(one.name for one in folder.iterdir())


@pytest.mark.parametrize(("name", "target"), [
    ("m.onnx", "onnxruntime"), ("m.onnx", "openvino"), ("m.xml", None),
])  # fmt: skip
def test_a_file_computes_what_the_model_does(tmp_path, name, target):
    made = exported(small_int8(), tmp_path / name, target=target)
    file = open_file(tmp_path / name, runtime=target)
    for count in (1, 6):
        (wanted,) = answer(small_int8(), images(count, 7))
        assert far(file(images(count, 7))[0], wanted) < 0.05
    assert made.checked is not None
    assert made.checked.int8_ops == made.int8_ops == 4
    assert made.checked.relative < 1e-3
    assert made.checked.ms > 0
    if target == "onnxruntime":
        kinds = file.int8_kinds()
        assert (kinds["QLinearConv"], kinds["QGemm"], kinds["QLinearAdd"]) == (3, 1, 1)


def test_what_is_left_are_the_files_and_nothing_else(tmp_path):
    made = exported(small_int8(), tmp_path / "new" / "m.xml")
    assert files(tmp_path / "new") == ["m.bin", "m.xml"]
    assert made.bytes == sum(one.stat().st_size for one in (tmp_path / "new").iterdir())


def test_a_model_and_random_numbers_are_as_they_were(tmp_path):
    before, draws = state_of(small_int8()), torch.get_rng_state()
    exported(small_int8(), tmp_path / "m.pt2")
    assert state_of(small_int8()) == before
    assert torch.equal(torch.get_rng_state(), draws)


def test_floats_can_be_exported_too(tmp_path):
    made = exported(small_net(), tmp_path / "m.onnx")
    assert made.int8_ops == 0
    assert made.checked is not None
    assert made.checked.relative < 1e-5
    assert made.bytes > 0


def test_it_is_shown_as_a_table(tmp_path):
    table = exported(small_int8(), tmp_path / "m.pt2", origin(monitor="acc")).table()
    assert "x [batch, 3, 8, 8]" in table
    assert "4, run as 4" in table


def test_weights_that_alone_are_int8_are_counted_apart(tmp_path):
    made = exported(few_rungs(), tmp_path / "m.pt2", origin(rows(4)))
    assert (made.int8_ops, made.kept_ops, made.checked.int8_ops) == (2, 2, 2)
    assert made.checked.from_int8 == 0
    assert "2 more ops, which compute in floats" in made.table()


def test_a_compiled_file_tells_that_it_holds_floats(tmp_path, monkeypatch):
    monkeypatch.setattr(writing, "write_aoti", lambda *_: None)
    for model, x, told in ((few_rungs(), rows(4), 1), (small_int8(), images(4), 0)):
        made = writing.write("aoti", model, captured(model, x), tmp_path, ExportOptions(), [])
        assert sum("it holds weights as floats" in one for one in made.notes) == told


def test_without_a_check_nothing_is_run(tmp_path):
    assert exported(small_int8(), tmp_path / "m.pt2", check=False).checked is None


class TwoInputs(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(3, 4)

    def forward(self, batch, scale=1.0, unused=None):
        return {"scores": self.layer(batch["a"]) * scale + batch["b"], "a": batch["a"]}


def test_dicts_numbers_and_what_is_not_used(tmp_path):
    model, a, b = TwoInputs().eval(), torch.randn(4, 3), torch.randn(4, 4)
    call = Call(({"a": a, "b": b},), {"scale": 2.0, "unused": a})
    made = exported(model, tmp_path / "m.onnx", origin(call))
    assert made.inputs == {"a": ("batch", 3), "b": ("batch", 4)}
    assert made.outputs == ("scores", "a_1")
    assert made.notes == ("the model does nothing with `unused`",)
    found, *_ = open_file(tmp_path / "m.onnx")(a[:1], b[:1])
    with torch.no_grad():
        wanted = model({"a": a[:1], "b": b[:1]}, scale=2.0)["scores"]
    assert far(found, wanted) < 1e-5


def test_a_method_that_the_model_has_not_is_told_with_near_names(tmp_path):
    with pytest.raises(ConfError, match=r"`encodes`, which .* has not; .* Did you mean `encode`\?"):
        exported(small_int8(), tmp_path / "m.pt2", method="encodes")


def test_an_example_stands_for_what_nobody_knows(tmp_path):
    with pytest.raises(ExportError, match="nobody knows how `encode` is called"):
        exported(small_int8(), tmp_path / "m.pt2", method="encode")
    made = exported(small_int8(), tmp_path / "m.pt2", method="encode", example=images(2))
    assert made.outputs == ("features", "mean")


def test_names_and_sizes_of_ones_own(tmp_path):
    made = exported(
        small_int8(), tmp_path / "m.pt2", input_names=["image"], output_names=["scores"],
        dynamic=False,
    )  # fmt: skip
    assert made.inputs == {"image": (4, 3, 8, 8)}
    assert made.outputs == ("scores",)


def other_scale(model):
    """Change what does little to the answers."""
    (scale,) = (one for one in model.graph.initializer if one.name == "block.bias_scales")
    scale.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(scale) * 2, scale.name))


def other_op(model):
    for node in model.graph.node:
        if node.op_type == "HardSwish":
            node.op_type = "Relu"


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (other_scale, "is damaged: `bias_scales` of `block` is not what was written"),
        (other_op, "off by .* let pass, in ONNX Runtime.*`depthwise` is the first op that gives"),
    ],
)
def test_a_file_that_computes_something_else_is_refused(tmp_path, monkeypatch, spoil, said):
    """Between writing and checking a disk or a runtime may do what it likes."""
    (tmp_path / "m.onnx").write_text("the one before")
    write = writing.write_file

    def spoilt(path, content):
        model = onnx.load_from_string(content)
        spoil(model)
        write(path, model.SerializeToString())

    monkeypatch.setattr(writing, "write_file", spoilt)
    with pytest.raises(ExportError, match=said):
        exported(small_int8(), tmp_path / "m.onnx")
    assert files(tmp_path) == ["m.onnx"]
    assert (tmp_path / "m.onnx").read_text() == "the one before"


def test_a_place_that_cannot_be_written_is_told_first(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ExportError, match="cannot write `.*m.onnx`"):
        exported(small_int8(), tmp_path / "file" / "m.onnx")
    (tmp_path / "m.onnx").mkdir()
    with pytest.raises(ExportError, match="it is a folder"):
        exported(small_int8(), tmp_path / "m.onnx")


def test_a_disk_that_is_full_is_told_without_names_of_ours(tmp_path, monkeypatch):
    def full(path, content):
        raise ArtifactError(f"cannot write `{path}`: No space left on device")

    (tmp_path / "m.onnx").write_text("the one before")
    monkeypatch.setattr(writing, "write_file", full)
    with pytest.raises(ExportError, match=f"^cannot write `{tmp_path}/m.onnx`: No space"):
        exported(small_int8(), tmp_path / "m.onnx")
    assert files(tmp_path) == ["m.onnx"]
    assert (tmp_path / "m.onnx").read_text() == "the one before"


def test_two_files_are_exchanged_together_or_not_at_all(tmp_path, monkeypatch):
    for name in ("m.xml", "m.bin"):
        (tmp_path / name).write_text("the one before")
    replace = os.replace

    def fails_once(one, other):
        if Path(one).name == "m.xml" and Path(one).parent.name.startswith(".lpot-"):
            raise OSError(28, "No space left on device")
        replace(one, other)

    monkeypatch.setattr(export.os, "replace", fails_once)
    with pytest.raises(ExportError, match="cannot write .*No space left"):
        exported(small_int8(), tmp_path / "m.xml", check=False)
    assert {name: (tmp_path / name).read_text() for name in files(tmp_path)} == dict.fromkeys(
        ("m.bin", "m.xml"), "the one before"
    )


def test_another_ending_is_told(tmp_path):
    with pytest.raises(ConfError, match=r"ends in no form.*Did you mean `.onnx`\?"):
        exported(small_int8(), tmp_path / "m.onx")


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"target": "openvinos"}, "`target` is `openvinos`.*Did you mean `openvino`"),
        ({"opset": 3}, "`opset` is `3`; allowed: whole numbers"),
        ({"dynamic": {"x": "batch"}}, "`dynamic` is"),
        ({"dynamic": {"x": {0: "my batch"}}}, "`dynamic` is"),
        ({"input_names": ["a", "a"]}, "`input_names` is"),
    ],
)
def test_options_are_checked(given, said):
    with pytest.raises(ConfError, match=said):
        ExportOptions(**given)


def test_the_metric_is_taken_with_the_file_in_place(tmp_path):
    """The judge calls the model as a validation step does."""

    def judge(model):
        return float(answer(model, images(6, 9))[0].sum())

    made = exported(
        small_int8(), tmp_path / "m.onnx", origin(judge=judge, monitor="sum", accuracy=3.0),
        judge=True,
    )  # fmt: skip
    assert made.accuracy == pytest.approx(judge(small_int8()), rel=0.1)
    assert made.accuracy != judge(small_int8())
    assert "sum" in made.table()


def test_a_judge_that_does_not_ask_the_file_is_told(tmp_path):
    with pytest.raises(ExportError, match="which does not call `forward`"):
        exported(small_int8(), tmp_path / "m.pt2", origin(judge=lambda _: 1.0), judge=True)
    assert files(tmp_path) == []


def test_nobody_to_judge_is_told(tmp_path):
    with pytest.raises(ExportError, match="there is nobody to ask for it"):
        exported(small_int8(), tmp_path / "m.pt2", judge=True)


class Hasty(nn.Module):
    """Writes into its input."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(3, 4)

    def forward(self, x):
        return self.layer(x.mul_(2))


@pytest.mark.parametrize("name", ["m.onnx", "m.pt2", "m.ts"])
def test_an_example_is_as_it_was(tmp_path, name):
    x = torch.ones(4, 3)
    exported(Hasty().eval(), tmp_path / name, example=x)
    assert torch.equal(x, torch.ones(4, 3))


class Drawing(nn.Module):
    """Has dropout in eval mode, too."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(3, 4)

    def forward(self, x):
        return nn.functional.dropout(self.layer(x))


def test_what_draws_random_numbers_is_told_and_draws_none_of_yours(tmp_path):
    model, draws = Drawing().eval(), torch.get_rng_state()
    with pytest.raises(ExportError, match="something else each time"):
        exported(model, tmp_path / "m.ts", example=torch.ones(4, 3))
    assert torch.equal(torch.get_rng_state(), draws)


def test_an_example_may_leave_out_what_the_calibration_gave(tmp_path):
    model, a, b = TwoInputs().eval(), torch.randn(4, 3), torch.randn(4, 4)
    known = Call(({"a": a, "b": b},), {"unused": a})
    made = exported(model, tmp_path / "m.pt2", origin(known), example=({"a": a, "b": b},))
    assert made.notes == ()


class Strided(nn.Module):
    """Any picture in, one vector out."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Conv2d(3, 4, 3, 2, 1)

    def forward(self, x):
        return self.layer(x).mean((2, 3))


@pytest.mark.parametrize("name", ["m.onnx", "m.pt2"])
def test_pictures_of_any_size(tmp_path, name):
    model = Strided().eval()
    sizes = {"x": {0: "batch", 2: "height", 3: "width"}}
    exported(model, tmp_path / name, example=images(4), dynamic=sizes)
    file = open_file(tmp_path / name)
    for other in (torch.randn(1, 3, 1, 2), torch.randn(3, 3, 17, 9)):
        assert far(file(other)[0], answer(model, other)[0]) < 1e-5


class Encoder(nn.Module):
    """Leaves out what is padded, and looks at it afterwards."""

    def __init__(self):
        super().__init__()
        layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
        self.layers = nn.TransformerEncoder(layer, 1)

    def forward(self, x, padded):
        return self.layers(x, src_key_padding_mask=padded)


@pytest.mark.filterwarnings("ignore:.*nested tensors")
def test_a_model_that_takes_another_way_in_torch_is_told(tmp_path):
    padded = torch.arange(6).expand(4, 6) > 3
    call = torch.randn(4, 6, 8), padded
    made = exported(Encoder().eval(), tmp_path / "m.onnx", example=call)
    (note,) = made.notes
    assert note.startswith("the model in torch gives something else, by ")


class Counting(nn.Module):
    """Makes a number of Python of a length."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(3, 4)

    def forward(self, x):
        return self.layer(x).sum(1) / int(x.shape[1])


def test_a_length_that_a_file_keeps_is_seen(tmp_path):
    x, model = torch.randn(4, 6, 3), Counting().eval()
    sizes = {"x": {0: "batch", 1: "length"}}
    with pytest.raises(ExportError, match=r"off by .*int\(x.shape\[1\]\).*export to `.pt2`"):
        exported(model, tmp_path / "m.ts", example=x, dynamic=sizes)
    exported(model, tmp_path / "m.pt2", example=x, dynamic=sizes)
    assert files(tmp_path) == ["m.pt2"]


class Positions(nn.Module):
    """Knows a few positions, as a BERT does."""

    def __init__(self):
        super().__init__()
        self.table = nn.Embedding(9, 3)
        self.register_buffer("ids", torch.arange(9).expand(1, 9))

    def forward(self, x):
        return x + self.table(self.ids[:, : x.shape[1]])


@pytest.mark.parametrize("name", ["m.onnx", "m.pt2"])
def test_a_length_may_have_an_end(tmp_path, name):
    model, x = Positions().eval(), torch.randn(4, 6, 3)
    exported(model, tmp_path / name, example=x, dynamic={"x": {0: "batch", 1: "length"}})
    other = torch.randn(2, 9, 3)
    assert far(open_file(tmp_path / name)(other)[0], answer(model, other)[0]) < 1e-5
