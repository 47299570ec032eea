"""The examples as a user runs them: in a process of their own, in an empty folder.

Their `python` is a warm one, and the demo of `make demo` trains for four epochs of ten; in
`make soak` it has a `python` that has just started, and all ten.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from warm_python import python

from lpot_lightning.conf.reader import read_conf

ROOT = Path(__file__).parents[2]
DIGITS = ROOT / "examples" / "digits"


def output_of(folder: Path, *command: str, cold: bool = False) -> str:
    start = sys.executable if cold else python()
    done = subprocess.run(
        [start, *command], cwd=folder, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout + done.stderr


HURRIED = """
import json, runpy, sys
import lightning.pytorch as pl
whole, few = pl.Trainer, json.loads(sys.argv[1])
pl.Trainer = lambda **given: whole(**{**given, **few})
sys.argv = sys.argv[2:]
sys.path.insert(0, sys.argv[0].rpartition("/")[0])
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def hurried(program: Path, **few: int) -> tuple[str, ...]:
    """Return how to run a program whose Trainers are given something else."""
    return "-c", HURRIED, json.dumps(few), str(program)


@pytest.mark.parametrize(
    "cold", [False, pytest.param(True, marks=pytest.mark.soak)], ids=["warm", "cold"]
)
def test_the_demo_trains_quantizes_and_restores_in_a_new_process(
    tmp_path: Path, cold: bool
) -> None:
    demo = DIGITS / "demo.py"
    run = (str(demo),) if cold else hurried(demo, max_epochs=4)
    said = output_of(tmp_path, *run, cold=cold)
    for line in (
        r"fp32 val_acc +0\.9\d+",
        r"int8 val_acc +0\.9\d+",
        r"status +met",
        r"validation passes +[1-9]\.0",
        r"ops int8 / fp32 +\d+ / \d+",
        r"speed-up +(\d+\.\d+x|about as fast)",
        r"size +[23]\.\d+x smaller",
        r"64 predictions, bit-equal: True",
    ):
        assert re.search(line, said), f"{line}\n{said}"
    workspace = tmp_path / "lpot_workspace" / "pytorch_fx" / "digits"
    assert {"best_configure.yaml", "best_model_weights.pt", "history.jsonl"} <= {
        file.name for file in workspace.iterdir()
    }


def test_the_same_run_from_one_lightning_cli_yaml(tmp_path: Path) -> None:
    pytest.importorskip("jsonargparse")
    run = ["fit", "--config", str(DIGITS / "fit.yaml"), "--trainer.max_epochs", "1"]
    said = output_of(tmp_path, str(DIGITS / "main.py"), *run)
    assert re.search(r"status +(met|not_met)", said), said
    workspace = tmp_path / "lpot_workspace" / "pytorch_fx" / "digits"
    assert (workspace / "best_quantized.ckpt").exists()
    assert (workspace / "exports" / "model.onnx").exists()
    found = re.findall(r"val_acc +(0\.\d+) \(int8 in torch (0\.\d+)\)", said)
    assert len(found) == 2  # in ONNX Runtime, and in OpenVINO
    assert all(float(file) > float(int8) - 0.01 for file, int8 in found)


def test_train_quantize_time_and_look_from_the_command_line(tmp_path: Path) -> None:
    pytest.importorskip("jsonargparse")
    main, run = str(DIGITS / "main.py"), ("--config", str(DIGITS / "run.yaml"))
    fit = yaml.safe_load((DIGITS / "run.yaml").read_text())
    del fit["conf"]
    (tmp_path / "fit.yaml").write_text(yaml.safe_dump(fit))
    output_of(tmp_path, main, "fit", "--config", "fit.yaml", "--trainer.max_epochs", "3")
    (path,) = map(str, tmp_path.rglob("*.ckpt"))
    said = output_of(tmp_path, main, "quantize", *run, "--ckpt_path", path)
    assert re.search(r"status +met", said), said
    said = output_of(tmp_path, main, "benchmark", *run, "--ckpt_path", path)
    assert re.search(r"speed-up +(\d+\.\d+x|about as fast)", said), said
    workspace = "lpot_workspace/pytorch_fx/digits"
    said = output_of(tmp_path, "-m", "lpot_lightning.commands", "show", workspace)
    assert re.search(r"net\.stem +Conv2d +int8", said), said


def test_the_readme_is_read_in_a_minute() -> None:
    assert len((ROOT / "README.md").read_text().split()) <= 1300


