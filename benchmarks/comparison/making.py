"""What a way is given, and what it makes of it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from families import FAMILIES, Family, layers
from torch import Tensor, nn

Call = Callable[[Tensor], Tensor]
TORCH, ORT, OV, INDUCTOR = "torch", "ONNX Runtime", "OpenVINO", "torch.compile"
HERE = Path(__file__).parent
SOURCES = ("convolutional_nets.py", "sequence_nets.py", "families.py", "training.py")


@dataclass(frozen=True, kw_only=True)
class Task:
    """A trained net, the images for calibration and validation, and the goal.

    Args:
        name: of the family.
        net: in float32, in eval mode.
        calibration: images to find ranges with.
        images: to judge with.
        labels: of these.
        goal: the share of the accuracy that may be lost, for ways that can be told.
        folder: for files.
    """

    name: str
    net: nn.Module
    calibration: Tensor
    images: Tensor
    labels: Tensor
    goal: float | None
    folder: Path

    @property
    def family(self) -> Family:
        """How the net is trained and quantized."""
        return FAMILIES[self.name]

    @property
    def layers(self) -> int:
        """How many layers could be int8."""
        return layers(self.net)

    def accuracy(self, call: Call, batch: int = 100) -> float:
        """Return the share of the validation images that ``call`` recognizes.

        Those that fill no batch are left out: some are called with one size of a batch alone.
        """
        batch = min(batch, len(self.images))
        parts = self.images[: len(self.images) // batch * batch].split(batch)
        found = torch.cat([call(part).argmax(1) for part in parts])
        return float((found == self.labels[: len(found)]).float().mean())


def read_task(path: Path, name: str, goal: float | None, folder: Path) -> Task:
    """Return what ``training.py`` wrote to ``path``."""
    held = torch.load(path, weights_only=True)
    net = FAMILIES[name].build()
    net.load_state_dict(held["state"])
    return Task(
        name=name,
        net=net.eval().requires_grad_(False),
        calibration=held["calibration"],
        images=held["images"],
        labels=held["labels"],
        goal=goal,
        folder=folder,
    )


def key(name: str, *, quick: bool) -> str:
    """Return what a trained net hangs on: the code here, torch and the size of the data."""
    told = [name, str(quick), torch.__version__, *((HERE / one).read_text() for one in SOURCES)]
    return hashlib.sha256("\n".join(told).encode()).hexdigest()[:16]


def key_of(path: Path) -> str | None:
    """Return the key of what ``training.py`` wrote to ``path``; ``None`` if nothing is there."""
    return str(torch.load(path, weights_only=True)["key"]) if path.is_file() else None


@dataclass(frozen=True, kw_only=True)
class Form:
    """An int8 model, ready to be called.

    Args:
        runtime: what computes it.
        call: from a batch to its logits.
        seconds: that it took to be made.
        judged: whether these hold a pass over the validation images.
        lost: how many layers compute in floats.
        mib: size of the file or of the state.
        batch: of how many images it is judged.
    """

    runtime: str
    call: Call
    seconds: float
    lost: int
    mib: float
    judged: bool = False
    batch: int = 100


@dataclass(frozen=True, kw_only=True)
class Made:
    """What a way has made.

    Args:
        forms: the int8 model in each runtime.
        floats: the fp32 net in each runtime but torch.
        versions: of the tools.
        failures: why there is no form for a runtime.
    """

    forms: tuple[Form, ...]
    versions: Mapping[str, str]
    floats: Mapping[str, Call] = field(default_factory=dict)
    failures: Mapping[str, str] = field(default_factory=dict)


def mib(path: Path) -> float:
    """Return how large a file is, with the weights beside it."""
    beside = [path.with_suffix(".bin"), Path(f"{path}.data")]
    return sum(one.stat().st_size for one in (path, *beside) if one.exists()) / 2**20


def state_mib(net: nn.Module) -> float:
    """Return how large the tensors of a net are."""
    return sum(one.numel() * one.element_size() for one in net.state_dict().values()) / 2**20
