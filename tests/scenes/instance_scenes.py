"""What is measured in processes of its own; those import it from here."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn


class Small(nn.Module):
    """A layer, and one tied to it."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(4, 4), nn.Linear(4, 4)
        self.second.weight = self.first.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.second(self.first(x))


def batches(count: int = 3) -> list[tuple[Tensor, Tensor]]:
    return [(torch.ones(5, 4), torch.zeros(5)) for _ in range(count)]


def conf(instances: int = 2, **configs: Any) -> dict[str, Any]:
    asked = {"num_of_instance": instances, "cores_per_instance": 1, **configs}
    return {
        "model": {"name": "small", "framework": "pytorch"},
        "evaluation": {"performance": {"warmup": 1, "iteration": 4, "configs": asked}},
    }


def here(model: Small) -> float:
    """Return what this process is like, one digit each, and the sum of the weights behind them."""
    digits = (
        min(os.sched_getaffinity(0)),
        len(os.sched_getaffinity(0)),
        torch.get_num_threads(),
        torch.get_num_interop_threads(),
        int(os.environ["KMP_BLOCKTIME"]),
        int(model.first.weight is model.second.weight),
    )
    return int("".join(map(str, digits))) + weight_of(model)


def weight_of(model: nn.Module) -> float:
    """Return a number below 1 that tells models apart."""
    return float(sum(one.detach().double().square().sum() for one in model.parameters())) % 1


def fail_on_the_second_core(model: nn.Module) -> None:
    if os.sched_getaffinity(0) == {max(range(os.cpu_count()))}:
        raise RuntimeError("no such thing here")


def die(model: nn.Module) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def leave(model: nn.Module) -> None:
    os._exit(7)


def sleep(model: nn.Module) -> None:
    """Leave a file with the name of this process, and go on for a long time."""
    Path(f"{os.getpid()}.pid").touch()
    time.sleep(60)
