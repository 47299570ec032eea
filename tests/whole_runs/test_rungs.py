"""Runs that end on rungs below static int8."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import one_hot
from torch.utils.data import DataLoader

from lpot_lightning import Quantization, TuningResult, load

WIDTH, SAMPLES = 64, 400


class OnePerRung(nn.Module):
    """Of its layers each needs a rung of its own: one is fine in static int8, one has rows of very
    unlike sizes, one outliers in each row that cancel out, and one such weights besides."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c, self.d = (nn.Linear(WIDTH, WIDTH) for _ in range(4))
        self.head = nn.Linear(4 * WIDTH, 10)
        with torch.no_grad():
            for layer in (self.c, self.d):
                layer.weight[:, 1::2] = layer.weight[:, ::2]
            for place in (0, 32):  # in each group of its weights
                self.d.weight[:, place : place + 2] *= 3e3

    def forward(self, x: Tensor) -> Tensor:
        sizes = torch.logspace(-3, 3, len(x))[:, None]
        far = x + outliers(len(x))
        small = torch.ones(WIDTH)
        small[[0, 1, 32, 33]] = 1 / 3e3
        parts = self.a(x), self.b(x * sizes) / sizes, self.c(far), self.d(far * small)
        return self.head(torch.cat(parts, 1).relu())


def outliers(rows: int) -> Tensor:
    """Return for each row two values that cancel where weights come in equal pairs."""
    places = torch.arange(rows) % (WIDTH // 2) * 2
    return 3000.0 * (one_hot(places, WIDTH) - one_hot(places + 1, WIDTH)).float()


class Outlying(nn.Module):
    """Each of its layers reads rows of very unlike sizes."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(WIDTH, WIDTH, bias=False) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        sizes = torch.logspace(-3, 3, len(x))[:, None]
        for layer in self.layers:
            x = layer(x * sizes).relu() / sizes
        return x


def quantized(model: nn.Module, folder, *, goal: float, **asked) -> TuningResult:
    """Quantize a net whose accuracy is how near its outputs come to those of fp32."""
    torch.manual_seed(0)
    x = torch.randn(SAMPLES, WIDTH)
    model = model.eval()
    with torch.no_grad():
        right = model(x)

    def near(judged: nn.Module) -> float:
        with torch.no_grad():
            return 1 - float((judged(x) - right).norm() / right.norm())

    conf = {
        "model": {"name": "rungs", "framework": "pytorch"},
        "quantization": asked,
        "tuning": {"accuracy_criterion": {"relative": goal}, "workspace": {"path": str(folder)}},
    }
    quantization = Quantization(conf)
    quantization.eval_func = near
    if asked.get("approach") != "post_training_dynamic_quant":
        quantization.calib_dataloader = DataLoader(x, batch_size=SAMPLES)
    quantization(model)
    assert quantization.result is not None
    return quantization.result


@pytest.fixture
def net() -> nn.Module:
    torch.manual_seed(0)
    return OnePerRung()


@pytest.mark.filterwarnings("ignore:the calibration data has 400")
def test_each_op_comes_to_the_rung_that_it_needs_in_four_trials(net, tmp_path):
    result = quantized(net, tmp_path, goal=0.03)
    assert result.status == "met"
    assert len(result.trials) <= 4
    assert result.rungs == {
        "a": "int8",
        "b": "dynamic int8",
        "c": "weight-only int8",
        "d": "fp32",
        "head": "int8",
    }
    assert result.fp32_ops == ("d",)
    rows = [line.split() for line in result.table().splitlines()]
    assert ["weight-only", "int8", "1:", "c"] in rows


def test_files_of_all_rungs_restore_what_was_judged(net, tmp_path):
    untouched = copy.deepcopy(net)
    result = quantized(net, tmp_path, goal=0.03)
    files = tmp_path / "best_configure.yaml", tmp_path / "best_model_weights.pt"
    restored = load(*files, untouched)
    x = torch.randn(7, WIDTH)
    assert torch.equal(restored(x), result.model(x))


def test_activations_that_survive_nowhere_end_on_rows_and_not_on_fp32(tmp_path):
    torch.manual_seed(0)
    result = quantized(Outlying(), tmp_path, goal=0.05)
    assert (result.status, result.fp32_ops) == ("met", ())
    assert set(result.rungs.values()) == {"dynamic int8"}


def test_dynamic_ranges_need_no_data_to_calibrate_on(net, tmp_path):
    result = quantized(net, tmp_path, goal=0.5, approach="post_training_dynamic_quant")
    assert result.status == "met"
    assert "int8" not in result.rungs.values()


def test_lpots_strategies_are_given_one_rung(tmp_path):
    asked = {"approach": "post_training_dynamic_quant"}
    torch.manual_seed(0)
    result = quantized(Outlying(), tmp_path, goal=0.05, **asked)
    assert set(result.rungs.values()) == {"dynamic int8"}


@pytest.mark.parametrize(
    ("asked", "rung"),
    [
        ({"activation": {"quant_mode": "dynamic"}}, "dynamic int8"),
        ({"activation": {"dtype": "fp32"}, "weight": {"dtype": "int8"}}, "weight-only int8"),
        (
            {
                "activation": {"dtype": "fp32"},
                "weight": {"dtype": "int8", "granularity": "per_group", "group_size": 64},
            },
            "weight-only int8",
        ),
    ],
)
def test_an_op_is_on_the_rung_that_it_is_asked_for(asked, rung, tmp_path):
    torch.manual_seed(0)
    result = quantized(Outlying(), tmp_path, goal=0.9, op_wise={"layers.1": asked})
    assert result.rungs["layers.1"] == rung
