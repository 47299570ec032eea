"""What is told of the rungs of int8 and of others' beside them; next to nothing is computed."""

from __future__ import annotations

import argparse

import attentive
import pytest
import rungs
import rungs_peers
import torch
from attentive_nets import NETS, Called, Recurrent, noise
from rungs import COMPILED, DYNAMIC, FP32, NONE, OURS, STATIC, WEIGHT_ONLY, Case, Made
from rungs_peers import AO, OPENVINO, TORCHAO, WAYS
from torch import nn
from turns import Turns

from lpot_lightning.conf.reader import read_conf

SECONDS = {FP32: [0.04, 0.05], STATIC: [0.01, 0.01], OPENVINO: [0.02, 0.02], AO: [0.02, 0.02]}
MADE = {way: Made(nn.Identity(), 1.5, "3 / 1") for way in SECONDS}


@pytest.fixture
def small() -> Case:
    build = lambda: nn.Sequential(nn.Linear(16, 64), nn.ReLU(), nn.Linear(64, 8))  # noqa: E731
    return Case("small", Called(build, noise(16), batch=2))


def row(way: str) -> list[str]:
    return rungs_peers.cells("net", way, Turns(SECONDS), MADE, dict.fromkeys(SECONDS, 0.25))


def test_every_way_has_a_cell_for_each_head() -> None:
    assert {len(row(way)) for way in WAYS} == {len(rungs_peers.HEADS)}
    ours = rungs.cells("net", FP32, Turns(SECONDS), MADE, {FP32: 0})
    assert len(ours) == len(rungs.HEADS)


def test_a_row_has_the_median_the_least_and_how_much_faster_than_fp32() -> None:
    assert row(FP32)[2:6] == ["45.00 (40.00)", "1.5", "0.2500", NONE]
    assert row(STATIC)[5:7] == ["4.50 (4.25-4.75)", "3 / 1"]


def test_others_are_compared_with_our_rung_of_their_kind() -> None:
    assert row(OPENVINO)[-1] == "0.50 (0.50-0.50)"
    assert row(AO)[-1] == row(STATIC)[-1] == NONE


def test_what_is_far_slower_than_fp32_is_timed_once(small: Case) -> None:
    asked = argparse.Namespace(rounds=2, cpu_time=False)
    found = {FP32: Made(small.fp32, 1, seconds=0.01), AO: Made(small.fp32, 1, seconds=0.09)}
    assert list(rungs.timed(small, found, asked).seconds) == [FP32]
    once = rungs.times(AO, Turns({FP32: [0.01]}), found[AO])
    assert once == ("90 (once)", "0.11 (once)")


def test_what_could_not_be_made_has_dashes() -> None:
    assert row(TORCHAO) == ["net", TORCHAO, *[NONE] * 6]


def test_what_cannot_be_made_or_called_is_told_and_left_out(small: Case, capsys) -> None:
    def refuse(_: object) -> Made:
        raise ValueError("no such\nkernel")

    ways = {FP32: rungs.fp32, "refused": refuse, "wrong": lambda _: Made(nn.Linear(3, 3), 1)}
    assert list(rungs.made(small, ways)) == [FP32]
    out, said = capsys.readouterr()
    assert out == ""
    assert "small: refused: not made: ValueError: no such kernel\n" in said
    assert "small: wrong: not made: RuntimeError" in said


def test_a_rung_is_smaller_and_near_fp32(small: Case) -> None:
    with torch.no_grad():
        found = rungs.made(small, {FP32: rungs.fp32, STATIC: OURS[STATIC]})
        assert 0 < rungs.errors_of(small, found)[STATIC] < 0.1
    assert all(one.seconds > 0 for one in found.values())
    assert found[STATIC].mib < found[FP32].mib / 1.5


