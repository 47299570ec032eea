"""Of which ops something can be told, and what is only told where it is there."""

from __future__ import annotations

import pytest
import torch
from layer_scenes import calibrated, shown
from planted_causes import FarOut, Planted, Tailed, Unequal
from torch import nn

from lpot_lightning.quantization.capability import DYNAMIC, WEIGHT_ONLY
from lpot_lightning.quantization.diagnosing.diagnosis import Diagnosis
from lpot_lightning.quantization.layers import PreparedLayers
from lpot_lightning.recipe import FP32


def prepared_of(kind: type[Planted]) -> PreparedLayers:
    torch.manual_seed(0)
    return calibrated(kind().eval(), shown(1088, 8))


def diagnosis_of(kind: type[Planted]) -> Diagnosis:
    prepared = prepared_of(kind)
    config = next(op for op in prepared.ops if op.name == "middle").configs[0]
    return prepared.diagnoser.diagnosis("middle", config)


def there(found: Diagnosis) -> tuple[bool, bool, bool]:
    all_three = (found.without_spread, found.without_outliers, found.without_tail)
    spread, outliers, tail = (one is not None for one in all_three)
    return spread, outliers, tail


def test_what_is_not_there_is_not_simulated() -> None:
    assert there(diagnosis_of(Planted))[1:] == (False, False)
    assert there(diagnosis_of(Unequal))[0]
    assert there(diagnosis_of(FarOut))[1]
    assert there(diagnosis_of(Tailed))[2]


def test_the_facts_are_counted() -> None:
    tailed, unequal, far = (diagnosis_of(kind) for kind in (Tailed, Unequal, FarOut))
    assert tailed.negatives == pytest.approx(0.95, abs=0.01)
    assert tailed.levels[0] <= 3
    assert tailed.least < 0
    assert unequal.channels == 64
    assert unequal.spread > 1000
    assert far.reach > 100


def test_a_channel_that_a_relu_never_passes_is_dead_and_no_narrow_one() -> None:
    net = nn.Sequential(nn.Linear(8, 4), nn.ReLU(), nn.Linear(4, 2)).eval()
    nn.init.zeros_(net[0].weight)
    net[0].bias.data = torch.tensor([1.0, 2.0, 0.5, -1.0])
    prepared = calibrated(net, shown(64, 8))
    config = next(op for op in prepared.ops if op.name == "2").configs[0]
    found = prepared.diagnoser.diagnosis("2", config)
    assert (found.channels, found.dead, found.spread) == (4, 1, 4.0)


def test_only_ops_that_read_floats_on_a_known_range_are_simulated() -> None:
    prepared = prepared_of(Planted)
    static, tell = prepared.ops[0].configs[0], prepared.diagnoser.can_tell
    assert tell("middle", static)
    assert not any(tell("middle", one) for one in (DYNAMIC, WEIGHT_ONLY[0], FP32))
    table = calibrated(nn.Sequential(nn.Embedding(9, 8)).eval(), torch.arange(9))
    assert not table.diagnoser.can_tell("0", table.ops[0].configs[0])


def test_a_part_of_the_batch_is_enough_and_costs_no_more() -> None:
    prepared = prepared_of(Planted)
    prepared.diagnoser.diagnosis("middle", prepared.ops[0].configs[0])
    assert 0 < prepared.forwards < 0.05


def test_functions_are_diagnosed_like_layers() -> None:
    class Own(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(shown(4, 8, seed=3))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return nn.functional.linear(x, self.weight)

    prepared = calibrated(nn.Sequential(Own()).eval(), shown(32, 8))
    (op,) = prepared.ops
    found = prepared.diagnoser.diagnosis(op.name, op.configs[0])
    assert op.name == "0#linear_0"
    assert found.error == pytest.approx(prepared.diagnoser.error(op.name, op.configs[0]), rel=0.05)
