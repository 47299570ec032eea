"""`lpot-lightning show`: what a quantization has left."""

from __future__ import annotations

import errno
import json
import os
from dataclasses import replace
from pathlib import Path

import pytest

from lpot_lightning.artifacts.storage import save_configure
from lpot_lightning.artifacts.tune_config import with_rungs
from lpot_lightning.commands.main import main
from lpot_lightning.pruning.pruners import LayerSparsity
from lpot_lightning.recipe import FP32, OpConfig, Recipe, TensorConfig
from lpot_lightning.runs.pruning_result import PruningResult
from lpot_lightning.tuning.history import History
from lpot_lightning.tuning.score import Criterion, Score, TrialState

INT8 = OpConfig(
    TensorConfig(dtype="uint8", scheme="asym", granularity="per_tensor", algorithm="kl"),
    TensorConfig(dtype="int8", scheme="sym", granularity="per_channel", algorithm="minmax"),
)
RECIPE = Recipe.of({"net.0": INT8, "net.2": INT8})
OPS = {
    "net.0": {"kind": "Linear", **INT8.to_dict()},
    "net.2": {"kind": "Linear", **FP32.to_dict()},
}
OPS["net.0"]["activation"]["scale"] = 0.0262399
CONFIGURE = {
    "format": "lpot_lightning/2", "backend": "onednn", "engine": "onednn", "reduce_range": False,
    "accuracy": {"monitor": "acc", "baseline": 0.93, "int8": 0.925, "met": True},
    "parts": [], "op": with_rungs(OPS), "fp32_model": {}, "weights": {"sha256": "0"},
    "modules": {}, "signatures": {}, "probe": {},
}  # fmt: skip
RESULT = {
    "status": "met", "monitor": "acc",
    "criterion": {"goal": 0.01, "relative": True, "higher_is_better": True},
    "baseline": 0.93, "accuracy": 0.925, "int8_ops": ["net.0"], "fp32_ops": ["net.2"],
    "not_quantizable": {"emb": "no int8 kernel"}, "trials": [], "evaluations": 3.0, "speedup": 2.0,
    "speedup_spread": [1.9, 2.2],
    "size_ratio": 3.5, "workspace": "ws", "objective": "performance", "sensitivities": [],
    "repairs": [],
}  # fmt: skip


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    """Return one as a run leaves it that has ended."""
    history = History.open(tmp_path / "history.jsonl", {"config": "a"})
    history.check_baseline(0.93)
    history.append(RECIPE, Score.screening(0.6, 0.4, 0.25))
    history.append(RECIPE.with_fp32(["net.0"]), Score.failing("no kernel", 0.1))
    history.append(RECIPE.with_fp32(["net.0", "net.2"]), Score.of(0.91, 1.25))
    met = replace(Score.of(0.925, 1.25), state=TrialState.MET)
    history.append(RECIPE.with_fp32(["net.2"]), met)
    save_configure(tmp_path / "best_configure.yaml", CONFIGURE)
    (tmp_path / "result.json").write_text(json.dumps(RESULT))
    return tmp_path


def show(folder, capsys, *options):
    """Return the exit code, what went to stdout and what to stderr."""
    code = main(["show", str(folder), *options])
    return code, *capsys.readouterr()


def test_a_run_that_has_ended(workspace, capsys):
    assert show(workspace, capsys) == (
        0,
        "fp32 acc           0.9300\n"
        "int8 acc           0.9250\n"
        "drop / allowed     0.54% / 1.00%\n"
        "status             met\n"
        "validation passes  3.0\n"
        "ops int8 / fp32    1 / 1\n"
        "speed-up           2.00x (1.90x to 2.20x)\n"
        "size               3.50x smaller\n"
        "in fp32            net.2\n"
        "not quantizable    emb\n"
        "workspace          ws\n"
        "\n"
        "trial  int8 ops  fp32 ops  accuracy  seconds  status\n"
        "1      2         0         0.6000    0.4      given up after 25% of a pass\n"
        "2      1         1         -         0.1      failed: no kernel\n"
        "3      0         2         0.9100    1.2      not met\n"
        "4      1         1         0.9250    1.2      met\n"
        "\n"
        "op     kind    precision  scale   activation             weight\n"
        "net.0  Linear  int8       0.0262  uint8 asym per_tensor  int8 sym per_channel\n"
        "                                  kl                     minmax\n"
        "net.2  Linear  fp32\n"
        "\n"
        "not quantizable\n"
        "emb: no int8 kernel\n",
        "",
    )


def test_an_op_in_groups_tells_their_size(workspace, capsys):
    kept = TensorConfig(dtype="int8", scheme="sym", granularity="per_group", group_size=64)
    op = {"kind": "Linear", **OpConfig(TensorConfig(dtype="fp32"), kept).to_dict()}
    save_configure(workspace / "best_configure.yaml", {**CONFIGURE, "op": with_rungs({"a": op})})
    row = "a   Linear  weight-only int8  -      fp32        int8 sym per_group 64\n"
    assert row in show(workspace, capsys)[1]


def test_a_run_that_was_killed_before_its_end(workspace, capsys):
    (workspace / "result.json").unlink()
    with (workspace / "history.jsonl").open("ab") as file:
        file.write(b'{"seq": 6, "kind": "tri')
    before = (workspace / "history.jsonl").read_bytes()
    code, out, err = show(workspace, capsys)
    assert (code, err) == (0, "")
    assert out.startswith(
        "note: the last line of the history is not written to its end, and left out\n"
        "note: the run has not ended: it is going on, or was stopped\n"
        "\n"
        "fp32 acc               0.9300\n"
        "int8 acc, best so far  0.9250\n"
        "criterion              met\n"
    )
    assert (workspace / "history.jsonl").read_bytes() == before


