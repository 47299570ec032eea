"""What is counted for which op: with a clock that goes on by one each time it is looked at."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from itertools import count

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lpot_lightning.module.calls import recorded
from lpot_lightning.module.stand_in import computing, replaced
from lpot_lightning.quantization.onednn import OnednnBackend
from lpot_lightning.quantization.op_clock import StepTimes
from lpot_lightning.recipe import Recipe


class Residual(nn.Module):
    """A stem, a residual block and, after floats, a head."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.norm = nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8)
        self.one, self.two = nn.Conv2d(8, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1)
        self.head = nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(F.relu(self.norm(self.stem(x))), 2)
        x = F.relu(x + self.two(F.relu(self.one(x))))
        return self.head(F.layer_norm(x.mean((2, 3)), (8,)))


class Apart(nn.Module):
    """Two layers that no graph holds together."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Linear(8, 8), nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        y = self.one(x)
        return self.two(y * float(y.sum().item() > 1e9) + y)


class Counts(nn.Module):
    """Writes to a tensor that it holds in each call."""

    def __init__(self) -> None:
        super().__init__()
        self.one = nn.Linear(8, 8)
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        return self.one(x)


def ticking() -> Callable[[], float]:
    ticks = count()
    return lambda: float(next(ticks))


def timed(model: nn.Module, x: Tensor) -> tuple[StepTimes, Recipe, nn.Module]:
    """Return what times a model that was calibrated on ``x``, all of it in int8."""
    model = copy.deepcopy(model).eval()
    with torch.no_grad(), recorded(model) as calls:
        model(x)
    prepared = OnednnBackend().prepare(model, calls)
    with torch.no_grad(), replaced(model, prepared.observed):
        model(x)
    prepared.settle()
    recipe = Recipe.of({op.name: op.configs[0] for op in prepared.ops})

    def step(runs: int) -> list[float]:
        with torch.no_grad():
            for _ in range(runs):
                model(x)
        return [1.0] * runs

    with replaced(model, prepared.convert(recipe)), computing(model, prepared.graphs(model)):
        return prepared.op_clock(model, recipe, step, ticking()), recipe, model


@pytest.fixture(scope="module")
def residual() -> Iterator[tuple[StepTimes, Recipe]]:
    torch.manual_seed(0)
    found, recipe, _ = timed(Residual(), torch.randn(2, 3, 8, 8))
    return found, recipe  # type: ignore[return-value]


def test_ops_between_which_values_stay_integers_are_a_chain(residual) -> None:
    assert residual[0].chains == (("head",), ("one", "stem", "two"))


def test_in_int8_the_way_to_integers_and_back_counts(residual) -> None:
    ops, recipe = residual
    # quantize, kernel, pool; kernel; dequantize of what is added too, where floats are added
    found = ops.seconds(recipe)
    assert found["head"] == 2.0
    assert found["stem"] >= 3.0
    assert found["one"] == 1.0


def test_in_fp32_what_a_kernel_does_besides_counts(residual) -> None:
    ops, recipe = residual
    fp32 = ops.seconds(recipe.with_fp32(recipe.int8_ops))
    # convolution, norm, activation, pool; convolution, activation; convolution, sum, activation
    assert (fp32["stem"], fp32["one"]) == (4.0 + 2.0, 2.0)
    assert fp32["two"] == 1.0
    assert fp32["head"] == 1.0


def test_one_op_in_fp32_costs_its_chain_the_way_to_floats(residual) -> None:
    ops, recipe = residual
    int8, cut = ops.seconds(recipe), ops.seconds(recipe.with_fp32(["one"]))
    assert cut["one"] == 2.0
    assert sum(cut.values()) > sum(int8.values()) + 1


@pytest.mark.parametrize(
    "model", [nn.Conv2d(3, 8, 3), nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU())]
)
def test_the_last_layer_of_a_graph_is_timed_in_fp32_too(model) -> None:
    ops, recipe, _ = timed(nn.Sequential(model), torch.randn(2, 3, 8, 8))
    (op,) = recipe.int8_ops
    layers = len(model) if isinstance(model, nn.Sequential) else 1
    assert ops.seconds(recipe)[op] == 3.0  # quantize, kernel, the layout that the model gave
    assert ops.seconds(recipe.with_fp32([op])) == {op: layers + 1.0}  # and the layout


def test_layers_without_a_graph_are_timed_by_themselves() -> None:
    ops, recipe, _ = timed(Apart(), torch.randn(2, 8))
    assert {op for chain in ops.chains for op in chain} == {"one", "two"}
    assert all(one > 0 for one in ops.seconds(recipe).values())


def test_embeddings_are_not_timed() -> None:
    model = nn.Sequential(nn.Embedding(10, 8), nn.Linear(8, 4))
    ops, recipe, _ = timed(model, torch.tensor([[1, 2]]))
    assert (ops.chains, set(ops.seconds(recipe))) == ((("1",),), {"1"})


def test_a_model_is_not_changed_by_being_timed() -> None:
    ops, recipe, model = timed(Counts(), torch.randn(2, 8))
    before = model.calls.clone()
    for _ in range(3):
        ops.seconds(recipe)
    assert torch.equal(model.calls, before)
