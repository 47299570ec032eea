"""Why int8 hurts or is not there: nets with one cause each, and what its remedy comes to."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from planted_causes import (
    AsLinear,
    FarOut,
    Gate,
    Gated,
    Multiplied,
    Planted,
    Tailed,
    Transposed,
    Unequal,
    Upsampled,
    WhereGate,
    quantized,
    yaml_in,
)
from small_run import net, run
from torch import nn

from lpot_lightning.commands.main import main
from lpot_lightning.runs import paying
from lpot_lightning.runs.paying import applies
from lpot_lightning.runs.paying_result import NotPaying, OpTimes, Paying
from lpot_lightning.runs.tuning_result import TuningResult, read_result
from lpot_lightning.tuning.causes import Cause, CauseKind
from lpot_lightning.tuning.history import look_at

HURT: dict[CauseKind, type[Planted]] = {
    CauseKind.UNEQUAL_CHANNELS: Unequal,
    CauseKind.OUTLIERS: FarOut,
    CauseKind.NEGATIVE_TAIL: Tailed,
}
SLOW = Paying(
    {"narrow": OpTimes(0.004, 0.001)},
    {"narrow": NotPaying(ops=("narrow",), int8=0.004, fp32=0.001, spread=(0.2, 0.3), share=0.5)},
)


def seeded(make: Any, *args: Any) -> nn.Module:
    torch.manual_seed(0)
    made: nn.Module = make(*args)
    return made


def lost_at_first(result: TuningResult) -> float:
    """Return what all int8 has lost, before a search has changed anything."""
    accuracy = result.trials[0].score.accuracy
    assert accuracy is not None
    return result.baseline - accuracy


def advised(workspace: Path) -> str:
    """Return what was found to help `middle`, before the search went on."""
    (found,) = (
        one
        for (kind, _), one in look_at(workspace / "history.jsonl").findings.items()
        if kind == "causes"
    )
    remedy = found["ops"]["middle"]["remedy"]
    assert isinstance(remedy, str)
    return remedy


def only(result: TuningResult) -> tuple[str, Cause]:
    """Return the one cause that there is, with the name that has it."""
    ((name, cause),) = result.causes.items()
    return name, cause


@pytest.mark.parametrize("kind", HURT, ids=lambda kind: kind.value)
def test_an_op_that_int8_hurts_gets_its_cause_and_a_remedy_that_helps(
    kind: CauseKind, tmp_path: Path
) -> None:
    result = quantized(seeded(HURT[kind]), tmp_path / "ws", goal=0.03)
    name, cause = only(result)
    assert (name, cause.kind) == ("middle", kind)
    told = advised(tmp_path / "ws")
    asked = yaml_in(told)
    follows = result.rungs["middle"] == "dynamic int8" and "quant_mode: dynamic" in told
    is_done = kind is not CauseKind.NEGATIVE_TAIL or follows  # a search repairs the others
    assert cause.remedy == ("" if is_done else told)
    helped = quantized(seeded(HURT[kind]), tmp_path / "helped", goal=0.03, **asked)
    assert lost_at_first(helped) < 0.5 * lost_at_first(result)


def test_what_was_repaired_is_told_with_its_error_before_and_after(tmp_path: Path) -> None:
    result = quantized(seeded(Unequal), tmp_path / "ws", goal=0.03)
    told = result.causes["middle"].repaired
    assert re.match(r"cross_layer_equalization, error of the output 0\.[89]\d* -> 0\.00", told)
    assert "unequal channels, repaired" in result.ops_table()


def test_what_was_not_repaired_is_not_said_to_be(tmp_path: Path) -> None:
    result = quantized(seeded(FarOut), tmp_path / "ws", goal=0.03)
    assert result.causes["middle"].repaired == ""
    assert "for the accuracy: outliers" in result.ops_table()


def test_a_net_that_int8_does_not_hurt_needs_no_cause(tmp_path: Path) -> None:
    assert quantized(seeded(Planted), tmp_path / "ws", goal=0.03).causes == {}


def test_an_op_that_is_slower_in_int8(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paying, "applies", applies)
    monkeypatch.setattr(paying, "judged", lambda *_: SLOW)  # no clock decides
    name, cause = only(run(net()))
    assert (name, cause.kind) == ("narrow", CauseKind.SLOWER)
    assert "4 ms against 1 ms" in cause.found
    asked = run(net(), **yaml_in(cause.remedy))
    assert "narrow" in asked.int8_ops
    assert asked.causes == {}


def test_an_op_that_has_no_kernel(tmp_path: Path) -> None:
    name, cause = only(quantized(seeded(Transposed), tmp_path / "ws", goal=0.1))
    assert (name, cause.kind) == ("up", CauseKind.NO_KERNEL)
    assert "transposed convolutions" in cause.found
    assert "`nn.Upsample` and a convolution" in cause.remedy
    helped = quantized(seeded(Upsampled), tmp_path / "helped", goal=0.1)
    assert "up.1" in helped.int8_ops


def test_a_product_by_a_weight_that_is_no_linear_layer(tmp_path: Path) -> None:
    causes = quantized(seeded(Multiplied), tmp_path / "ws", goal=0.1).causes
    told = next(one for one in causes.values() if "`F.linear` nor a convolution" in one.found)
    assert told.kind is CauseKind.NO_KERNEL
    assert "`F.linear(x, weight)`" in told.remedy
    helped = quantized(seeded(AsLinear), tmp_path / "helped", goal=0.1)
    assert any("linear_0" in op for op in helped.int8_ops)
    assert helped.causes == {}


def test_a_module_that_is_no_graph(tmp_path: Path) -> None:
    name, cause = only(quantized(seeded(Gated, Gate), tmp_path / "ws", goal=0.1))
    assert (name, cause.kind) == ("gate", CauseKind.NOT_TRACED)
    assert "of `planted_causes.py` (`if x.sum().item() > 0:`)" in cause.found
    assert "`torch.where` in place of `if`" in cause.remedy
    assert quantized(seeded(Gated, WhereGate), tmp_path / "helped", goal=0.1).causes == {}


def test_an_op_that_the_user_keeps_in_fp32() -> None:
    name, cause = only(run(net(), modules=("first", "wide", "last")))
    assert (name, cause.kind) == ("narrow", CauseKind.ASKED_FOR)


def test_causes_are_in_the_result_file_and_in_what_show_prints(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    result = quantized(seeded(FarOut), tmp_path / "ws", goal=0.03)
    assert read_result(tmp_path / "ws" / "result.json").causes == result.causes
    capsys.readouterr()
    assert main(["show", str(tmp_path / "ws")]) == 0
    said = " ".join(capsys.readouterr().out.split())  # lines end where the terminal does
    assert "middle: outliers: the range of its input is 400x as wide as that of 99.9%" in said
    assert "; it is dynamic int8 now" in said


def test_a_run_that_goes_on_knows_the_causes(tmp_path: Path) -> None:
    first = quantized(seeded(Tailed), tmp_path / "ws", goal=0.03)
    again = quantized(seeded(Tailed), tmp_path / "ws", goal=0.03)
    assert all(trial.replayed for trial in again.trials)
    assert again.causes == first.causes
