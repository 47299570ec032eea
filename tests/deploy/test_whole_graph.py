"""One graph of a method, whatever Python it is."""

from __future__ import annotations

import pytest
import torch
from deploy_scenes import captured, images, int8_of, small_int8, small_net
from int8_scenes import Batch, calibrated, seeded, state_of
from torch import nn

from lpot_lightning.deploy.native.steps import native_program
from lpot_lightning.deploy.onnx.placing import placed
from lpot_lightning.deploy.whole_graph import method_of
from lpot_lightning.errors import ConfError, ExportError
from lpot_lightning.module.stand_in import put
from lpot_lightning.quantization.capability import DYNAMIC, WEIGHT_ONLY
from lpot_lightning.recipe import FP32, OpConfig, Recipe


class Part(nn.Module):
    """What it does is given."""

    def __init__(self, forward):
        super().__init__()
        self.layer, self.does = nn.Linear(3, 3), forward

    def forward(self, *given):
        return self.does(self, *given)


def test_layers_of_int8_are_one_program():
    whole = captured(small_int8())
    assert {one.op for one in whole.program.kernels} == {"stem.0", "block", "depthwise", "head"}
    assert whole.given.names == ("output",)


def test_a_model_is_as_it_was():
    before = state_of(small_int8())
    captured(small_int8())
    assert state_of(small_int8()) == before


def test_methods_and_parts_are_found_by_name():
    assert captured(small_int8(), path="encode").given.names == ("features", "mean")
    assert captured(small_int8(), path="stem").given.names == ("output",)
    assert [one.op for one in captured(small_int8(), path="stem").program.kernels] == ["stem.0"]


def test_a_method_that_is_not_there_is_told():
    with pytest.raises(ConfError, match=r"`method` is `encod`.*Did you mean `encode`\?"):
        method_of(small_net(), "encod")


def test_floats_have_a_graph_too():
    assert captured(small_net()).program.kernels == []


def test_what_a_method_does_nothing_with_is_no_input():
    whole = captured(Part(lambda m, x, y: m.layer(x)), torch.zeros(2, 3), torch.zeros(2, 4))
    assert [one.value.shape[1] for one in whole.inputs] == [3]


def test_an_input_can_be_given_back():
    whole = captured(Part(lambda m, x: (m.layer(x), x)), torch.zeros(2, 3))
    assert whole.picked == [("result", 0), ("input", 0)]


def test_sizes_are_asked_of_the_inputs():
    whole = captured(Part(lambda m, x: m.layer(x).reshape(x.shape[0] * 3)), torch.zeros(4, 3))
    assert list(whole.sizes.values()) == [(0, 0)]


def test_what_goes_by_values_is_told():
    with pytest.raises(ExportError, match="cannot be written as one graph: .*[Dd]ata.dependent"):
        captured(Part(lambda m, x: m.layer(x) if x.sum() > 0 else x), torch.ones(2, 3))


def test_a_number_that_decides_is_told_in_plain_words():
    def forward(m, x):
        return m.layer(x) if float(x.sum()) > 7 else x

    said = "as one graph: it decides by a value of a tensor, `value > 7.0`, in line .* of `test_"
    with pytest.raises(ExportError, match=said):
        captured(Part(forward), torch.ones(2, 3))


def test_a_check_that_is_left_out_while_torch_compiles_is_no_obstacle():
    def forward(m, x):
        if not torch.compiler.is_compiling() and x.isnan().any():
            raise ValueError("no number")
        return m.layer(x)

    assert captured(Part(forward), torch.ones(2, 3)).inputs


def test_a_size_that_the_code_fixes_is_told():
    with pytest.raises(ExportError, match="works for one size of batch only.*`dynamic=False`"):
        captured(Part(lambda m, x: m.layer(x).reshape(12)), torch.ones(4, 3))
    captured(Part(lambda m, x: m.layer(x).reshape(12)), torch.ones(4, 3), dynamic=False)


def test_an_error_of_the_code_itself_is_told():
    with pytest.raises(ExportError, match="`forward` fails with what it is called with.*channels"):
        captured(small_net(), images(2)[:, :2])


def test_lines_of_your_code_are_told_and_nothing_is_logged(capfd):
    def forward(m, x):
        return m.layer(x).reshape(12)

    line = forward.__code__.co_firstlineno + 1
    told = f"constant \\(4\\), in line {line} of `test_whole_graph.py`; export it for"
    with pytest.raises(ExportError, match=told):
        captured(Part(forward), torch.ones(4, 3))
    with pytest.raises(ExportError, match="branching, in line .* of `test_whole_graph.py`; what"):
        captured(Part(lambda m, x: m.layer(x) if x.sum() > 0 else x), torch.ones(2, 3))
    assert capfd.readouterr().err == ""


class Padded(nn.Module):
    """Attention that leaves out what is padded."""

    def __init__(self):
        super().__init__()
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)

    def forward(self, x, mask):
        return self.attention(x, x, x, key_padding_mask=mask)[0]


def test_attention_with_padding_takes_any_batch():
    call = torch.randn(4, 6, 8), torch.arange(6).expand(4, 6) > 3
    whole = captured(int8_of(seeded(Padded), Batch(*call)), *call)
    assert [one.shape[0] for one in whole.inputs] == ["batch", "batch"]
    assert len(whole.program.kernels) == 2


class Celled(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inp, self.cell, self.out = nn.Linear(8, 8), nn.GRUCell(8, 16), nn.Linear(16, 4)

    def forward(self, x):
        return self.out(self.cell(self.inp(x)))


def celled(config: OpConfig) -> tuple[nn.Module, torch.Tensor]:
    net, x = seeded(Celled).eval().requires_grad_(False), torch.ones(3, 8)
    prepared = calibrated(net, Batch(x))
    recipe = Recipe.of({op.name: op.configs[0] for op in prepared.ops} | {"cell": config})
    put(net, prepared.convert(recipe))
    return net, x


def test_recurrent_layers_in_fp32_are_what_torch_computes_by():
    net, x = celled(FP32)
    whole = captured(net, x)
    assert torch.gru_cell in [node.target for node in whole.program.captured.graph.nodes]
    placed(whole, "onnxruntime", [(x,)])


def test_recurrent_layers_of_dynamic_int8_are_told():
    net, x = celled(DYNAMIC)
    with pytest.raises(ExportError, match=r"`cell` is .* dynamic int8, .* let it be weight-only"):
        placed(captured(net, x), "onnxruntime", [(x,)])


@pytest.mark.parametrize("config", [WEIGHT_ONLY[0], WEIGHT_ONLY[1]])
def test_recurrent_layers_whose_weights_alone_are_int8_go_into_files(config):
    net, x = celled(config)
    whole = captured(net, x)
    assert len(whole.program.kept) == 1
    with torch.no_grad():
        assert torch.equal(native_program(whole)(x), net(x))
