"""Damaged files in their short form."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest
import torch
from ledger import Ledger
from mutations import CHANGES, EDITS, Damage, Target, damaged, every_bit, same

from lpot_lightning.errors import ArtifactError

KEPT = Path(__file__).parents[1] / "museum/format_2"


@pytest.mark.filterwarnings("ignore")
def test_no_damage_is_taken_for_another_result(tmp_path):
    ledger = Ledger("mutations", 0, tmp_path / "ledger.jsonl")
    damage = Damage(tmp_path, ledger, seed=0, kept=KEPT)
    damage.run(1500)
    damage.reseal(25)
    assert not damage.faults
    ledger.write()
    (line,) = map(json.loads, (tmp_path / "ledger.jsonl").read_text().splitlines())
    assert line["counts"]["mutations"] > 1500
    assert line["counts"]["resealed"] == 25


@pytest.mark.parametrize("name", CHANGES)
def test_each_kind_of_damage_damages(name):
    content, draw = bytes(range(256)) + b"12:34\n" * 8, random.Random(0)
    assert damaged(content, CHANGES[name], draw) != content
    assert any(CHANGES[name](content, draw) != content for _ in range(4))
    assert damaged(b"", lambda content, draw: content, draw) == b"x"


@pytest.mark.parametrize("name", EDITS)
def test_each_edit_edits(name):
    plain = {"a": torch.arange(4.0).view(2, 2), "b": torch.ones(2, 2)}
    before = dict(plain)
    EDITS[name](plain, "a", random.Random(1))
    assert not same(before, plain) or name == "that of another"


def test_each_bit_is_turned_once():
    turned = list(every_bit(b"ab"))
    assert len(turned) == len(set(turned)) == 16
    assert b"ab" not in turned


def test_what_became_of_a_file_is_told_and_the_file_is_put_back(tmp_path):
    path = tmp_path / "x"
    path.write_bytes(b"1")

    def read() -> int:
        if path.read_bytes() == b"no":
            raise ArtifactError("no")
        return int(path.read_bytes())

    target = Target(path, read, 1)
    ends = [target.after(one)[0] for one in (b"no", b"01", b"2", b"x")]
    assert ends == ["refused", "equal", "another result", "raw"]
    assert path.read_bytes() == b"1"


def test_equal_is_equal_to_the_last_bit():
    one = {"a": [torch.tensor([1.0, 2.0]), (1, "x")], "b": float("nan")}
    assert same(one, {"a": [torch.tensor([1.0, 2.0]), (1, "x")], "b": float("nan")})
    assert not same(one, {"a": [torch.tensor([1.0, 2.0]), (True, "x")], "b": float("nan")})
    assert not same(torch.ones(2), torch.ones(2, dtype=torch.float64))
    assert not same([1], [1, 2])
    assert not same(torch.tensor([0.0]), torch.tensor([-0.0]))
    assert same(torch.tensor(float("nan")), torch.tensor(float("nan")))
