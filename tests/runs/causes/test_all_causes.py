"""What was repaired is told with its cause."""

from __future__ import annotations

from lpot_lightning.runs.causes.all_causes import with_repairs
from lpot_lightning.tuning.causes import Cause, CauseKind
from lpot_lightning.tuning.repair import Repair

FAR = Cause(kind=CauseKind.OUTLIERS, found="far out", remedy="kl")


def test_repairs_are_told_in_their_order_of_the_op_that_they_are_of() -> None:
    repairs = [Repair("a", "asym kl", 0.21, 0.03), Repair("a", "weight_correction", 0.03, 0.02)]
    found = with_repairs({"a": FAR, "b": FAR}, repairs)
    assert (
        found["a"].repaired == "asym kl, error 0.21 -> 0.03; weight_correction, error 0.03 -> 0.02"
    )
    assert found["b"] == FAR
