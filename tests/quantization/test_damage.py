"""Ops are ranked by what the model gives."""

from __future__ import annotations

import pytest
import torch
from layer_scenes import calibrated, recipe_of, shown
from torch import nn

from lpot_lightning.module.stand_in import replaced


class Two(nn.Module):
    """What ``side`` gives hardly counts."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.side, self.main, self.never = (nn.Linear(8, 4) for _ in range(3))
        self.calls = 0

    def forward(self, x):
        self.calls += 1
        if bool(x[0, 0] > 100):
            return self.never(x)
        return {"found": [self.main(x) + 1e-3 * self.side(x)]}


def test_an_op_hurts_as_much_as_what_the_model_gives_is_off():
    model, x = Two().eval(), shown(16, 8)
    prepared = calibrated(model, x, 1000 + x)
    recipe = recipe_of(prepared)
    ranked = dict(prepared.rank(recipe))
    assert ranked["side"] < 1e-4 * ranked["main"]
    assert ranked["never"] == 0  # the batch does not come to it, nor to another call of it
    alone = recipe.with_fp32(["side", "never"])
    with torch.no_grad():
        wanted = model(x)["found"][0]
        with replaced(model, prepared.convert(alone)):
            found = model(x)["found"][0]
    measured = float((found - wanted).square().sum() / wanted.square().sum())
    assert ranked["main"] == pytest.approx(measured, rel=1e-3)


def test_it_costs_a_forward_for_each_op_and_one():
    model = nn.Sequential(*[nn.Linear(8, 8) for _ in range(5)]).eval()
    prepared = calibrated(model, shown(16, 8))
    prepared.rank(recipe_of(prepared))
    assert prepared.forwards == 6


def test_the_model_is_left_as_it_was():
    model, x = Two().eval(), shown(16, 8)
    prepared = calibrated(model, x)
    before = {name: dict(vars(one)) for name, one in model.named_modules()}
    prepared.rank(recipe_of(prepared))
    assert {name: dict(vars(one)) for name, one in model.named_modules()} == before
    assert model.calls == 2


def test_an_op_is_measured_where_it_stands_if_the_model_gives_no_floats():
    class Classes(Two):
        def forward(self, x):
            return super().forward(x)["found"][0].argmax(1)

    model, x = Classes().eval(), shown(16, 8)
    prepared = calibrated(model, x)
    ranked = dict(prepared.rank(recipe_of(prepared)))
    assert 0 < ranked["main"] < 1e-3
    assert 0 < ranked["side"] < 1e-3


def test_a_layer_outside_of_all_others_is_its_own():
    class Apart(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.net = nn.Linear(8, 8), nn.Sequential(nn.Linear(8, 8))

        def step(self, x):
            return self.net(self.first(x))

    model, x = Apart().eval(), shown(16, 8)
    prepared = calibrated(model, x, by=model.step)
    ranked = dict(prepared.rank(recipe_of(prepared)))
    assert set(ranked) == {"first", "net.0"}
    assert all(0 < one < 1e-3 for one in ranked.values())
