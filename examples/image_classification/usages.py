"""LPOT's three usages of `Quantization`, and the YAML that each of them needs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from images import Images, shorter_edge
from torch import nn
from torch.utils.data import DataLoader
from training import accuracy

from lpot_lightning import Quantization

HERE = Path(__file__).parent


def all_in_the_yaml(model: nn.Module, conf: dict[str, Any]) -> Quantization:
    """Usage 1: data to calibrate on, data to judge on and the metric are in the YAML."""
    quantization = Quantization(conf)
    quantization(model)
    return quantization


def loaders_in_code(model: nn.Module, conf: dict[str, Any], data: Path, size: int) -> Quantization:
    """Usage 2: loaders in code, the metric in the YAML."""
    quantization = Quantization(without_data(conf))
    calibrated = quantization.dataloader(Images(data / "train", size), batch_size=30, shuffle=True)
    judged = quantization.dataloader(Images(data / "val", size), batch_size=30)
    quantization(model, q_dataloader=calibrated, eval_dataloader=judged)
    return quantization


def own_function(model: nn.Module, conf: dict[str, Any], data: Path, size: int) -> Quantization:
    """Usage 3, as in the walk-through: a loader to calibrate on, and a function that judges."""
    judged = DataLoader(Images(data / "val", size), batch_size=30)

    quantization = Quantization(conf)
    quantization.model = model
    quantization.calib_dataloader = DataLoader(
        Images(data / "train", size), batch_size=30, shuffle=True
    )
    quantization.eval_func = lambda model: accuracy(model, judged)
    quantization()
    return quantization


def conf_of(file: str, name: str, data: Path, size: int) -> dict[str, Any]:
    """Return a YAML of this folder for images of the user's, and of another size."""
    conf = yaml.safe_load((HERE / file).read_text())
    conf["model"]["name"] = name
    for block in _loaders(conf):
        folder = block["dataset"].get("ImageFolder")
        if folder is not None:
            folder["root"] = str(data / Path(folder["root"]).name)
            block["transform"]["Resize"]["size"] = shorter_edge(size)
            block["transform"]["CenterCrop"]["size"] = size
    return conf


def without_data(conf: dict[str, Any]) -> dict[str, Any]:
    """Return a conf without what usage 2 gives in code."""
    left = yaml.safe_load(yaml.safe_dump(conf))
    del left["quantization"]["calibration"]["dataloader"]
    del left["evaluation"]["accuracy"]["dataloader"]
    return left


def _loaders(part: Any) -> list[dict[str, Any]]:
    if not isinstance(part, dict):
        return []
    own = [part["dataloader"]] if "dataloader" in part else []
    return own + [block for inner in part.values() for block in _loaders(inner)]
