"""What a trained model is compared with."""

import pytest

from lpot_lightning.runs.trained import Trained


@pytest.mark.parametrize(
    ("given", "start", "higher", "accuracy"),
    [
        (None, None, True, 0.9),
        (None, 0.8, True, 0.9),
        (None, 0.95, True, 0.95),
        (None, 0.8, False, 0.8),
        (0.7, 0.95, True, 0.7),
        (None, float("nan"), True, 0.9),
        (None, float("inf"), False, 0.9),
        (None, float("inf"), True, 0.9),
    ],
)
def test_the_baseline_is_the_best_that_is_known(given, start, higher, accuracy) -> None:
    assert Trained({}, given, start).baseline(0.9, higher).accuracy == accuracy