def test_what_is_no_smaller_is_nothing_in_int8(small: Case, monkeypatch) -> None:
    monkeypatch.setattr(rungs, "SMALLER", 100)
    with pytest.raises(ValueError, match="nothing is int8"):
        OURS[STATIC](small)


def test_rungs_are_asked_for_as_the_conf_has_them() -> None:
    asked = rungs.CONFS[STATIC]
    model = {"name": "net", "framework": "pytorch_fx"}
    conf = read_conf({"model": model, "quantization": dict(asked)})
    assert conf.quantization.approach == asked["approach"]
    assert list(OURS)[2:] == list(rungs.CONFS) == [STATIC, DYNAMIC, WEIGHT_ONLY]


def test_a_quick_run_has_few_nets_and_compiles_nothing() -> None:
    def asked(text: str) -> argparse.Namespace:
        return rungs.settled(rungs.arguments("About.").parse_args(text.split()))

    assert asked("").net == list(NETS)
    assert asked("--quick").net == list(rungs.QUICK)
    assert rungs.short(WAYS, asked("")) == WAYS
    left = rungs.short(WAYS, asked("--quick"))
    assert left
    assert not any(COMPILED in name for name in left)


@pytest.mark.filterwarnings("ignore:torch.quantize_per_tensor:UserWarning")
@pytest.mark.filterwarnings("ignore:torch.ao.quantization is deprecated:DeprecationWarning")
def test_the_old_engine_takes_linear_and_recurrent_layers(small: Case) -> None:
    recurrent = Called(lambda: Recurrent(nn.GRU, 8), noise(5, 8))
    for case in (small, Case("recurrent", recurrent)):
        made = rungs_peers.ao_dynamic(case)
        assert 0 < rungs.errors_of(case, {AO: made})[AO] < 0.1


def test_torchao_leaves_recurrent_layers_as_they_are() -> None:
    case = Case("recurrent", Called(lambda: Recurrent(nn.LSTM, 8), noise(5, 8)))
    with pytest.raises(ValueError, match="no linear layers"):
        WAYS[TORCHAO](case)


def test_torchao_is_not_waited_for(small: Case, monkeypatch) -> None:
    monkeypatch.setattr(rungs_peers, "slower_in_integers", lambda: 1e9)
    with pytest.raises(ValueError, match="a call would take about .* s, with `torch._int_mm`"):
        WAYS[TORCHAO](small)


def test_a_decoder_says_the_same_with_a_cache_and_without() -> None:
    torch.manual_seed(0)
    net = attentive.Gpt(width=16, heads=2, depth=2).eval()
    ids = torch.randint(0, 50257, (2, 5))
    with torch.no_grad():
        wanted, kept = net(ids)
        _, cache = net(ids[:, :4])
        found, grown = net(ids[:, 4:], cache)
    torch.testing.assert_close(found, wanted[:, 4:])
    torch.testing.assert_close(grown, kept)


def test_a_token_of_a_decoder_hears_what_was_before_and_the_sound() -> None:
    torch.manual_seed(0)
    net = attentive.Whisper(width=16, heads=2, depth=1).eval()
    sound, ids = torch.randn(1, 80, 3000), torch.tensor([[1, 2, 3]])
    with torch.no_grad():
        one, other = net(sound, ids), net(sound, torch.tensor([[1, 2, 4]]))
        assert torch.equal(one[:, :2], other[:, :2])
        assert not torch.equal(one[:, 2], other[:, 2])
        assert not torch.equal(net(sound + 1, ids), one)


def test_a_net_and_its_data_are_always_the_same() -> None:
    kind = NETS["GRU of 256, 32 x 100"]
    one, other = Case("one", kind), Case("other", kind)
    assert torch.equal(one.fp32.rnn.weight_hh_l1, other.fp32.rnn.weight_hh_l1)
    assert torch.equal(one.sample[0], other.sample[0])
    assert one.sample[0].shape == (32, 100, 256)
    assert not torch.equal(one.calibration()[0], one.sample[0])
