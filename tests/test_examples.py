"""The examples as a user runs them: in a process of their own, in an empty folder."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from lpot_lightning.conf.reader import read_conf

ROOT = Path(__file__).parents[1]
DIGITS = ROOT / "examples" / "digits"


def output_of(folder: Path, *command: str) -> str:
    done = subprocess.run(
        [sys.executable, *command], cwd=folder, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout + done.stderr


def test_the_demo_trains_quantizes_and_restores_in_a_new_process(tmp_path: Path) -> None:
    said = output_of(tmp_path, str(DIGITS / "demo.py"))
    for line in (
        r"fp32 val_acc +0\.9\d+",
        r"int8 val_acc +0\.9\d+",
        r"status +met",
        r"validation passes +[2-9]\.0",
        r"ops int8 / fp32 +\d+ / \d+",
        r"speed-up +\d+\.\d+x",
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
    run = ["fit", "--config", str(DIGITS / "fit.yaml"), "--trainer.max_epochs", "3"]
    said = output_of(tmp_path, str(DIGITS / "main.py"), *run)
    assert re.search(r"status +(met|not_met)", said), said
    assert (tmp_path / "lpot_workspace" / "pytorch_fx" / "digits" / "best_quantized.ckpt").exists()


def test_the_yaml_of_the_readme_is_a_conf() -> None:
    text = (ROOT / "README.md").read_text()
    (block,) = re.findall(r"```yaml\n(# ptq\.yaml.*?)```", text, re.DOTALL)
    assert read_conf(yaml.safe_load(block)).model.name == "digits"


def test_the_readme_without_a_trainer(tmp_path: Path) -> None:
    text = (ROOT / "README.md").read_text().partition("## Without a Trainer")[2]
    (program,) = re.findall(r"```python\n(.*?)```", text.partition("\n## ")[0], re.DOTALL)
    asked = {
        "model": {"name": "trained", "framework": "pytorch_fx"},
        "quantization": {"approach": "quant_aware_training"},
    }
    program += f"quantization = Quantization({asked})\n"
    (call,) = re.findall(r"`(quantization\(model, q_func=.*?\))`", text)
    said = output_of(tmp_path, "-c", f"{program}{call}\nprint(quantization.result.status)\n")
    assert re.search(r"^met (0\.9|1\.0)\d*$", said, re.MULTILINE), said
    assert re.search(r"^met$", said, re.MULTILINE), said


def test_the_yaml_of_the_demo_is_a_conf() -> None:
    assert read_conf(DIGITS / "ptq.yaml").tuning.random_seed == 9527
