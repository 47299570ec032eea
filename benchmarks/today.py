"""How fast int8 is on nets of today, against fp32 and against the engine before this one.

Each net has random weights, norms that have seen data, and int8 as `quantize` makes it with a
loader of the batch that is timed. fp32 is torch's own, called as it is. The two run in turns, in
one order and the other; a speed-up is the median over the rounds, with the quarters around it. The
error is that of int8's answers to new data, relative to fp32's.

    make bench
"""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from time import perf_counter, process_time

import torch
from classifier import quiet_trainer, say_nothing
from lightning.pytorch import LightningModule
from old_engine import old_speedup
from processor import cpu, model_name
from table import markdown
from todays_nets import NETS, Net
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset
from turns import Spread, Turns, in_turns

from lpot_lightning import TuningResult, quantize

ROUNDS, SECONDS, QUICK_ROUNDS, CALIBRATION = 31, 20.0, 7, 32
QUICK = ("MobileNetV3-small-like", "planted net")
LONG_MS, SHORT_BOUND = 2.0, 1.5


class Judged(LightningModule):
    """A net that every validation loop is content with."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def validation_step(self, batch: list[Tensor]) -> None:
        """Log the size of the answer."""
        self.log("size", torch.cat(flat(self.net(*batch))).abs().mean())


def flat(answer: Tensor | Sequence[Tensor]) -> list[Tensor]:
    """Return the tensors of an answer as vectors."""
    return [one.flatten() for one in ([answer] if isinstance(answer, Tensor) else answer)]


def error(found: Tensor | Sequence[Tensor], wanted: Tensor | Sequence[Tensor]) -> float:
    """Return how far ``found`` is from ``wanted``, relative to its length."""
    one, other = torch.cat(flat(found)), torch.cat(flat(wanted))
    return float((one - other).norm() / other.norm())


def int8_of(kind: Net, net: nn.Module, batch: int) -> TuningResult:
    """Quantize ``net`` as a user does whose loaders have this batch."""
    size = max(CALIBRATION, batch)
    train, val = (
        DataLoader(TensorDataset(kind.data(count, seed)), batch_size=batch)
        for count, seed in ((size, 1), (batch, 2))
    )
    with tempfile.TemporaryDirectory() as folder:
        conf = {
            "model": {"name": "net", "framework": "pytorch_fx"},
            "quantization": {"calibration": {"sampling_size": size}},
            "tuning": {
                "accuracy_criterion": {"relative": 0.99},
                "exit_policy": {"performance_only": True},
                "workspace": {"path": folder},
            },
        }
        return quantize(quiet_trainer(), Judged(net), train, val, conf=conf)


@dataclass(frozen=True, kw_only=True)
class Case:
    """A net, its int8 form, and what they are timed on."""

    name: str
    batch: int
    kind: Net
    fp32: nn.Module
    result: TuningResult
    sample: Tensor

    @property
    def int8(self) -> nn.Module:
        """The net in int8."""
        net = self.result.model.net
        assert isinstance(net, nn.Module)
        return net

    @property
    def ops(self) -> str:
        """How many ops are int8, and how many stay in fp32."""
        return f"{len(self.result.int8_ops)} / {len(self.result.fp32_ops)}"

    def calls(self) -> dict[str, Callable[[], object]]:
        """Return what is timed."""
        return {"fp32": partial(self.fp32, self.sample), "int8": partial(self.int8, self.sample)}

    def error(self) -> float:
        """Return how far int8's answers are from fp32's."""
        return error(self.int8(self.sample), self.fp32(self.sample))


def cases(names: Sequence[str], batches: Sequence[int] | None, threads: int = 1) -> Iterator[Case]:
    """Make each net, and quantize it for each of its batches, or of ``batches``, so threaded."""
    for name in names:
        kind = NETS[name]
        torch.set_num_threads(threads)
        net = kind.made()
        for batch in batches or kind.batches:
            torch.set_num_threads(threads)
            yield Case(
                name=name,
                batch=batch,
                kind=kind,
                fp32=net,
                result=int8_of(kind, net, batch),
                sample=kind.data(batch, 3),
            )


def against_goal(speedup: Spread, goal: float | None, threads: int) -> str:
    """Return the goal, which is one of one thread, and whether it is met."""
    if goal is None or threads != 1:
        return ""
    return f"{'met' if speedup.median >= goal else 'NOT MET'}, {goal}"


def against_old(speedup: Spread, fp32_ms: float, old: float | None) -> str:
    """Return the old engine's speed-up, how its time compares, and whether ours may be that.

    A forward that took it 2 ms or more must not take longer; a shorter one, 1.5 times as long.
    """
    if old is None:
        return ""
    bound = 1.0 if fp32_ms / old >= LONG_MS else 1 / SHORT_BOUND
    slower = speedup.high < old * bound  # all but a quarter of the rounds say so
    return f"{'NOT MET' if slower else 'met'}, {old:.2f}: {old / speedup.median:.2f}x its time"


HEADS = [
    "net",
    "batch",
    "threads",
    "fp32, ms",
    "int8, ms",
    "fp32 time / int8 time",
    "goal",
    "engine of torch.ao",
    "relative error",
    "ops int8 / fp32",
]


def cells(
    case: tuple[str, int, int], turns: Turns, goal: float | None, old: float | None
) -> list[str]:
    """Return what a row says of the times.

    Args:
        case: net, batch, threads.
        turns: of ``fp32`` and ``int8``.
        goal: the least speed-up, on one thread.
        old: the speed-up that the old engine had.
    """
    name, batch, threads = case
    speedup, fp32_ms = turns.ratio("fp32", "int8"), turns.ms("fp32")
    return [
        name,
        str(batch),
        str(threads),
        f"{fp32_ms:.2f}",
        f"{turns.ms('int8'):.2f}",
        str(speedup),
        against_goal(speedup, goal, threads),
        against_old(speedup, fp32_ms, old),
    ]


def row(case: Case, threads: int, asked: argparse.Namespace) -> list[str]:
    """Time a case with so many threads, and return its row."""
    torch.set_num_threads(threads)
    turns = in_turns(case.calls(), asked.rounds, SECONDS, clock_of(asked))
    told = cells(
        (case.name, case.batch, threads),
        turns,
        case.kind.goals.get(case.batch),
        old_speedup(case.name, case.batch, threads, cpu()),
    )
    return [*told, f"{case.error():.4f}", case.ops]


def clock_of(asked: argparse.Namespace) -> Callable[[], float]:
    """Return what tells the seconds."""
    return process_time if asked.cpu_time else perf_counter


def heading() -> str:
    """Say where this is measured."""
    load = f", load {os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else ""
    return f"torch {torch.__version__}, {model_name()}, {cpu()}{load}; goals are of avx512_vnni\n"


def arguments(about: str) -> argparse.ArgumentParser:
    """Return a parser of what can be asked for."""
    parser = argparse.ArgumentParser(description=about.splitlines()[0])
    parser.add_argument("--net", nargs="+", choices=NETS, metavar="NET", help=", ".join(NETS))
    parser.add_argument("--threads", type=numbers, default=[1, 2], help="1,2 unless named")
    parser.add_argument("--batch", type=numbers, help="such as 1,8; else those of each net")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="at most, within 20 s")
    parser.add_argument("--cpu-time", action="store_true", help="of this process: one thread only")
    parser.add_argument("--quick", action="store_true", help=f"{' and '.join(QUICK)}, few rounds")
    return parser


def numbers(text: str) -> list[int]:
    """Read numbers with commas between them."""
    return [int(one) for one in text.split(",")]


def settled(asked: argparse.Namespace) -> argparse.Namespace:
    """Fill in what is measured where nothing was named."""
    if asked.quick:
        asked.rounds = min(asked.rounds, QUICK_ROUNDS)
    if asked.cpu_time:
        asked.threads = [1]
    asked.net = asked.net or list(QUICK if asked.quick else NETS)
    return asked


def begin(heads: Sequence[str], others: str = "") -> None:
    """Print what stands above the rows, which are printed as they come."""
    say_nothing()
    print(others + heading())
    print(markdown(heads, []), flush=True)


def show(cells: Sequence[str]) -> None:
    """Print a row."""
    print(f"| {' | '.join(cells)} |", flush=True)


def main() -> None:
    """Make, time, print."""
    asked = settled(arguments(__doc__).parse_args())
    begin(HEADS)
    with torch.no_grad():
        for case in cases(asked.net, asked.batch, asked.threads[0]):
            for threads in asked.threads:
                show(row(case, threads, asked))


if __name__ == "__main__":
    main()
