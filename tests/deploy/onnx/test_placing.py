"""Pairs stand where the runtime fuses them."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from bf16_scenes import all_bf16
from deploy_scenes import (
    answer,
    captured,
    exported,
    far,
    images,
    int8_of,
    origin,
    small_int8,
    small_net,
)
from int8_scenes import Batch, calibrated, converted, seeded
from rung_scenes import few_rungs, few_rungs_onnx, rows
from torch import nn

from lpot_lightning.deploy.onnx.pairs import Between, Cut, PairedConv, ToIntegers
from lpot_lightning.deploy.onnx.placing import placed
from lpot_lightning.deploy.running.runtimes import open_file
from lpot_lightning.module.stand_in import let_compute
from lpot_lightning.quantization import onednn
from lpot_lightning.quantization.kernels.bounds import SEVEN_BITS

BATCHES = [(images(4, 1),), (images(4, 2),)]
GATES = {"QLinearSigmoid": 2, "QLinearMul": 2, "QLinearGlobalAveragePool": 1}


def behind(target, model=None):
    """Return which convolutions have a pair directly behind them."""
    made = placed(captured(model or small_int8()), target, BATCHES)
    convolutions = [one for one in made.module.modules() if isinstance(one, PairedConv)]
    return {one.op for one in convolutions if one.between or isinstance(one.output, Between)}


def test_onnx_runtime_wants_pairs_before_sums_and_activations():
    assert behind("onnxruntime") == {"block", "depthwise"}


def test_openvino_takes_both_into_its_kernels():
    assert behind("openvino") == set()


def test_openvinos_program_is_the_models():
    made = placed(captured(small_int8()), "openvino", [])
    (wanted,) = answer(small_int8(), images(3, 5))
    (found,) = made.computes(images(3, 5))
    assert far(found, wanted) < 1e-5


def test_pairs_that_the_engine_has_not_come_of_the_data():
    narrow = placed(captured(small_int8()), "onnxruntime", [(images(4, 1) * 1e-3,)])
    whole = placed(captured(small_int8()), "onnxruntime", BATCHES)
    (wanted,) = answer(small_int8(), images(3, 5))
    assert far(whole.computes(images(3, 5))[0], wanted) < 0.05
    assert far(narrow.computes(images(3, 5))[0], wanted) > 0.07


def test_ops_are_known_by_the_names_of_the_model():
    made = placed(captured(small_int8()), "openvino", [])
    assert list(made.ops.values()) == ["stem.0", "block", "depthwise", "head"]


def test_moving_single_integers_is_for_one_look():
    made = placed(captured(small_int8()), "openvino", [])
    before = made.computes(images(3, 5))
    made.moved(images(3, 5))
    assert torch.equal(made.computes(images(3, 5))[0], before[0])


class Pools(nn.Module):
    def __init__(self):
        super().__init__()
        self.one, self.two = nn.Conv2d(3, 4, 3), nn.Conv2d(8, 4, 1)

    def forward(self, x):
        x = F.relu(self.one(x))
        return self.two(torch.cat([F.max_pool2d(x, 3, 1, 1), x], 1))


@pytest.mark.parametrize("target", ["onnxruntime", "openvino"])
def test_integers_that_move_stay_integers(target):
    model = int8_of(seeded(Pools), Batch(images(4, 1)))
    made = placed(captured(model), target, BATCHES)
    (wanted,) = answer(model, images(3, 5))
    assert far(made.computes(images(3, 5))[0], wanted) < 0.05


@pytest.fixture
def seven_bits(monkeypatch):
    """Return the net with activations of 7 bits, as of files that were made so."""
    for name in ("PAIRED", "WHOLE"):
        monkeypatch.setattr(onednn, name, SEVEN_BITS)
    return int8_of(small_net(), Batch(images(4, 1)), Batch(images(4, 2)))


def cuts(model, target, batches):
    """Return where what quantizes to 7 bits cuts off."""
    made = placed(captured(model), target, batches).module
    pairs = [one for one in made.modules() if isinstance(one, ToIntegers)]
    return [one.cut for one in pairs if one.grid.high == 127]


def test_openvino_cuts_floats_off_within_the_kernel_before(seven_bits):
    assert set(cuts(seven_bits, "openvino", [])) == {Cut.FLOATS}
    made = placed(captured(seven_bits), "openvino", [])
    (wanted,) = answer(seven_bits, images(3, 5) * 3)
    assert far(made.computes(images(3, 5) * 3)[0], wanted) < 1e-5


def test_onnx_runtime_cuts_off_only_what_calibration_goes_beyond(seven_bits):
    assert set(cuts(seven_bits, "onnxruntime", BATCHES)) == {Cut.NOWHERE}
    wide = [(tensors[0] * 3,) for tensors in BATCHES]
    assert Cut.INTEGERS in cuts(seven_bits, "onnxruntime", wide)
    assert set(cuts(seven_bits, "onnxruntime", [])) == {Cut.INTEGERS}


class Gated(nn.Module):
    """SiLU, and channels that are multiplied by what their means say."""

    def __init__(self):
        super().__init__()
        self.stem, self.gate, self.head = (nn.Conv2d(*one, 1) for one in [(3, 8), (8, 8), (8, 4)])

    def forward(self, x):
        x = F.silu(self.stem(x))
        return self.head(x * self.gate(F.adaptive_avg_pool2d(x, 1)).sigmoid())


@pytest.fixture(scope="module")
def gated():
    return int8_of(seeded(Gated), Batch(images(4, 1)), Batch(images(4, 2)))


def gates(model, target):
    """Return the pairs at gates, and at factors."""
    steps = dict(placed(captured(model), target, BATCHES).module.named_modules())
    factors = [one for name, one in steps.items() if name.endswith("_factor")]
    return [one for one in (steps["stem"].gate, *factors) if one is not None]


def test_gates_are_integers_for_onnx_runtime(gated):
    assert [one.pair is not None for one in gates(gated, "onnxruntime")] == [True, True]
    assert gates(gated, "openvino") == []


def test_gates_and_means_become_ops_of_integers(gated, tmp_path):
    found = exported(gated, tmp_path / "gated.onnx", origin(images(4, 1)), target="onnxruntime")
    kinds = open_file(found.path, runtime="onnxruntime").int8_kinds()
    assert {kind: kinds[kind] for kind in GATES} == GATES
    assert found.checked.from_int8 < 0.05


def test_a_product_that_stays_floats_has_no_pair_of_its_own():
    class Twice(Gated):
        def forward(self, x):
            x = F.silu(self.stem(x))
            return x * self.gate(x.mean((2, 3), keepdim=True))

    assert len(gates(int8_of(seeded(Twice), Batch(images(4, 1))), "onnxruntime")) == 1


@pytest.mark.parametrize("target", ["onnxruntime", "openvino"])
def test_all_rungs_run(target, tmp_path):
    """A dynamic layer computes in int8, as a static one; one whose weight alone is, does not."""
    made, content = few_rungs_onnx(target)
    (tmp_path / "few.onnx").write_bytes(content)
    opened = open_file(tmp_path / "few.onnx", runtime=target)
    assert list(made.ops.values()) == ["first", "first", "wide", "narrow", "head"]
    assert opened.int8_ops() == 2
    for count in (1, 4):
        (found,) = opened(rows(count))
        assert far(found, answer(few_rungs(), rows(count))[0]) < 1e-3


def test_integers_of_rows_may_be_others_in_a_runtime():
    made, _ = few_rungs_onnx("openvino")
    moved, told = made.moved(rows(400, 5)), made.computes(rows(400, 5))
    assert 0 < far(moved[0], told[0]) < 0.01


def test_layers_of_bfloat16_run_where_there_are_float32_kernels(tmp_path):
    found = calibrated(small_net(), Batch(images(4, 1)))
    made = converted(small_net(), found, all_bf16(found))
    let_compute(made, found.graphs(made))
    exported(made, tmp_path / "model.onnx")
    (given,) = open_file(tmp_path / "model.onnx")(images(3, 5))
    (wanted,) = answer(made, images(3, 5))
    assert far(given, wanted) < 1e-2
