"""How many trials a strategy needs, and how much it gives up, on made-up damages."""

from __future__ import annotations

import math
import random
import zlib
from collections.abc import Sequence

from lpot_lightning.recipe import FP32, Op, OpConfig, Recipe, TensorConfig
from lpot_lightning.tuning.score import Criterion, Score
from lpot_lightning.tuning.sensitivity import Sensitivity
from lpot_lightning.tuning.space import Space
from lpot_lightning.tuning.strategies.strategy import Search

GOAL, BASELINE, DIMENSIONS = 0.01, 1.0, 32
SPREAD = 0.9
METRIC_NOISE = 0.0005
INT8 = OpConfig(TensorConfig("int8"), TensorConfig("int8"))


class MadeUp:
    """A model of which each int8 op adds an error vector to the output.

    The drop in accuracy is the squared length of their sum, up to a factor and to noise that is the
    same whenever a recipe is tried.
    """

    def __init__(self, ops: int, drop: float, noise: float, seed: int) -> None:
        draw = random.Random(f"{ops} {seed}")
        self.names = [f"op{number:03d}" for number in range(ops)]
        self.errors = {name: _vector(draw) for name in self.names}
        self.costs = {name: draw.lognormvariate(0, 1) for name in self.names}
        self.salt = draw.randrange(2**32)
        self.factor = 1.0
        self.factor = drop / self.squared(self.names)
        self.damages = {name: self.surrogate(name, noise, draw) for name in self.names}
        self.tried = 0

    def surrogate(self, name: str, noise: float, draw: random.Random) -> float:
        off = draw.gauss(0, 1)
        true = sum(part * part for part in self.errors[name])
        return math.exp(2 * SPREAD * off) if math.isinf(noise) else true * math.exp(noise * off)

    def squared(self, names: Sequence[str]) -> float:
        columns = zip(*[self.errors[name] for name in names], strict=True)
        return self.factor * sum(sum(column) ** 2 for column in columns)

    def run_trial(self, recipe: Recipe) -> Score:
        self.tried += 1
        text = ",".join(recipe.fp32_ops).encode()
        noise = random.Random(zlib.crc32(text, self.salt)).gauss(0, METRIC_NOISE)
        return Score.of(BASELINE - self.squared(recipe.int8_ops) - noise * bool(text), 0.0)

    @property
    def space(self) -> Space:
        return Space(tuple(Op(name, "Linear", (INT8, FP32), 1) for name in self.names))

    @property
    def search(self) -> Search:
        return Search(
            lambda recipe: [
                Sensitivity(name, self.damages[name], self.costs[name]) for name in recipe.int8_ops
            ],
            Criterion(GOAL, relative=False, higher_is_better=True),
            BASELINE,
        )

    def cost(self, recipe: Recipe) -> float:
        return sum(self.costs[name] for name in recipe.fp32_ops)


def _vector(draw: random.Random) -> tuple[float, ...]:
    length = draw.lognormvariate(0, SPREAD)
    parts = [draw.gauss(0, 1) for _ in range(DIMENSIONS)]
    norm = math.sqrt(sum(part * part for part in parts))
    return tuple(length * part / norm for part in parts)
