"""A loader and a metric judge models, and leave them as they were."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from lpot_lightning import Metric
from lpot_lightning.conf.blocks import FrozenOptions, NamedConf
from lpot_lightning.conf.reader import read_conf
from lpot_lightning.data.meter import meter_of
from lpot_lightning.errors import ConfError, DataError, EvaluationError
from lpot_lightning.judging.loader_judge import LoaderJudge
from lpot_lightning.judging.measuring import direction_of, evaluation_of, metric_of
from lpot_lightning.lpot.given import Given
from lpot_lightning.lpot.plain_judge import judge_of

ROWS = torch.arange(20.0).reshape(10, 2)


class Spy(nn.Module):
    """Remembers how it was called."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.drop = nn.Linear(2, 2), nn.Dropout()
        self.how: list[tuple[bool, bool]] = []
        self.seen: list[list[float]] = []

    def forward(self, x: Tensor) -> Tensor:
        self.how.append((torch.is_grad_enabled(), self.training))
        self.seen.append(x[:, 0].tolist())
        return self.layer(x)


class Count(Metric):
    """Counts samples."""

    def __init__(self) -> None:
        self.found = 0

    def update(self, preds: Any, labels: Any) -> None:
        self.found += len(labels)

    def result(self) -> float:
        return self.found


def loader(**given: Any) -> DataLoader[Any]:
    return DataLoader(TensorDataset(ROWS, torch.zeros(10)), batch_size=4, **given)


def judge(loader: Any, **given: Any) -> LoaderJudge:
    meter = given.pop("meter", meter_of("count", Count))
    return LoaderJudge(loader, meter, origin="the loader", seed=3, **given)


def test_a_pass_is_in_eval_mode_without_gradients_and_leaves_all_as_it_was() -> None:
    model = Spy()
    model.drop.eval()
    before, random = [one.training for one in model.modules()], torch.get_rng_state()
    assert judge(loader(shuffle=True))(model) == 10
    assert model.how == [(False, False)] * 3
    assert [one.training for one in model.modules()] == before
    assert torch.equal(torch.get_rng_state(), random)


def test_a_pass_that_fails_leaves_all_as_it_was() -> None:
    model, random = Spy().train(), torch.get_rng_state()
    batches = [(ROWS, torch.zeros(10)), (ROWS[:, :1], torch.zeros(10))]
    with pytest.raises(EvaluationError, match="batch 2 of the loader .RuntimeError: mat1") as told:
        judge(batches)(model)
    assert model.training
    assert torch.equal(torch.get_rng_state(), random)
    assert "the metric `count` cannot be taken" in str(told.value)


def test_a_loader_that_shuffles_gives_each_model_the_same_order() -> None:
    generator = torch.Generator().manual_seed(1)
    before = generator.get_state()
    for given in ({}, {"generator": generator}):
        model = Spy()
        one = judge(loader(shuffle=True, **given))
        one(model)
        one(model)
        assert model.seen[:3] == model.seen[3:]
        assert sum(model.seen[:3], []) != sorted(sum(model.seen[:3], []))
    assert torch.equal(generator.get_state(), before)


def test_a_later_model_fails_with_its_own_error() -> None:
    class Broken(Spy):
        def forward(self, x: Tensor) -> Tensor:
            raise KeyError("int8")

    one = judge(loader())
    one(Spy())
    with pytest.raises(KeyError, match="int8"):
        one(Broken())


@pytest.mark.parametrize(("iteration", "seen"), [(-1, 10), (1, 4), (2, 8), (9, 10)])
def test_a_pass_may_be_shorter(iteration: int, seen: int) -> None:
    assert judge(loader(), iteration=iteration)(Spy()) == seen


def test_what_it_has_seen_is_known_in_short() -> None:
    one, same, other = judge(loader()), judge(loader()), judge(loader(), iteration=2)
    named = judge(loader(), meter=_topk())
    assert one.digest == ""
    for each in (one, same, other, named):
        each(Spy())
    assert one.digest == same.digest
    assert len({one.digest, other.digest, named.digest}) == 3


def _topk() -> Any:
    return metric_of(NamedConf("topk", FrozenOptions((("k", 1),))))


def test_labels_are_not_asked_for_where_none_are_compared() -> None:
    model = Spy()
    meter = metric_of(NamedConf("MAE", FrozenOptions((("compare_label", False),))))
    one = judge([ROWS, ROWS], meter=meter, reference=lambda: model)
    assert one(model) == 0
    other = Spy()
    expected = (other.layer(ROWS) - model.layer(ROWS)).abs().mean().detach()
    assert one(other) == pytest.approx(float(expected))
    with pytest.raises(ConfError, match="`MAE` compares with what the fp32 model gives, and there"):
        judge([ROWS], meter=meter)


def test_a_metric_of_the_users_may_compare_no_labels() -> None:
    class Distance(Metric):
        compare_label = False

        def update(self, preds: Tensor, labels: Tensor) -> None:
            self.found = float((preds - labels).abs().max())

        def result(self) -> float:
            return self.found

    meter = meter_of("distance", Distance)
    assert judge([ROWS], meter=meter, reference=Spy)(Spy()) > 0


def test_an_iterator_is_refused() -> None:
    def batches() -> Iterator[Any]:
        yield ROWS, ROWS

    with pytest.raises(ConfError, match="the loader is a `generator`, which can be gone through"):
        judge(batches())


def test_a_judge_is_made_of_a_conf_without_a_quantization() -> None:
    conf = read_conf(
        {
            "model": {"name": "net", "framework": "pytorch_fx"},
            "evaluation": {"accuracy": {"metric": {"Accuracy": {}}, "iteration": 1}},
        }
    )
    found = judge_of(Given(model=Spy(), eval_dataloader=loader()), conf)
    assert (found.monitor, found.higher_is_better) == ("Accuracy", True)
    assert 0 <= found.of(Spy()) <= 1
    own = judge_of(Given(model=Spy(), eval_func=lambda model: 0.5), conf)
    assert (own.monitor, own.of(Spy()), dict(own.depends_on())) == ("accuracy", 0.5, {})
    with pytest.raises(DataError, match="`b_dataloader` is empty"):
        evaluation_of([], _topk(), origin="`b_dataloader`", seed=1)(Spy())


@pytest.mark.parametrize(
    ("asked", "of_metric", "usually", "expected"),
    [
        (None, None, True, True),
        (None, False, True, False),
        (False, None, True, False),
        (True, True, None, True),
        (False, False, True, False),
    ],
)
def test_directions(asked, of_metric, usually, expected: bool) -> None:
    assert direction_of("mine", asked, of_metric, usually) is expected


@pytest.mark.parametrize(
    ("asked", "of_metric", "match"),
    [
        (True, False, "`mine` is better is contradicted: .* says True, the metric itself says Fal"),
        (None, None, "nothing says which way `mine` is better: set `tuning.accuracy_criterion.hi"),
    ],
)
def test_bad_directions(asked, of_metric, match: str) -> None:
    with pytest.raises(ConfError, match=match):
        direction_of("mine", asked, of_metric, None)
