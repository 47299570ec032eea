"""Which rungs there are on which CPU."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from conf_scenes import conf_of
from small_run import NO_REPAIR, net, run
from torch import nn

from lpot_lightning.conf.reader import read_conf
from lpot_lightning.errors import ConfError
from lpot_lightning.recipe import Rung
from lpot_lightning.runs import op_selection
from lpot_lightning.runs.op_selection import rungs_of
from lpot_lightning.runs.ranker import Ranker

BF16 = {"activation": {"dtype": ["bf16"]}, "weight": {"dtype": ["bf16"]}}


def on_a_cpu(monkeypatch: pytest.MonkeyPatch, *, with_bf16: bool) -> None:
    monkeypatch.setattr(op_selection, "has_bf16", lambda: with_bf16)


@pytest.mark.parametrize("with_bf16", [True, False])
def test_bf16_is_on_the_ladder_of_auto_where_the_cpu_has_it(
    monkeypatch: pytest.MonkeyPatch, with_bf16: bool
) -> None:
    on_a_cpu(monkeypatch, with_bf16=with_bf16)
    assert (Rung.BF16 in rungs_of(read_conf(conf_of()))) is with_bf16
    basic = read_conf(conf_of(tuning={"strategy": {"name": "basic"}}))
    assert Rung.BF16 not in rungs_of(basic)


@pytest.mark.parametrize("with_bf16", [True, False])
@pytest.mark.parametrize("ops", ["narrow", ".*", "default_qconfig"])
def test_what_is_asked_for_is_bf16_and_a_line_says_where_it_is_slow(
    monkeypatch: pytest.MonkeyPatch, with_bf16: bool, ops: str
) -> None:
    on_a_cpu(monkeypatch, with_bf16=with_bf16)
    said: list[str] = []
    result = run(net(), said=said, quantization={"op_wise": {ops: BF16}})
    kept: Any = result.model.state_dict()["narrow.lpot_int8.kernel.weight"]
    assert kept.dtype is torch.bfloat16
    told = [line for line in said if line.startswith("bf16 is asked for `")]
    assert len(told) == (not with_bf16)


@pytest.mark.parametrize("with_bf16", [True, False])
def test_a_wish_for_another_rung_brings_no_slow_one(
    monkeypatch: pytest.MonkeyPatch, with_bf16: bool
) -> None:
    on_a_cpu(monkeypatch, with_bf16=with_bf16)
    seen = []
    wish = {"narrow": {"weight": {"group_size": 32}}}
    run(net(), quantization={"op_wise": wish}, on_trial=seen.append)
    spaces: list[Any] = []
    monkeypatch.setattr(op_selection, "build_space", lambda ops, *_: spaces.append(ops) or 1 / 0)
    with pytest.raises(ZeroDivisionError):
        run(net(), quantization={"op_wise": wish})
    assert seen
    found = {one.rung for op in spaces[0] for one in op.configs}
    assert (Rung.BF16 in found) is with_bf16


def test_an_approach_that_leaves_nothing_is_named_and_no_wish() -> None:
    alone = nn.Sequential(nn.Unflatten(1, (4, 2)), nn.Conv1d(4, 4, 1), nn.Flatten())
    asked = {"approach": "post_training_dynamic_quant"}
    with pytest.raises(ConfError, match="by this approach and strategy; it can be `int8`, `weight"):
        run(alone, quantization=asked, strategy={"name": "basic"})


COSTS = {Rung.STATIC: 0.0, Rung.BF16: 0.3, Rung.DYNAMIC: 0.4, Rung.WEIGHT_ONLY: 0.9, Rung.FP32: 1.0}


@pytest.mark.parametrize("with_bf16", [True, False])
def test_auto_goes_down_to_bf16_where_that_is_the_cheapest_way(
    monkeypatch: pytest.MonkeyPatch, with_bf16: bool
) -> None:
    on_a_cpu(monkeypatch, with_bf16=with_bf16)
    monkeypatch.setattr(Ranker, "share", lambda _, op, config: COSTS[config.rung])
    result = run(net(fragile=True), quantization=NO_REPAIR)
    assert result.status == "met"
    assert (result.rungs["narrow"] == "bf16") is with_bf16