def test_the_yaml_of_the_demo_is_a_conf() -> None:
    assert read_conf(DIGITS / "ptq.yaml").tuning.random_seed == 9527


QAT = ROOT / "examples" / "qat"
PRUNING = ROOT / "examples" / "pruning"


@pytest.mark.parametrize(
    ("demo", "given", "rows"),
    [
        (QAT, ("--short",), ("fp32", "PTQ, all ops int8", "PTQ, tuned by `auto`", "QAT, 2 epochs")),
        (PRUNING, ("channels_int8", "--dense_epochs", "1"), ("dense", "channels_int8")),
    ],
    ids=["qat", "pruning"],
)
def test_the_long_demos_come_to_their_tables_with_two_batches_an_epoch(
    tmp_path: Path, demo: Path, given: tuple[str, ...], rows: tuple[str, ...]
) -> None:
    run = hurried(demo / "demo.py", limit_train_batches=2, limit_val_batches=2)
    said = output_of(tmp_path, *run, *given)
    for name in rows:
        assert re.search(rf"^{re.escape(name)}.* [01]\.\d{{4}}", said, re.MULTILINE), said


@pytest.mark.soak
def test_a_net_that_int8_breaks_learns_to_be_int8(tmp_path: Path) -> None:
    said = output_of(tmp_path, str(QAT / "demo.py"), "--short")
    row = r" +(0\.\d+) +(\d+) of 11 +(\d+\.\d) +\d+\.\d\dx +(met|missed)"
    all_int8, tuned, trained = (
        re.search(re.escape(name) + row, said)
        for name in ("PTQ, all ops int8", "PTQ, tuned by `auto`", "QAT, 2 epochs more")
    )
    assert all_int8, said
    assert tuned, said
    assert trained, said
    assert all_int8[2] == "0"
    assert all_int8[4] == "missed"
    assert trained[4] == "met"
    assert int(trained[2]) < int(tuned[2])  # in full none, of which a few epochs fall short
    assert float(trained[1]) > float(all_int8[1])
    assert (tmp_path / "lpot_workspace/pytorch_fx/automaton_qat/best_quantized.ckpt").exists()


def test_the_training_for_int8_from_two_yamls(tmp_path: Path) -> None:
    pytest.importorskip("jsonargparse")
    for yaml_file, epochs in (("fp32.yaml", "2"), ("fit.yaml", "1")):
        run = ["fit", "--config", str(QAT / yaml_file), "--trainer.max_epochs", epochs]
        said = output_of(tmp_path, str(QAT / "main.py"), *run, "--trainer.limit_train_batches", "2")
    assert "ops with the rounding of int8" in said
    assert re.search(r"status +(met|not_met)", said), said
    assert (tmp_path / "lpot_workspace/pytorch_fx/automaton_qat/result.json").exists()


@pytest.mark.soak
def test_a_net_without_half_of_its_channels_becomes_int8(tmp_path: Path) -> None:
    demo = str(PRUNING / "demo.py")
    said = output_of(tmp_path, demo, "channels_int8", "--dense_epochs", "3")
    assert re.search(r"parameters +204,554 -> 51,594", said), said
    assert re.search(r"ops int8 / fp32 +1\d / \d", said), said
    row = re.search(r"channels_int8 +(0\.\d+) +50\.0% +51,594 +\d\.\d\dx +(met|missed)", said)
    assert row, said
    assert float(row[1]) > 0.9


@pytest.mark.parametrize("way", ["magnitude", "two_of_four", "channels", "channels_int8"])
def test_the_yamls_of_the_pruning_example_are_confs(way: str) -> None:
    conf = read_conf(PRUNING / f"{way}.yaml")
    assert conf.pruning is not None
    assert conf.quantizes is (way == "channels_int8")


def test_the_pruning_from_one_yaml(tmp_path: Path) -> None:
    pytest.importorskip("jsonargparse")
    run = ["fit", "--config", str(PRUNING / "fit.yaml"), "--trainer.limit_train_batches", "2"]
    run += ["--trainer.limit_val_batches", "2"]
    said = output_of(tmp_path, str(PRUNING / "main.py"), *run)
    assert re.search(r"sparsity +90\.00% of the pruned weights", said), said
    assert (tmp_path / "lpot_workspace/pytorch_fx/digits_magnitude/pruned_configure.yaml").exists()
