"""`lpot-lightning report`: the page of a workspace, of any version and in any state."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest
from small_run import net, run

from lpot_lightning.commands.main import main
from lpot_lightning.tuning.history import History, look_at
from lpot_lightning.tuning.score import Score

MUSEUM = Path(__file__).parents[1] / "museum"
HALLS = [one for one in sorted(MUSEUM.glob("format_2*/*")) if one.is_dir()]


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ws")
    run(net(fragile=True), folder=folder)
    return folder


def report(folder, capsys, *options):
    """Return the exit code, what went to stdout and what to stderr."""
    code = main(["report", str(folder), *options])
    return code, *capsys.readouterr()


def test_it_says_where_the_report_is(workspace, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert report(workspace, capsys, "--output", "mine.html") == (0, "mine.html\n", "")
    assert b"random seed" in (tmp_path / "mine.html").read_bytes()


@pytest.mark.parametrize("hall", HALLS, ids=lambda one: f"{one.parent.name}-{one.name}")
def test_workspaces_of_earlier_versions_have_one_too(hall, capsys, tmp_path):
    code, _, err = report(hall, capsys, "--output", str(tmp_path / "r.html"))
    assert (code, err) == (0, "")
    assert b"<h1>" in (tmp_path / "r.html").read_bytes()


def test_of_a_run_that_has_only_a_model_its_accuracy_is_told(workspace, capsys, tmp_path):
    shutil.copy(workspace / "best_configure.yaml", tmp_path)
    assert report(tmp_path, capsys)[0] == 0
    text = (tmp_path / "report.html").read_text()
    assert "Not ended" in text
    assert "fp32 is 1.0000" in text


def _begun_as(folder, anew):
    first = (folder / "history.jsonl").read_text().splitlines()[0]
    return {"config": "another"} if anew else json.loads(first)["fingerprints"]


def copied(workspace, folder, *, later):
    """Copy a workspace; one of its files gets a later time than the others."""
    for name in ("result.json", "history.jsonl", "best_configure.yaml"):
        if not (folder / name).exists():
            shutil.copy(workspace / name, folder)
        os.utime(folder / name, (2, 2) if name == later else (1, 1))


@pytest.mark.parametrize("later", ["result.json", "history.jsonl"])
def test_a_run_that_has_ended_has_so_in_a_copy_too(workspace, capsys, tmp_path, later):
    copied(workspace, tmp_path, later=later)
    assert report(tmp_path, capsys)[0] == 0
    assert "not ended" not in (tmp_path / "report.html").read_text()


@pytest.mark.parametrize("later", ["result.json", "history.jsonl"])
@pytest.mark.parametrize("anew", [True, False])
def test_a_later_run_that_has_not_ended_counts(workspace, capsys, tmp_path, later, anew):
    shutil.copy(workspace / "history.jsonl", tmp_path)
    recipe = look_at(tmp_path / "history.jsonl").trials[0].recipe
    with_one_more = History.open(tmp_path / "history.jsonl", _begun_as(tmp_path, anew))
    recipe = recipe if anew else recipe.with_fp32(recipe.int8_ops)
    with_one_more.append(recipe, Score.of(0.5, 1.0))
    copied(workspace, tmp_path, later=later)
    assert report(tmp_path, capsys)[0] == 0
    text = (tmp_path / "report.html").read_text()
    assert "A later run has not ended" in text
    assert "Not ended" in text


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("result.json", b"{}", "is not what lpot_lightning writes"),
        ("history.jsonl", b"x\ny\n", "history.jsonl"),
        ("exports.json", b'{"exports": [], "sha256": "0"}', "exports.json` is damaged"),
    ],
)
def test_a_damaged_file_is_told(workspace, capsys, tmp_path, name, content, told):
    for one in ("result.json", "best_configure.yaml"):
        shutil.copy(workspace / one, tmp_path)
    (tmp_path / name).write_bytes(content)
    code, out, err = report(tmp_path, capsys)
    assert (code, out) == (1, "")
    assert told in err


def test_what_is_no_workspace_is_told(capsys, tmp_path):
    assert report(tmp_path, capsys)[2].endswith("best_configure.yaml`, `pruning_result.json`\n")
    assert "not there" in report(tmp_path / "none", capsys)[2]


def test_a_report_that_cannot_be_written_is_told(workspace, capsys, tmp_path):
    code, _, err = report(workspace, capsys, "--output", str(tmp_path / "no" / "r.html"))
    assert code == 1
    assert "cannot write `" in err


@pytest.mark.parametrize("name", ["result.json", "best_model_weights.pt"])
def test_no_file_of_the_workspace_is_overwritten(workspace, capsys, name):
    before = (workspace / name).read_bytes()
    code, out, err = report(workspace, capsys, "--output", str(workspace / name))
    assert (code, out) == (1, "")
    assert "a file of that name belongs to a workspace" in err
    assert (workspace / name).read_bytes() == before


def test_programs_are_told_where_it_is(workspace, capsys, tmp_path):
    code, out, _ = report(workspace, capsys, "--json", "--output", str(tmp_path / "r.html"))
    assert (code, json.loads(out)) == (0, {"path": str(tmp_path / "r.html")})
