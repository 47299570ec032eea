"""An image classifier to int8, in LPOT's ways: trained here on generated images, or your own.

python examples/image_classification/main.py --model resnet18
python examples/image_classification/main.py --model resnet50 --usage 2
python examples/image_classification/main.py --model resnet18 --approach qat
python examples/image_classification/main.py --model resnet18 --manual
python examples/image_classification/main.py --model resnet50 --data /data/imagenet \
    --weights resnet50.pth --size 224
"""

from __future__ import annotations

import argparse
import logging
from pathlib import Path

import torch
from images import Images, generate
from lightning.pytorch import seed_everything
from manual import stubbed
from resnest import resnest50
from resnet import resnet18, resnet50
from torch import nn
from training import train
from usages import all_in_the_yaml, conf_of, loaders_in_code, own_function

from lpot_lightning import Benchmark, TuningResult

MODELS = {"resnet18": resnet18, "resnet50": resnet50, "resnest50": resnest50}
WORKSPACE = Path("lpot_workspace")
ROW = "| | fp32 | int8 | goal | ops in fp32 | fp32, ms | int8, ms | ratio | size |"


def main() -> None:
    """Train or load, quantize, time."""
    asked = _asked()
    logging.getLogger("lightning.pytorch.utilities.rank_zero").addFilter(_no_tips)
    seed_everything(asked.seed, verbose=False)
    data = asked.data or _generated(asked)
    model = _trained(asked, data)
    if asked.manual:
        model = stubbed(model)
    name = "_".join([asked.model, asked.approach, *(["manual"] if asked.manual else [])])
    conf = conf_of(f"{asked.approach}.yaml", name, data, asked.size)
    if asked.epochs == 0:  # nothing was learned that int8 could spoil: the speed alone is asked
        conf["tuning"]["exit_policy"] = {"performance_only": True}
    if asked.usage == 1:
        quantization = all_in_the_yaml(model, conf)
    elif asked.usage == 2:
        quantization = loaders_in_code(model, conf, data, asked.size)
    else:
        walk_through = conf_of("resnest.yaml", name, data, asked.size)
        quantization = own_function(model, walk_through, data, asked.size)
    result = quantization.result
    assert result is not None
    benchmark = Benchmark(conf)
    benchmark(result.workspace, fp32=model)  # restored: see "The first shape" of the README
    print(f"\n{ROW}\n{_row(name, result, benchmark)}")


def _row(name: str, tuned: TuningResult, benchmark: Benchmark) -> str:
    timed = benchmark.result
    assert timed is not None
    ops = len(tuned.int8_ops) + len(tuned.fp32_ops)
    accuracy = f"{tuned.baseline:.4f} | {tuned.accuracy:.4f} | {tuned.status}"
    assert timed.fp32 is not None
    assert timed.latency is not None
    latency = f"{timed.fp32.latency.p50:.1f} | {timed.latency.p50:.1f} | {timed.speedup:.2f}x"
    in_fp32 = f"{len(tuned.fp32_ops)} of {ops}"
    return f"| {name} | {accuracy} | {in_fp32} | {latency} | {tuned.size_ratio:.2f}x |"


def _asked() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", choices=MODELS, default="resnet18")
    parser.add_argument("--data", type=Path, help="a folder with `train` and `val`, as ImageFolder")
    parser.add_argument("--weights", type=Path, help="a state_dict; else the model is trained")
    parser.add_argument("--size", type=int, default=32, help="of the images that the model sees")
    parser.add_argument("--usage", type=int, choices=(1, 2, 3), default=1)
    parser.add_argument("--approach", choices=("ptq", "qat"), default="ptq")
    parser.add_argument("--manual", action="store_true", help="stubs and fused layers (ResNet-18)")
    parser.add_argument("--width", type=int, default=64, help="of the first stage")
    parser.add_argument("--images", type=int, default=200, help="generated for each class")
    parser.add_argument("--epochs", type=int, help="in fp32; 10, or with `--weights` none")
    parser.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args()
    if asked.approach == "qat" and asked.usage != 1:
        parser.error("`--approach qat` is shown in usage 1")
    if asked.manual and asked.model != "resnet18":
        parser.error("`--manual` is shown with `--model resnet18`")
    return asked


def _generated(asked: argparse.Namespace) -> Path:
    folder = WORKSPACE / "images"
    if not folder.is_dir():
        print(f"generating images in {folder}", flush=True)
        generate(folder, train=asked.images, val=asked.images // 2)
    return folder


def _trained(asked: argparse.Namespace, data: Path) -> nn.Module:
    classes = Images(data / "train", asked.size).classes
    model = MODELS[asked.model](classes, asked.width)
    if asked.weights is not None:
        model.load_state_dict(torch.load(asked.weights, weights_only=True))
    epochs = asked.epochs if asked.epochs is not None else 0 if asked.weights else 10
    if not epochs:
        return model.eval()
    print(f"training {asked.model} in fp32, {epochs} epochs", flush=True)
    train(model, data / "train", size=asked.size, epochs=epochs)
    weights = WORKSPACE / "weights" / f"{asked.model}.pt"
    weights.parent.mkdir(parents=True, exist_ok=True)
    torch.save(model.state_dict(), weights)
    print(f"fp32 weights are in {weights}", flush=True)
    return model


def _no_tips(record: logging.LogRecord) -> bool:
    return "Tip:" not in record.getMessage()


if __name__ == "__main__":
    main()
