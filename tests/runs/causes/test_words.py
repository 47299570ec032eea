"""How numbers and deeds are put into words."""

from __future__ import annotations

from dataclasses import replace

import pytest

from lpot_lightning.quantization.capability import ACTIVATIONS, BF16, DYNAMIC, WEIGHT, WEIGHT_ONLY
from lpot_lightning.quantization.diagnosing.diagnosis import Diagnosis
from lpot_lightning.recipe import FP32, OpConfig
from lpot_lightning.runs.causes.words import deed, told
from lpot_lightning.tuning.causes import CauseKind

STATIC = OpConfig(ACTIVATIONS[0], WEIGHT)
FOUND = Diagnosis(
    error=0.2, of_weights=0.1, without_spread=0.001, without_outliers=0.002, without_tail=0.003,
    channels=64, dead=0, spread=93.2, weight_spread=5.5, reach=2e9, negatives=0.61, levels=(9, 256),
    least=-0.28,
)  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        (CauseKind.UNEQUAL_CHANNELS, "is 93x as wide as the narrowest; with a scale for each"),
        (CauseKind.OUTLIERS, "over 1,000,000x as wide as that of 99.9% of the values; without"),
        (CauseKind.NEGATIVE_TAIL, "between -0.28 and 0, and get 9 of 256 levels; with as many"),
        (CauseKind.NONE_OF_THESE, "its weight makes 50% of its error"),
    ],
)
def test_a_cause_is_told_with_its_numbers(kind: CauseKind, words: str) -> None:
    assert words in told(kind, FOUND)


def test_dead_channels_are_not_taken_for_narrow_ones() -> None:
    said = told(CauseKind.UNEQUAL_CHANNELS, replace(FOUND, dead=3))
    assert "is 93x as wide as the narrowest that is not always 0, as 3 are; with" in said


def test_channels_may_be_unequal_in_the_weight_alone() -> None:
    said = told(CauseKind.UNEQUAL_CHANNELS, replace(FOUND, spread=1.5))
    assert "of 64 input channels one is read by weights 5.5x those of another" in said


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (replace(STATIC, corrections=("cross_layer_equalization",)), "even the channels out"),
        (replace(STATIC, corrections=("weight_correction",)), "correct what rounding does"),
        (OpConfig(ACTIVATIONS[1], WEIGHT), "find the range otherwise"),
        (DYNAMIC, "a range of its own"),
        (WEIGHT_ONLY[1], "weights alone"),
        (BF16, "compute it in bf16"),
        (FP32, "leave it in fp32"),
    ],
)
def test_a_remedy_begins_with_what_is_done(config: OpConfig, words: str) -> None:
    assert words in deed(config, STATIC)
