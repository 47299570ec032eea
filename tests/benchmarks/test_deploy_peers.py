"""What is told of exported files beside those of the runtimes' own quantizers; none is made."""

from __future__ import annotations

import deploy_peers
import torch
from deploy_peers import AOTI, FP32, HEADS, NONE, ORT, ORT_OWN, OV, OV_OWN, WAYS
from turns import Turns

from lpot_lightning.deploy.comparing import distance

SECONDS = {FP32: [0.04, 0.04], ORT: [0.01, 0.01], ORT_OWN: [0.02, 0.02], OV: [0.02, 0.02]}
SCORES = torch.tensor([[3.0, 4.0], [4.0, 3.0]])


def row(way: str, answer: torch.Tensor = SCORES) -> list[str]:
    far = dict.fromkeys(WAYS, distance([answer], [SCORES]))
    turns = Turns({**SECONDS, OV_OWN: [0.01, 0.01]})
    return deploy_peers.cells(("net", 8, 1), way, turns, dict.fromkeys(WAYS, 1.5), far)


def test_every_way_has_a_cell_for_each_head() -> None:
    assert {len(row(way)) for way in WAYS} == {len(HEADS)}


def test_ours_is_told_as_a_multiple_of_the_time_of_the_runtimes_own() -> None:
    assert row(ORT)[-2:] == ["4.00 (4.00-4.00)", "0.50 (0.50-0.50)"]
    assert row(OV)[-1] == "2.00 (2.00-2.00)"
    assert row(ORT_OWN)[-1] == row(FP32)[-1] == NONE


def test_what_could_not_be_made_has_dashes() -> None:
    assert row(AOTI) == ["net", "8", "1", AOTI, *[NONE] * 6]


def test_errors_and_agreement_are_of_all_answers() -> None:
    assert row(ORT, SCORES)[6:8] == ["0.0000", "1.000"]
    assert row(ORT, torch.tensor([[3.0, 4.0], [0.0, 3.0]]))[6:8] == ["0.5657", "0.500"]


def test_samples_are_given_one_batch_after_the_other() -> None:
    samples = deploy_peers.Samples("x", SCORES.split(1))
    found = [samples.get_next() for _ in range(3)]
    assert [one and one["x"].tolist() for one in found] == [[[3.0, 4.0]], [[4.0, 3.0]], None]


def test_a_file_is_as_large_as_what_lies_beside_it_too(tmp_path) -> None:
    (tmp_path / "a.xml").write_bytes(b"12")
    (tmp_path / "a.bin").write_bytes(b"345")
    assert deploy_peers._bytes(tmp_path / "a.xml") == 5
