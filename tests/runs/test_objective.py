"""What ops cost, and what a forward holds at its peak."""

from __future__ import annotations

import os

import pytest
import torch

from lpot_lightning.quantization.op_profile import OpProfile
from lpot_lightning.recipe import FP32, Op
from lpot_lightning.report.numbers import objective
from lpot_lightning.runs.objective import cost_shown_as, costs_of, peak_memory, shown_as

OPS = (
    Op(name="a", kind="Linear", configs=(FP32,), weight_bytes=100),
    Op(name="b", kind="add", configs=(FP32,)),
)
MEASURED = {"a": OpProfile(0.0013, 64), "b": OpProfile(0.0001, 4096)}


@pytest.mark.parametrize("shown", [shown_as, cost_shown_as, objective])
def test_the_log_and_the_page_give_bytes_in_one_unit(shown):
    assert shown(2_500_000, "modelsize") == "2.5 MB"


@pytest.mark.parametrize(
    ("objective", "expected"),
    [
        ("performance", {"a": 2.0**-10, "b": 2.0**-13}),
        ("modelsize", {"a": 100.0, "b": 1.0}),
        ("footprint", {"a": 64.0, "b": 4096.0}),
    ],
)
def test_an_op_costs_what_the_objective_counts(objective: str, expected: dict[str, float]) -> None:
    assert costs_of(OPS, objective, MEASURED) == expected


def test_noise_does_not_change_a_cost_in_seconds() -> None:
    noisy = {"a": OpProfile(0.0011, 64), "b": OpProfile(0.00012, 4096)}
    assert costs_of(OPS, "performance", noisy) == costs_of(OPS, "performance", MEASURED)


def test_ops_that_were_not_measured_cost_alike() -> None:
    assert costs_of(OPS, "performance", {}) == {"a": 1.0, "b": 1.0}


def test_the_peak_is_what_is_held_at_once() -> None:
    def forward() -> None:
        large = torch.ones(1000)
        del large
        one, two = torch.ones(300), torch.ones(500)
        assert one.sum() < two.sum()

    assert 4000 <= peak_memory(forward) < 4600


def test_the_environment_is_left_alone() -> None:
    before = dict(os.environ)
    peak_memory(lambda: torch.ones(3))
    assert dict(os.environ) == before
