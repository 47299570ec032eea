"""What a run may replace in its workspace, and what it has to leave."""

import json
import os
from pathlib import Path

import pytest
import yaml

from lpot_lightning.artifacts import earlier
from lpot_lightning.artifacts.storage import PREVIOUS, Names
from lpot_lightning.errors import ArtifactError
from lpot_lightning.machine.own_files import _OURS, check_own_files
from lpot_lightning.runs.pruned_files import NAMES as PRUNED_NAMES
from lpot_lightning.runs.pruning_result import PRUNING_RESULT

RESULT = {"status": "met", "monitor": "acc", "criterion": {}, "baseline": 1.0, "accuracy": 0.9}
DEPLOY = {"version": 1.0, "model": {"name": "net"}, "device": "cpu", "evaluation": {}}
OURS = {
    "result.json": json.dumps(RESULT | {"trials": []}),
    "pruning_result.json": json.dumps(RESULT | {"layers": [], "of a newer version": 1}),
    "report.html": "<!doctype html><p>lpot_lightning report</p>",
    "exports.json": '{"exports": []}',
    "deploy.yaml": yaml.safe_dump(DEPLOY),
    "best_configure.yaml": "format: lpot_lightning/7\nop: {}\n",
    "pruned_configure.yaml": "approach: pruning\nformat: 'lpot_lightning/1'\n",
}
THEIRS = {
    "result.json": ['{"accuracy": 0.9}', "[1, 2]", "no JSON", "[" * 100_000, "\xff"],
    "pruning_result.json": ['{"layers": []}'],
    "report.html": ["<!doctype html><h1>Quarterly report</h1>"],
    "exports.json": ["[]", '{"files": []}'],
    "deploy.yaml": ["kind: Deployment", "- model", "a: &a [*a]", "model: {}\nsteps: []"],
    "best_configure.yaml": ["model: net\ncfg: {}", "# format: lpot_lightning/1"],
    "pruned_configure.yaml": ["format: mine"],
}
ALL = (*OURS, "history.jsonl", "best_model_weights.pt", "best_quantized.ckpt")


def refused(folder, name, words):
    with pytest.raises(ArtifactError) as told:
        check_own_files(folder)
    message = str(told.value)
    assert message.startswith(f"`{folder / name}` {words}, and the run would replace it; move it")
    assert "`tuning.workspace.path`" in message


@pytest.mark.parametrize("name", OURS)
def test_ours_of_any_version_may_be_replaced(tmp_path, name):
    check_own_files(tmp_path)
    for content in (OURS[name], ""):
        (tmp_path / name).write_text(content)
        check_own_files(tmp_path)


@pytest.mark.parametrize(
    ("name", "content"), [(name, one) for name, those in THEIRS.items() for one in those]
)
def test_what_is_not_ours_is_named_and_left(tmp_path, name, content):
    (tmp_path / name).write_text(content)
    refused(tmp_path, name, "is not what lpot_lightning writes")
    assert (tmp_path / name).read_text() == content


@pytest.mark.parametrize("name", ALL)
def test_what_is_no_file_is_named(tmp_path, name):
    path = tmp_path / name
    path.mkdir()
    refused(tmp_path, name, "is a folder")
    path.rmdir()
    os.mkfifo(path)
    refused(tmp_path, name, "is a FIFO")
    path.unlink()
    path.symlink_to("nowhere")
    refused(tmp_path, name, "is a link")


def test_a_file_as_large_as_none_of_ours(tmp_path):
    with (tmp_path / "result.json").open("wb") as file:
        file.truncate(40 << 30)
    refused(tmp_path, "result.json", "is not what lpot_lightning writes")


def test_the_names_are_those_that_are_written():
    written = {earlier.HISTORY, earlier.DEPLOY, earlier.RESULT, PRUNING_RESULT, earlier.CHECKPOINT}
    written |= {earlier.REPORT, earlier.EXPORT_RECORDS}
    for names in (Names(), PRUNED_NAMES):
        weights = Path(names.weights)
        written |= {names.configure, names.weights, weights.with_stem(weights.stem + PREVIOUS).name}
    assert written == set(_OURS)
