"""What a metric has seen so far, and what it would come to with the rest of another pass."""

import io

import pytest
import torch
from lightning.pytorch.trainer.connectors.logger_connector.result import _ResultCollection
from lit_scenes import KINDS, Lit
from torch import nn
from torchmetrics import MaxMetric, MeanSquaredError, MetricCollection, MinMetric
from torchmetrics.classification import (
    BinaryAUROC,
    MulticlassAccuracy,
    MulticlassConfusionMatrix,
    MulticlassF1Score,
)

from lpot_lightning.errors import ArtifactError
from lpot_lightning.trainer.partial_metric import (
    NOT_KEPT,
    Held,
    Number,
    curve_from,
    curve_state,
    partial_of,
    updates,
)
from lpot_lightning.tuning.screening import Recorder, Unseen

draw = torch.Generator()


@pytest.fixture(autouse=True)
def _the_same_numbers():
    draw.manual_seed(0)


def binary():
    return torch.rand(16, generator=draw), torch.randint(2, (16,), generator=draw)


def classes():
    return torch.randn(16, 3, generator=draw), torch.randint(3, (16,), generator=draw)


def images():
    return torch.rand(16, generator=draw), torch.rand(16, generator=draw)


METRICS = {
    "accuracy": (lambda: MulticlassAccuracy(3), classes),
    "F1": (lambda: MulticlassF1Score(3), classes),
    "AUROC in bins": (lambda: BinaryAUROC(thresholds=5), binary),
    "MSE": (MeanSquaredError, images),
    "a composition": (lambda: MulticlassAccuracy(3) + MulticlassF1Score(3), classes),
}


def held_after(make, batches):
    """Return what is held after each batch."""
    metric = make()
    for count, batch in enumerate(batches, start=1):
        metric.update(*batch)
        yield Held.of("score", metric, 16.0 * count)


def value_of(make, batches):
    metric = make()
    for batch in batches:
        metric.update(*batch)
    return pytest.approx(float(metric.compute()), abs=1e-6)


@pytest.mark.parametrize("name", METRICS)
def test_a_part_and_the_rest_of_another_pass_are_one(name):
    make, batch = METRICS[name]
    one, other = [batch() for _ in range(5)], [batch() for _ in range(5)]
    mine, theirs = list(held_after(make, one)), list(held_after(make, other))
    for at in range(5):
        assert mine[at].value() == value_of(make, one[: at + 1])  # whatever came after
        mixed = [*one[: at + 1], *other[at + 1 :]]
        assert mine[at].continued(theirs[at], theirs[-1]) == value_of(make, mixed)
        assert mine[at].value() == value_of(make, one[: at + 1])


@pytest.mark.parametrize(("kind", "best"), [(MaxMetric, 7.0), (MinMetric, 2.0)])
def test_a_greatest_and_a_least_may_be_reached_yet(kind, best):
    mine, theirs = (held_after(kind, [(a,), (b,)]) for a, b in [(3.0, 3.0), (2.0, 7.0)])
    assert next(mine).continued(next(theirs), next(theirs)) == best


def test_looking_leaves_a_metric_as_it_was():
    metric = BinaryAUROC(thresholds=5)
    metric.update(*binary())
    before = {**vars(metric)}
    held = Held.of("score", metric, 16.0)
    held.value()
    held.continued(held, held)
    assert {key: id(value) for key, value in vars(metric).items()} == {
        key: id(value) for key, value in before.items()
    }


def test_it_computes_without_other_processes():
    metric = MulticlassAccuracy(3)
    metric.distributed_available_fn = lambda: True
    metric.dist_sync_fn = None
    metric.update(*classes())
    Held.of("score", metric, 16.0).value()
    assert metric._to_sync


def test_what_keeps_all_that_it_has_seen_is_not_kept_again_and_again():
    with pytest.raises(Unseen, match="`score` keeps all that it has seen"):
        Held.of("score", BinaryAUROC(), 0.0)


def test_a_state_that_is_too_large_is_not_kept():
    with pytest.raises(Unseen, match="the state of `score` is too large to be kept"):
        Held.of("score", MulticlassConfusionMatrix(101), 1.0)


def test_what_a_state_begins_with_is_shared_by_all_copies():
    metric = MulticlassConfusionMatrix(3)
    kept = Held.of("score", metric, 0.0).metric
    assert kept._defaults["confmat"] is metric._defaults["confmat"]
    assert kept.confmat is not metric.confmat


