"""Made-up models for the search: ops, and what each costs in accuracy."""

from collections.abc import Mapping
from dataclasses import replace

from lpot_lightning.recipe import FP32, Op, OpConfig, Recipe, TensorConfig
from lpot_lightning.tuning.history import History
from lpot_lightning.tuning.loop import tune
from lpot_lightning.tuning.score import Criterion, Score, TrialState
from lpot_lightning.tuning.sensitivity import Sensitivity
from lpot_lightning.tuning.space import Space
from lpot_lightning.tuning.strategies.strategy import SearchContext
from lpot_lightning.tuning.trial import Budget


def int8(scheme="asym", algorithm="kl", weight="per_channel"):
    """Return a choice for an op with a weight; ``weight=None`` for one without."""
    activation = TensorConfig(
        dtype="uint8", scheme=scheme, granularity="per_tensor", algorithm=algorithm
    )
    return OpConfig(
        activation,
        weight and TensorConfig(dtype="int8", scheme="sym", granularity=weight, algorithm="minmax"),
    )


INT8 = int8()
FOUR = (
    int8("asym", "kl"),
    int8("asym", "minmax"),
    int8("sym", "kl"),
    int8("sym", "minmax"),
)


def linear(name, configs=(INT8, FP32)):
    return Op(name=name, kind="Linear", configs=tuple(configs))


def space_of(names) -> Space:
    return Space(tuple(linear(name) for name in names))


class Damaged:
    """A model of which every int8 op takes its damage from the accuracy."""

    def __init__(self, damages: Mapping[str, float], baseline=0.9, higher_is_better=True):
        self.damages = damages
        self.baseline = baseline
        self.sign = 1 if higher_is_better else -1
        self.tried: list[Recipe] = []

    def __call__(self, recipe: Recipe) -> Score:
        self.tried.append(recipe)
        damage = sum(self.damages[name] for name in recipe.int8_ops)
        return Score.of(self.baseline - self.sign * damage, seconds=1.0)

    @property
    def fp32_counts(self) -> list[int]:
        return [len(recipe.fp32_ops) for recipe in self.tried]


def search_for(
    damages=None, *, goal=0.01, relative=False, higher_is_better=True, baseline=0.9
) -> SearchContext:
    """Return a search whose ranking is ``damages`` themselves."""
    return SearchContext(
        rank=lambda recipe: [
            Sensitivity(name, (damages or {}).get(name, 0.0)) for name in recipe.int8_ops
        ],
        criterion=Criterion(goal, relative=relative, higher_is_better=higher_is_better),
        baseline=baseline,
    )


def fewest_fp32(recipe: Recipe) -> float:
    return len(recipe.fp32_ops)


def tuned(strategy, space, run_trial, search, **given):
    """Call ``tune`` with what a scene does not care about filled in."""
    given = {"budget": Budget(), "history": History(), "cost": fewest_fp32, **given}
    return tune(strategy, space, run_trial, search=search, **given)


def proposals(search_function, space, search, verdict_of):
    """Return all recipes that a strategy proposes when ``verdict_of`` judges them."""
    generator = search_function(space, search)
    found = []
    recipe = next(generator, None)
    while recipe is not None:
        found.append(recipe)
        try:
            recipe = generator.send(verdict_of(recipe))
        except StopIteration:
            recipe = None
    return found


def verdict(accuracy: float | None, accepted: bool = False) -> Score:
    score = Score.failing("it broke", 1.0) if accuracy is None else Score.of(accuracy, 1.0)
    return met(score) if accepted else score


def met(score: Score) -> Score:
    return replace(score, state=TrialState.MET)
