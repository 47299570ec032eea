"""How many trials a strategy needs, and how much it gives up, on made-up damages.

Each int8 op of a made-up model adds an error vector to the output, with a log-normal length; the
drop in accuracy is the squared length of their sum, and a noise that a recipe always has. What fp32
for an op costs is log-normal, too. The damages that a strategy is told are the squared lengths, off
by a log-normal factor, or have nothing to do with them. Nothing is quantized: it takes a minute
or two on one core.

    .venv/bin/python benchmarks/search.py
"""

from __future__ import annotations

import argparse
import math
import random
import zlib
from collections.abc import Iterable, Iterator
from functools import lru_cache
from statistics import median

from lpot_lightning.recipe import FP32, Op, OpConfig, Recipe, TensorConfig
from lpot_lightning.tuning.history import History
from lpot_lightning.tuning.loop import tune
from lpot_lightning.tuning.score import Criterion, Score
from lpot_lightning.tuning.sensitivity import Sensitivity
from lpot_lightning.tuning.space import Space
from lpot_lightning.tuning.strategies.strategy import SearchContext
from lpot_lightning.tuning.strategies.table import find_strategy
from lpot_lightning.tuning.trial import Budget

GOAL, BASELINE, METRIC_NOISE = 0.01, 1.0, 0.0005
DIMENSIONS, LENGTHS, COSTS = 128, 0.9, 1.0
DROPS = (0.02, 0.05, 0.2)
NOISES = (0.0, 0.5, 1.0, 2.0, math.inf)
MODELS = {50: 100, 150: 100, 500: 10}
FEW = {50: 10, 150: 3, 500: 1}  # LPOT's strategies take hundreds of trials
INT8 = OpConfig(TensorConfig(dtype="int8"), TensorConfig(dtype="int8"))


class MadeUp:
    """A model with ``ops`` ops, that loses ``drop`` all in int8.

    Args:
        ops: how many.
        drop: of accuracy.
        noise: standard deviation of the logarithm of the factor by which the ranking is off;
            ``inf`` for a ranking that knows nothing.
        seed: which of the models.
    """

    def __init__(self, ops: int, drop: float, noise: float, seed: int) -> None:
        self.errors = errors_of(ops, seed)
        draw = random.Random(seed)
        self.costs = {name: draw.lognormvariate(0, COSTS) for name in self.errors}
        self.damages = {name: self._measured(name, noise, draw) for name in self.errors}
        self.factor = drop / squared(self.errors.values())
        self.seed = seed

    def run_trial(self, recipe: Recipe) -> Score:
        """Return the accuracy of a recipe."""
        fp32 = recipe.fp32_ops
        noise = random.Random(zlib.crc32(",".join(fp32).encode(), self.seed)).gauss(0, METRIC_NOISE)
        drop = self.factor * squared(self.errors[name] for name in recipe.int8_ops)
        return Score.of(BASELINE - drop - (noise if fp32 else 0.0), seconds=0.0)

    def rank(self, recipe: Recipe) -> list[Sensitivity]:
        """Return what a strategy may know before it tries."""
        return [Sensitivity(op, self.damages[op], self.costs[op]) for op in recipe.int8_ops]

    def cost(self, recipe: Recipe) -> float:
        """Return the share of the ops' cost that a recipe gives up."""
        return sum(self.costs[op] for op in recipe.fp32_ops) / sum(self.costs.values())

    def tuned(self, strategy: str) -> tuple[int, float]:
        """Return how many trials a strategy takes, and what it gives up."""
        outcome = tune(
            find_strategy(strategy),
            Space(
                tuple(
                    Op(name=name, kind="Linear", configs=(INT8, FP32), weight_bytes=1)
                    for name in self.errors
                )
            ),
            self.run_trial,
            search=SearchContext(
                rank=self.rank, criterion=Criterion(GOAL, False, True), baseline=BASELINE
            ),
            budget=Budget(max_trials=10**6),
            history=History(),
            cost=self.cost,
        )
        best = outcome.best
        given_up = self.cost(best.recipe) if best is not None and best.accepted else 1.0
        return len(outcome.trials), given_up

    def _measured(self, name: str, noise: float, draw: random.Random) -> float:
        off = draw.gauss(0, 1)
        if math.isinf(noise):
            return math.exp(2 * LENGTHS * off)
        return math.hypot(*self.errors[name]) ** 2 * math.exp(noise * off)


@lru_cache(maxsize=400)
def errors_of(ops: int, seed: int) -> dict[str, tuple[float, ...]]:
    """Return the error vector of each op."""
    draw = random.Random(f"{ops} {seed}")
    return {f"op{number:03d}": _vector(draw) for number in range(ops)}


def squared(vectors: Iterable[tuple[float, ...]]) -> float:
    """Return the squared length of a sum of vectors."""
    return math.fsum(sum(column) ** 2 for column in zip(*vectors, strict=True))


def _vector(draw: random.Random) -> tuple[float, ...]:
    parts = [draw.gauss(0, 1) for _ in range(DIMENSIONS)]
    length = draw.lognormvariate(0, LENGTHS) / math.hypot(*parts)
    return tuple(length * part for part in parts)


def row(strategy: str, ops: int, drop: float, noise: float, models: int) -> str:
    """Return a line of the table."""
    found = [MadeUp(ops, drop, noise, seed).tuned(strategy) for seed in range(models)]
    trials, costs = (sorted(values) for values in zip(*found, strict=True))
    late = math.ceil(0.9 * models) - 1
    off = "knows nothing" if math.isinf(noise) else f"{noise:g}"
    return (
        f"| {ops} | {drop:.0%} | {strategy} | {off} | {models}"
        f" | {median(trials):g} | {trials[late]} | {median(costs):.1%} | {costs[late]:.1%} |"
    )


def rows(others: list[str], sizes: list[int]) -> Iterator[str]:
    """Yield the table as Markdown."""
    yield (
        "| ops | drop of all int8 | strategy | error of the ranking | models | trials, median"
        " | 90 % | cost given up, median | 90 % |"
    )
    yield "|" + "---|" * 9
    for ops in sizes:
        for drop in DROPS:
            for noise in NOISES:
                yield row("auto", ops, drop, noise, MODELS[ops])
            for strategy in ("auto", *others) if others else ():
                yield row(strategy, ops, drop, 1.0, FEW[ops])


def main() -> None:
    """Search on all models and print the table, line by line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--others", nargs="*", default=["mse", "basic"])
    parser.add_argument(
        "--ops", nargs="+", type=int, default=[50, 150, 500], choices=(50, 150, 500)
    )
    parser.add_argument("--quick", action="store_true", help="50 ops, `auto` alone")
    asked = parser.parse_args()
    if asked.quick:
        asked.others, asked.ops = [], [50]
    print(
        f"goal: a drop of {GOAL:.0%} at most; standard deviation of the metric {METRIC_NOISE:.2%}"
    )
    print("error of the ranking: standard deviation of the logarithm; trials: all, without fp32\n")
    for line in rows(asked.others, asked.ops):
        print(line, flush=True)


if __name__ == "__main__":
    main()