def test_a_metric_that_gives_no_number_has_no_value():
    metric = MulticlassConfusionMatrix(3)
    metric.update(*classes())
    with pytest.raises(Unseen, match=r"`score` cannot be computed of a part \(ValueError"):
        Held.of("score", metric, 16.0).value()


def logged(values, reduce_fx):
    """Return what is held after each of the values, which have 1, 3, 1, … samples."""
    results = _ResultCollection(training=False)
    for count, value in enumerate(values, start=1):
        size = 3 if count % 2 == 0 else 1
        tensor = torch.tensor(value)
        results.log("step", "score", tensor, reduce_fx=reduce_fx, batch_size=size)
        item = results["step.score"]
        assert updates(item) == count
        yield partial_of("score", item, samples=float(count))


@pytest.mark.parametrize(
    ("name", "value", "whole"),
    [
        ("mean", 16 / 4, (16 + 11 + 27) / 8),
        ("sum", 6.0, 26.0),
        ("max", 5.0, 11.0),
        ("min", 1.0, 1.0),
    ],
)
def test_plain_numbers_are_reduced_as_by_lightning(name, value, whole):
    """Mine are 1 once and 5 three times; then theirs are 11 once and 9 three times."""
    mine, theirs = list(logged([1.0, 5.0], name)), list(logged([2.0, 3.0, 11.0, 9.0], name))
    assert mine[1].value() == value
    assert mine[1].continued(theirs[1], theirs[3]) == pytest.approx(whole)


def test_members_of_a_collection_are_counted_too():
    both = MetricCollection([MulticlassAccuracy(3), MulticlassF1Score(3)])
    for _ in range(2):
        both.update(*classes())
    results = _ResultCollection(training=False)
    for name, metric in both.items():
        results.log("step", name, metric)
    assert [updates(item) for item in results.values()] == [2, 2]


class Shown:
    """A pass of four batches of which it is told what was logged."""

    def __init__(self, partials):
        self.left, self.batches, self.checksum = list(partials), 0, 5

    def partial(self):
        return self.left[self.batches - 1]


def recorded(partials):
    recorder, seen = Recorder(), Shown(partials)
    for number in range(len(seen.left)):
        seen.batches = number + 1
        recorder(seen)
    return recorder


def numbers(reduce=torch.mean):
    return [Number("val", 3.0 * n, 4.0 * n, reduce) for n in range(1, 5)]


def accuracies():
    metric, found = MulticlassAccuracy(KINDS, average="macro"), []
    for n in range(1, 5):
        metric.update(torch.arange(n * 3) % KINDS, torch.arange(n * 3) * n % KINDS)
        found.append(Held.of("val", metric, 16.0 * n))
    return found


def through_a_file(state):
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.acc = MulticlassAccuracy(KINDS, average="macro")


@pytest.mark.parametrize("partials", [numbers, lambda: numbers(torch.max), accuracies])
def test_what_comes_out_of_a_file_is_what_went_in(partials):
    before = recorded(partials())
    after = curve_from(through_a_file(curve_state(before, "acc")), Model())
    assert after.looked
    assert after.points.keys() == before.points.keys()
    for n, point in before.points.items():
        assert (after.points[n].value, after.points[n].checksum) == (point.value, 5)
        rest = point.partial.continued(point.partial, before.end)
        assert after.points[n].partial.continued(after.points[n].partial, after.end) == rest
    assert (after.end.name, after.end.weight) == (before.end.name, before.end.weight)


def test_what_cannot_be_kept_is_a_reason():
    assert curve_from(curve_state(recorded(accuracies()), None), Model()).fault == NOT_KEPT
    assert curve_from(curve_state(recorded(numbers(torch.prod)), None), Model()).fault == NOT_KEPT
    recorder = Recorder()
    recorder.fault = "a riddle"
    assert curve_from(curve_state(recorder, None), Model()).fault == "a riddle"


@pytest.mark.parametrize(
    "damage",
    [
        {"fault": None},
        {"kind": {"name": "val", "reduce": "median"}},
        {"kind": {"name": "val", "metric": "gone"}},
        {"points": [[1, 2]]},
        {"end": [1.0, "much"]},
    ],
)
def test_what_is_damaged_is_told(damage):
    state = curve_state(recorded(numbers()), None) | damage
    if damage == {"fault": None}:
        state = damage
    with pytest.raises(ArtifactError, match="running values in the checkpoint are damaged"):
        curve_from(state, Model())


def test_a_module_without_the_metric_is_told():
    state = curve_state(recorded(accuracies()), "net")
    with pytest.raises(ArtifactError, match="`net` is no metric any more"):
        curve_from(state, Lit())
