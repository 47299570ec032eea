"""What int8 is worth in the nets of the tests: how much faster, and how much of the work is int8.

Each net is small, has random weights, and is quantized as a user does. The work is the time that
its convolutions and linear layers, and functions like them, take in fp32; the share of it is of
those that are int8. A net is slower, or stays in fp32, only with its two times beside it.

    make bench
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

import torch
from classifier import quiet_trainer
from lightning.pytorch import LightningModule, seed_everything
from today import begin, clock_of, show
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree as pytree
from turns import Turns, in_turns

from lpot_lightning import TuningResult, quantize

sys.path.append(str(Path(__file__).parents[1] / "tests" / "scenes"))
from peoples_nets import BROUGHT  # noqa: E402
from zoo import ZOO  # noqa: E402

SLOWEST, LEAST_INT8, ROUNDS, SECONDS = 0.97, 0.9, 21, 3.0
WORK = ("linear", "conv1d", "conv2d", "conv3d", "addmm", "addbmm", "baddbmm")
WORK += tuple(f"conv_transpose{dims}d" for dims in (1, 2, 3))
Call = tuple[tuple[Any, ...], dict[str, Any]]


class Asked(LightningModule):
    """A net that every validation loop is content with, and calls of any kind."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def validation_step(self, batch: Call) -> None:
        """Log the size of the answer."""
        args, kwargs = batch
        leaves = pytree.tree_leaves(self.net(*args, **kwargs))
        found = [one.float().abs().mean() for one in leaves if isinstance(one, Tensor)]
        self.log("size", torch.stack(found).mean(), batch_size=1)


class Calls(list[Call]):
    """Batches as they are."""

    batch_size = 1


@dataclass(frozen=True)
class Scene:
    """A net of the tests, and calls of it."""

    net: nn.Module
    calls: Calls


def scenes() -> dict[str, Callable[[], Scene]]:
    """Return the nets of both zoos."""
    brought = {
        name: lambda one=one: Scene(one.make(), Calls((call, {}) for call in one.inputs()))
        for name, one in BROUGHT.items()
    }
    small = {
        f"small: {name}": lambda make=make, inputs=inputs: Scene(
            make(), Calls((call.args, call.kwargs) for call in inputs())
        )
        for name, (make, inputs) in ZOO.items()
    }
    return brought | small


class Watch(TorchFunctionMode):
    """Adds up the seconds of each convolution and linear layer, by the names that ops have."""

    def __init__(self) -> None:
        super().__init__()
        self.owners = [("", False)]
        self.seconds: Counter[str] = Counter()
        self.seen: Counter[str] = Counter()

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> object:
        """Time what is work."""
        kind = getattr(func, "__name__", "")
        if kind not in WORK:
            return func(*args, **kwargs or {})
        started = perf_counter()
        found: object = func(*args, **kwargs or {})
        owner, is_layer = self.owners[-1]
        name = owner if is_layer else f"{owner}#{kind}_{self.seen[owner + kind]}"
        self.seen[owner + kind] += 1
        self.seconds[name] += perf_counter() - started
        return found


LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.modules.conv._ConvTransposeNd)


@contextmanager
def owned(model: nn.Module, watch: Watch) -> Iterator[None]:
    """Let ``watch`` know whose forward runs."""
    with ExitStack() as stack:
        for path, module in model.named_modules():
            own = type(module) in LAYERS or isinstance(module, LAYERS[-1])
            whose = (path, own or type(module).__name__ == "Conv1D")
            before = module.register_forward_pre_hook(
                lambda *_, whose=whose: watch.owners.append(whose)
            )
            after = module.register_forward_hook(lambda *_: watch.owners.pop() and None)
            stack.callback(before.remove)
            stack.callback(after.remove)
        yield


def work_of(model: Asked, call: Call, rounds: int = 5) -> dict[str, float]:
    """Return the seconds that each convolution and linear layer of a call takes in fp32."""
    args, kwargs = call
    watches = []
    for _ in range(rounds):
        watch = Watch()
        with owned(model, watch), watch:
            model.net(*args, **kwargs)
        watches.append(watch)
    return {name: min(one.seconds[name] for one in watches) for name in watches[0].seconds}


def share(work: Mapping[str, float], int8: Collection[str]) -> float:
    """Return how much of the work is int8; all of none."""
    total = sum(work.values())
    return sum(seconds for name, seconds in work.items() if name in int8) / total if total else 1.0


def tuned(model: Asked, calls: Calls) -> TuningResult:
    """Quantize ``model`` as a user does."""
    with tempfile.TemporaryDirectory() as folder:
        conf = {
            "model": {"name": "net", "framework": "pytorch_fx"},
            "tuning": {
                "accuracy_criterion": {"relative": 0.99},
                "exit_policy": {"performance_only": True},
                "workspace": {"path": folder},
            },
        }
        return quantize(quiet_trainer(), model, calls, calls, conf=conf)


HEADS = [
    "net",
    "fp32, ms",
    "int8, ms",
    "fp32 time / int8 time",
    "of the work, int8",
    "ops int8 / fp32 / told",
    "bounds",
]


def cells(name: str, turns: Turns, int8: float, ops: Sequence[int]) -> list[str]:
    """Return a row of the table.

    Args:
        name: of the net.
        turns: of ``fp32`` and ``int8``.
        int8: the share of the work that is int8.
        ops: how many are int8, in fp32, and told to stay there.
    """
    speedup = turns.ratio("fp32", "int8")
    faults = ["slower"] if speedup.high < SLOWEST else []
    faults += ["fp32"] if int8 < LEAST_INT8 else []
    return [
        name,
        f"{turns.ms('fp32'):.3f}",
        f"{turns.ms('int8'):.3f}",
        str(speedup),
        f"{int8:.0%}",
        " / ".join(map(str, ops)),
        f"NOT MET: {', '.join(faults)}" if faults else "met",
    ]


def row(name: str, scene: Scene, asked: argparse.Namespace) -> list[str]:
    """Quantize and time a net, and return its row."""
    model = Asked(scene.net).eval()
    result = tuned(model, scene.calls)
    int8 = result.model.net
    args, kwargs = scene.calls[0]
    work = work_of(model, scene.calls[0])
    turns = in_turns(
        {"fp32": lambda: model.net(*args, **kwargs), "int8": lambda: int8(*args, **kwargs)},
        asked.rounds,
        SECONDS,
        clock_of(asked),
    )
    ops = [len(one) for one in (result.int8_ops, result.fp32_ops, result.not_quantizable)]
    return cells(name, turns, share(work, result.int8_ops), ops)


def main() -> None:
    """Make, time, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--net", nargs="+", metavar="NET", help="only these")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--cpu-time", action="store_true", help="of this process")
    parser.add_argument("--quick", action="store_true", help="the nets that people bring, 7 rounds")
    asked = parser.parse_args()
    asked.rounds = 7 if asked.quick else asked.rounds
    torch.set_num_threads(1)
    begin(HEADS)
    with torch.no_grad():
        for name, make in scenes().items():
            if asked.quick and name.startswith("small: ") or name not in (asked.net or [name]):
                continue
            seed_everything(0, verbose=False)
            show(row(name, make(), asked))


if __name__ == "__main__":
    main()
