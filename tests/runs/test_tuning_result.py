from __future__ import annotations

import contextlib
import json
import os
import random
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from made_up import INT8
from small_run import net, run

from lpot_lightning.errors import ArtifactError
from lpot_lightning.recipe import Recipe
from lpot_lightning.runs.pruning_result import read_pruning_result
from lpot_lightning.runs.tuning_result import read_result
from lpot_lightning.tuning.in_words import by_reason
from lpot_lightning.tuning.score import Score
from lpot_lightning.tuning.trial import Trial


def test_names_with_the_same_reason_share_a_line() -> None:
    found = by_reason({"a": "no kernel", "b": "never called", "c": "no kernel"})
    assert found == ["a, c: no kernel", "b: never called"]


def test_many_names_are_shortened() -> None:
    (line,) = by_reason({f"layers.{number}": "no kernel" for number in range(40)})
    assert line == "layers.0, layers.1, layers.2, layers.3 and 36 more: no kernel"


def test_the_table_shows_a_relative_drop_as_a_share_and_an_absolute_one_as_points() -> None:
    assert re.search(r"drop / allowed +0\.\d\d% / 1\.00%\n", run(net()).table())
    absolute = run(net(), accuracy_criterion={"absolute": 0.02})
    assert re.search(r"drop / allowed +0\.\d{4} / 0\.0200\n", absolute.table())


def test_the_drop_is_positive_where_int8_is_worse() -> None:
    result = run(net(fragile=True), exit_policy={"performance_only": True})
    assert result.accuracy < result.baseline
    assert result.drop > 0


def test_tiny_goals_are_shown_with_the_digits_they_need() -> None:
    table = run(net(), accuracy_criterion={"relative": 0.00002}).table()
    assert re.search(r"drop / allowed +0\.\d{4}% / 0\.0020%\n", table)


def test_print_says_what_came_of_it_in_a_few_lines(tmp_path: Path) -> None:
    result = run(net(), folder=tmp_path / "run")
    first, second, third = str(result).split("\n")
    assert re.fullmatch(
        rf"int8 {result.monitor} [\d.]+, fp32 [\d.]+: the goal is met"
        r" \(drop 0\.\d\d%, allowed 1\.00%\)",
        first,
    )
    assert "ops int8, 0 fp32; speed-up" in second
    assert third == "files in run"


def test_a_goal_that_is_missed_is_told_first() -> None:
    result = run(net(fragile=True), exit_policy={"performance_only": True})
    assert ": the goal is not met (drop " in repr(result)
    assert "\n" not in repr(result)


def test_a_result_of_many_ops_is_still_one_line() -> None:
    result = replace(run(net()), int8_ops=tuple(f"layers.{n}" for n in range(999)))
    assert len(repr(result)) < 160
    assert len(str(result)) < 400


def test_a_table_of_many_ops_goes_through_the_first_recipe_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ops, looks, usual = tuple(f"layer{n}" for n in range(50)), [], Recipe.rungs.fget
    recipe = Recipe.of(dict.fromkeys(ops, INT8))
    result = replace(run(net()), int8_ops=ops, trials=(Trial(1, recipe, Score.of(0.9, 1.0)),))
    monkeypatch.setattr(Recipe, "rungs", property(lambda one: looks.append(1) or usual(one)))
    assert "layer49" in result.ops_table()
    assert len(looks) == 1


def test_a_notebook_shows_the_rows_of_the_table() -> None:
    result = replace(run(net()), monitor="<b>")
    page = result._repr_html_()
    assert "<b>" not in page
    assert page.count("<tr") == len(result.table().split("\n"))


@pytest.mark.parametrize("read", [read_result, read_pruning_result])
@pytest.mark.parametrize(
    "content", [b"", b"[]", b"3", b"[" * 100_000, b'{"criterion": 3}', b"\xff", b"1" * 9999]
)
def test_what_is_no_result_is_told(tmp_path: Path, read, content: bytes) -> None:
    path = tmp_path / "result.json"
    path.write_bytes(content)
    with pytest.raises(ArtifactError, match=r"result\.json` is not what lpot_lightning writes"):
        read(path)
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(ArtifactError, match="it is a FIFO; allowed: a regular file"):
        read(path)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    run(net(fragile=True), folder=folder)
    return folder / "result.json"


def changed(path: Path, to: Path, change: Callable[[dict[str, Any]], Any]) -> Path:
    """Write a result anew, with ``change``, its checksum being what it was."""
    plain = json.loads(path.read_bytes())
    change(plain)
    to.write_text(json.dumps(plain))
    return to


def test_any_bit_of_a_result_that_counts_is_told(written: Path, tmp_path: Path) -> None:
    content, path = written.read_bytes(), tmp_path / "result.json"
    whole, draw = read_result(written), random.Random(0)
    for place in draw.sample(range(len(content)), 300):
        path.write_bytes(content[:place] + bytes([content[place] ^ 4]) + content[place + 1 :])
        with contextlib.suppress(ArtifactError):
            assert read_result(path) == whole


def test_a_damaged_result_says_what_to_do(written: Path, tmp_path: Path) -> None:
    path = changed(written, tmp_path / "result.json", lambda plain: plain.update(accuracy=0.5))
    told = r"result\.json` is damaged, or was edited: its SHA-256 is .*; restore it from a copy, or"
    with pytest.raises(ArtifactError, match=told):
        read_result(path)


def test_a_result_of_an_earlier_version_has_no_checksum_and_is_read(
    written: Path, tmp_path: Path
) -> None:
    path = changed(written, tmp_path / "result.json", lambda plain: plain.pop("sha256"))
    assert read_result(path) == read_result(written)


@pytest.mark.parametrize(
    "change",
    [
        {"baseline": "0.9"},
        {"accuracy": None},
        {"status": "fine"},
        {"int8_ops": "abc"},
        {"fp32_ops": [1]},
        {"rungs": {"first": "int4"}},
        {"rungs": []},
        {"trials": {}},
        {"not_quantizable": {"a": 1}},
        {"op_times": {"a": {"int8": None, "fp32": 1}}},
        {"speedup_spread": [1, "2"]},
        {"speedup": True},
        {"workspace": 3},
        {"monitor": 3},
        {"criterion": {"goal": 0.1, "relative": 1, "higher_is_better": True}},
        {"sensitivities": [{"op": "a", "damage": "x", "cost": 1}]},
        {"repairs": [{"op": "a", "what": 1, "before": 1, "after": 1}]},
        {"evaluations": []},
        {"causes": {"a": {"kind": "luck", "found": "", "remedy": "", "repaired": ""}}},
        {"causes": {"a": {"kind": "outliers", "found": 1, "remedy": "", "repaired": ""}}},
        {"causes": {"a": {"kind": "outliers"}}},
        {"causes": []},
        {"more": 1},
    ],
)
def test_values_of_other_types_are_told_when_they_are_read(
    written: Path, tmp_path: Path, change: dict[str, Any]
) -> None:
    path = changed(
        written,
        tmp_path / "result.json",
        lambda plain: plain.pop("sha256") and plain.update(change),
    )
    with pytest.raises(ArtifactError, match="is not what lpot_lightning writes"):
        read_result(path)
