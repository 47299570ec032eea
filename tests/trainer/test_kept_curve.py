"""The running values of a pass, in a checkpoint and out of it."""

import io

import pytest
import torch
from lit_scenes import KINDS, Lit
from torch import nn
from torchmetrics.classification import MulticlassAccuracy

from lpot_lightning.errors import ArtifactError
from lpot_lightning.trainer.kept_curve import NOT_KEPT, curve_from, curve_state
from lpot_lightning.trainer.partial_metric import Held, Number
from lpot_lightning.tuning.screening import Recorder


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