def test_a_run_that_has_just_begun(tmp_path, capsys):
    History.open(tmp_path / "history.jsonl", {"config": "a"})
    assert show(tmp_path, capsys)[:2] == (
        0,
        "note: the run has not ended: it is going on, or was stopped\n"
        "note: there is no int8 model yet\n"
        "\n"
        "no trial was finished\n",
    )


def test_a_run_all_of_whose_trials_failed(tmp_path, capsys):
    history = History.open(tmp_path / "history.jsonl", {"config": "a"})
    history.append(RECIPE, Score.failing("the accuracy is `nan`", 0.1))
    assert show(tmp_path, capsys)[1].startswith(
        "note: the run has not ended, or ended in an error: every trial so far failed\n"
        "  (the accuracy is `nan`)\n"
    )


def test_a_later_run_that_has_not_ended(workspace, capsys):
    os.utime(workspace / "result.json", (1, 1))
    assert show(workspace, capsys)[1].startswith(
        "note: a later run has not ended: the result is that of the one before\n"
    )


def test_json(workspace, capsys):
    code, out, _ = show(workspace, capsys, "--json")
    found = json.loads(out)
    assert (code, found["baseline"], found["notes"]) == (0, 0.93, [])
    assert found["result"]["speedup"] == 2.0
    assert [one["accepted"] for one in found["trials"]] == [False, False, False, True]
    assert found["ops"]["net.0"]["activation"]["scale"] == 0.0262399
    (workspace / "result.json").unlink()
    assert json.loads(show(workspace, capsys, "--json")[1])["result"] is None


def damaged(folder, name, content):
    (folder / name).write_bytes(content)


DAMAGE = {
    "result": (
        lambda f: damaged(f, "result.json", b'{"status": "met"'),
        "/result.json` is not what",
    ),
    "other result": (lambda f: damaged(f, "result.json", b"[1]"), "/result.json` is not what lpot"),
    "history": (
        lambda f: damaged(f, "history.jsonl", b"what\nwhat\n"),
        "/history.jsonl`, line 1: the line is damaged",
    ),
    "empty history": (
        lambda f: damaged(f, "history.jsonl", b""),
        "/history.jsonl`, line 1: the line is damaged",
    ),
    "configure": (
        lambda f: damaged(f, "best_configure.yaml", b"\0"),
        "/best_configure.yaml` is no readable tune config",
    ),
    "LPOT's configure": (
        lambda f: damaged(f, "best_configure.yaml", b"approach: static"),
        "/best_configure.yaml`: `format` is `dict`, this version reads `lpot_lightning/2`",
    ),
}


@pytest.mark.parametrize(("damage", "told"), DAMAGE.values(), ids=DAMAGE)
def test_a_damaged_file_is_one_line_and_exit_code_1(workspace, capsys, damage, told):
    damage(workspace)
    code, out, err = show(workspace, capsys)
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert err.startswith("error: `")
    assert told in err


def test_an_edited_file(workspace, capsys):
    (workspace / "result.json").write_text(json.dumps({**RESULT, "baseline": "good"}))
    code, out, err = show(workspace, capsys)
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert err == (
        f"error: `{workspace / 'result.json'}` is not what lpot_lightning writes: TypeError:"
        " `TuningResult.baseline` is `good`; allowed: a number\n"
    )


def test_what_is_no_workspace(tmp_path, capsys):
    (tmp_path / "file").touch()
    assert show(tmp_path / "no", capsys)[2] == (
        f"error: `{tmp_path}/no` is not there; allowed: the folder of a workspace\n"
    )
    assert show(tmp_path / "file", capsys)[2] == (
        f"error: `{tmp_path}/file` is a file; allowed: the folder of a workspace\n"
    )
    code, out, err = show(tmp_path, capsys)
    assert (code, out) == (1, "")
    assert err == (
        f"error: `{tmp_path}` is no workspace: it holds none of `result.json`, `history.jsonl`,"
        " `best_configure.yaml`, `pruning_result.json`\n"
    )


@pytest.mark.parametrize("command", ["show", "report", "export"])
@pytest.mark.parametrize("asked", ["is_dir", "is_file"])
def test_what_nobody_may_look_at(workspace, capsys, monkeypatch, command, asked):
    def refused(path, **_):
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    more = ["m.onnx", "--class", "lightning.pytorch.demos.boring_classes:BoringModel"]
    monkeypatch.setattr(Path, asked, refused)
    code = main([command, str(workspace), *(more if command == "export" else [])])
    assert (code, capsys.readouterr().err) == (
        1,
        f"error: cannot look into `{workspace}`: Permission denied\n",
    )


def test_a_workspace_of_a_pruning(tmp_path, capsys):
    layer = LayerSparsity(name="fc.weight", shape=(4, 8), sparsity=0.5, target=0.5, pattern="2:4")
    pruned = PruningResult(
        status="met",
        reached=True,
        monitor="val_acc",
        criterion=Criterion(0.01, True, True),
        baseline=0.9,
        accuracy=0.91,
        layers=(layer,),
        unprunable={},
        parameters=(32, 32),
        macs=None,
        speedup=None,
        workspace=tmp_path,
    )
    (tmp_path / "pruning_result.json").write_bytes(pruned.to_json())
    assert main(["show", str(tmp_path)]) == 0
    said = capsys.readouterr().out
    assert "sparsity        50.00% of the pruned weights" in said
    assert "fc.weight" in said
    assert "note" not in said
    assert main(["show", str(tmp_path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["pruned"]["accuracy"] == 0.91
