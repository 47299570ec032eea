from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from grid_scenes import grid_over
from torch import nn

from lpot_lightning.quantization.layer_forward import LayerForward
from lpot_lightning.quantization.quantized_layer import kind_of, quantized, unquantizable

X = grid_over(-4, 4)


class Named(nn.Linear):
    """Adds nothing that computes."""

    def note(self) -> str:
        return "nothing"


class Casting(nn.Linear):
    def forward(self, x):
        return F.linear(x, self.weight.to(x.dtype), self.bias)


LAYERS = {
    "Linear": (nn.Linear(6, 4), (3, 6)),
    "Linear of tokens": (nn.Linear(6, 4, bias=False), (2, 3, 6)),
    "a subclass": (Named(6, 4), (3, 6)),
    "weight norm": (nn.utils.parametrizations.weight_norm(nn.Linear(6, 4)), (3, 6)),
    "one dimension": (nn.Conv1d(6, 4, 3), (2, 6, 9)),
    "reflected": (nn.Conv2d(6, 4, 3, padding=1, padding_mode="reflect"), (2, 6, 5, 5)),
    "around": (nn.Conv1d(6, 4, 3, padding=2, padding_mode="circular"), (2, 6, 9)),
    "same": (nn.Conv1d(6, 4, 4, padding="same"), (2, 6, 9)),
    "same, even": (nn.Conv2d(6, 4, 3, padding="same", dilation=2), (2, 6, 9, 7)),
    "valid": (nn.Conv2d(6, 4, 3, padding="valid"), (2, 6, 5, 5)),
    "unequal": (nn.Conv2d(6, 4, (3, 1), padding=(1, 0), stride=(1, 2)), (2, 6, 5, 6)),
    "3d": (nn.Conv3d(6, 4, 2, groups=2), (2, 6, 3, 4, 5)),
    "one sample": (nn.Conv2d(6, 4, 3), (6, 5, 5)),
}


def shown(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")
@pytest.mark.parametrize("name", LAYERS)
def test_it_gives_what_the_layer_gives_with_rounded_values(name):
    layer, shape = LAYERS[name]
    x = X.dequantize(X.quantize(shown(*shape)))
    assert kind_of(layer) is not None
    assert unquantizable(layer) is None
    int8 = quantized(layer, X)
    rounded = copy.deepcopy(layer)
    weight = int8.kernel.rounded.dequantize()
    with torch.no_grad():
        if hasattr(rounded, "parametrizations"):
            nn.utils.parametrize.remove_parametrizations(rounded, "weight")
        rounded.weight.copy_(weight)
        assert not int8(x).requires_grad
        torch.testing.assert_close(int8(x), rounded(x), rtol=1e-5, atol=1e-5)


def test_it_gives_the_type_that_it_gets():
    int8, x = quantized(nn.Linear(6, 4), X), shown(3, 6)
    for dtype in (torch.bfloat16, torch.float16, torch.float64):
        assert int8(x.to(dtype)).dtype == dtype
        assert torch.equal(int8(x.to(dtype)), int8(x.to(dtype).float()).to(dtype))


def test_an_embedding_gives_rows():
    layer, ids = nn.Embedding(20, 6, padding_idx=0), torch.randint(20, (4, 5)).t()
    assert kind_of(layer) == "Embedding"
    assert (quantized(layer, None)(ids) - layer(ids)).abs().max() < 0.02


def test_the_layer_is_left_alone():
    layer = nn.Linear(6, 4)
    before = copy.deepcopy(layer.state_dict())
    int8 = quantized(layer, X)
    with torch.no_grad():
        int8.kernel.weight.zero_()
        int8.kernel.bias.zero_()
    assert all(torch.equal(layer.state_dict()[name], before[name]) for name in before)


def test_what_computes_otherwise_has_no_form():
    own = nn.Linear(6, 4)
    own.forward = lambda x: x
    for layer in (Casting(6, 4), own, nn.ConvTranspose1d(6, 4, 3), nn.ReLU()):
        assert kind_of(layer) is None


@pytest.mark.filterwarnings("ignore:Initializing zero-element tensors")
def test_why_a_layer_has_no_form_is_told():
    spoilt = nn.Linear(6, 4)
    with torch.no_grad():
        spoilt.weight[0, 0] = float("nan")
    said = {
        "`max_norm` changes its weight when it is called": nn.Embedding(9, 3, max_norm=1.0),
        "its weight is empty": nn.Linear(0, 4),
        "its weight is not finite": spoilt,
    }
    for why, layer in said.items():
        assert unquantizable(layer) == why


@pytest.mark.parametrize("mode", ["sum", "mean", "max"])
@pytest.mark.parametrize("padding", [None, 3])
def test_a_bag_of_rows_is_that_of_the_layer(mode, padding):
    layer = nn.EmbeddingBag(20, 6, mode=mode, padding_idx=padding)
    int8 = LayerForward(layer, quantized(layer, None))
    ids = torch.tensor([3, 4, 5, 3, 3, 19, 0, 3])
    assert (int8(ids.view(2, 4)) - layer(ids.view(2, 4))).abs().max() < 0.05
    offsets = torch.tensor([0, 3, 3, 5], dtype=torch.int32)
    assert (int8(ids, offsets=offsets) - layer(ids, offsets=offsets.long())).abs().max() < 0.05
    assert torch.equal(LayerForward(layer, None)(ids, offsets.long()), layer(ids, offsets.long()))


def test_bags_weigh_their_rows():
    layer = nn.EmbeddingBag(20, 6, mode="sum", include_last_offset=True)
    int8, ids = LayerForward(layer, quantized(layer, None)), torch.arange(8)
    given = ids, torch.tensor([0, 3, 8]), torch.rand(8)
    assert int8(*given).shape == (2, 6)
    assert (int8(*given) - layer(*given)).abs().max() < 0.05


@pytest.mark.parametrize(
    ("shape", "words"),
    [
        ((2, 5, 9), "a convolution of 4 channels in 1 dimensions got [2, 5, 9]"),
        ((2, 4, 2), "a kernel of [3] is greater than its input [2, 4, 2]"),
        ((9,), "a convolution of 4 channels in 1 dimensions got [9]"),
    ],
)
def test_an_input_that_does_not_fit_is_told(shape, words):
    int8 = quantized(nn.Conv1d(4, 8, 3), X)
    with torch.no_grad(), pytest.raises(RuntimeError) as told:
        int8(torch.randn(shape))
    assert words in str(told.value)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_another_type_is_for_what_passes(dtype):
    int8, x = quantized(nn.Linear(6, 4), X), shown(3, 6)
    wanted = int8(x.to(dtype))
    assert int8.to(dtype).kernel.scales.dtype == torch.float32
    assert torch.equal(int8(x.to(dtype)), wanted)


def test_a_forward_that_is_that_of_the_class_is_none_of_its_own():
    layer = nn.Linear(6, 4)
    vars(layer)["forward"] = layer.forward  # as DDP leaves it
    assert kind_of(layer) == "Linear"


def test_what_is_no_float_is_told():
    with pytest.raises(RuntimeError, match="an int8 layer got int32"):
        quantized(nn.Linear(6, 4), X)(torch.ones(2, 6, dtype=torch.int32))
