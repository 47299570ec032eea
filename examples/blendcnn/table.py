"""Train, quantize and time the nets of some configs, and print one table of them.

python table.py MRPC/ config/blendcnn/mrpc/train.json config/blendcnn/mrpc/published.json

What a net needs is kept in `table/<config>`; one that is trained there is not trained again.
"""

from __future__ import annotations

import argparse
import json
import logging
import subprocess
import sys
import warnings
from pathlib import Path
from statistics import median

import torch
import yaml
from classify import HERE, QUIET, Bert_DataLoader, arguments, fp32_of, here_or_there, pairs_of

from lpot_lightning import Benchmark, load

RUNS, WARMUP, CALLS = 3, 10, 100
HEAD = (
    "| config | fp32 accuracy | int8 accuracy | ops in fp32 | size | batch | fp32, ms | int8, ms |"
    " fp32 / int8 | least to most |"
)


def main() -> None:
    """Do it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("dataset_location", type=Path)
    parser.add_argument("configs", nargs="+")
    parser.add_argument("--batch_sizes", type=int, nargs="+", default=[1, 32])
    asked = parser.parse_args()
    warnings.filterwarnings("ignore", message=QUIET)
    logging.getLogger("lpot_lightning").setLevel(logging.WARNING)
    rows = []
    for config in map(here_or_there, asked.configs):
        folder = Path("table") / config.stem
        _make(folder, config, asked.dataset_location)
        rows += _rows(folder, asked.dataset_location, asked.batch_sizes)
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads\n")
    print("\n".join([HEAD, "|---" * (HEAD.count("|") - 1) + "|", *rows]))


def _make(folder: Path, config: Path, data: Path) -> None:
    """Train where nobody has, and tune."""
    folder.mkdir(parents=True, exist_ok=True)
    script, place = str(HERE / "classify.py"), f"--dataset_location={data.resolve()}"
    if not (folder / "models" / "model_final.pt").is_file():
        train = [sys.executable, script, place, f"--model_config={config.resolve()}"]
        subprocess.run(train, cwd=folder, check=True)
    subprocess.run([sys.executable, script, "--tune", place], cwd=folder, check=False)


def _rows(folder: Path, data: Path, batch_sizes: list[int]) -> list[str]:
    workspace = folder / "lpot_workspace" / "pytorch" / "blendcnn"
    result = json.loads((workspace / "result.json").read_text())
    ops = len(result["fp32_ops"]), len(result["fp32_ops"]) + len(result["int8_ops"])
    known = (
        f"| {folder.name} | {result['baseline']:.4f} | {result['accuracy']:.4f} |"
        f" {ops[0]} of {ops[1]} | {result['size_ratio']:.2f}x |"
    )
    return [f"{known} {size} | {_times(folder, workspace, data, size)} |" for size in batch_sizes]


def _times(folder: Path, workspace: Path, data: Path, batch_size: int) -> str:
    args = arguments().parse_args(
        [
            f"--input_model={folder}/models",
            f"--dataset_location={data}",
            f"--batch_size={batch_size}",
        ]
    )
    fp32, source = fp32_of(args)
    int8 = load(workspace / "best_configure.yaml", workspace / "best_model_weights.pt", fp32)
    conf = yaml.safe_load(Path(args.lpot_yaml).read_text())
    conf["evaluation"] = {"performance": {"warmup": WARMUP, "iteration": WARMUP + CALLS}}
    batches = Bert_DataLoader(pairs_of(args, source, "dev"), batch_size)
    found = [Benchmark(conf)(int8, b_dataloader=batches, fp32=fp32) for _ in range(RUNS)]
    speedups = sorted(one.speedup for one in found)
    fp32_ms = median(one.fp32.latency.p50 for one in found)
    int8_ms = median(one.latency.p50 for one in found)
    return (
        f"{fp32_ms:.1f} | {int8_ms:.1f} | {median(speedups):.2f}x |"
        f" {speedups[0]:.2f}x to {speedups[-1]:.2f}x"
    )


if __name__ == "__main__":
    main()
