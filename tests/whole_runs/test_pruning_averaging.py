"""Weights that another callback averages while they are pruned."""

import pytest
import torch
from lightning.pytorch.callbacks import (
    EMAWeightAveraging,
    StochasticWeightAveraging,
    WeightAveraging,
)
from lit_scenes import same, train_loader, val_loader, weights_of
from qat_scenes import ConvLit, train_images, val_images
from sparse_scenes import (
    WEIGHTS,
    Rolling,
    Seen,
    checkpoints,
    halved,
    pruned,
    pruning,
    state_in,
    weights_at,
    weights_in,
    zeros,
)

pytestmark = [
    pytest.mark.filterwarnings("ignore:Checkpoint directory .* exists and is not empty"),
    pytest.mark.filterwarnings("ignore:.*`update_bn`"),
]


class Epochwise(WeightAveraging):
    """Averages when an epoch is over."""

    def should_update(self, step_idx=None, epoch_idx=None):
        return epoch_idx is not None


AVERAGES = {
    "swa": lambda: StochasticWeightAveraging(swa_lrs=0.05, swa_epoch_start=1),
    "average": WeightAveraging,
    "ema": lambda: EMAWeightAveraging(decay=0.9),
    "epochs": Epochwise,
}
EITHER = pytest.mark.parametrize("first", [True, False], ids=["pruning first", "average first"])
ALL = pytest.mark.parametrize("average", AVERAGES.values(), ids=AVERAGES)


def fit(callback, average, first, *others, module=None, **given):
    torch.manual_seed(0)
    before, after = ((), (average,)) if first else ((average,), ())
    return pruned(callback, module or Rolling(), *after, *others, first=before, **given)[1]


@ALL
@EITHER
def test_the_average_has_the_zeros_of_a_schedule_in_steps(workspace, average, first):
    average, seen = average(), Seen()
    steps = {"start_epoch": None, "end_epoch": None, "start_step": 2, "end_step": 9}
    callback = pruning(workspace, **steps)
    module = fit(callback, average, first, seen)
    averaged = weights_in(held(average))
    assert halved(averaged)
    assert same(averaged, weights_in(module))
    assert callback.result.reached
    assert 0 < zeros(seen.batches[4])[WEIGHTS[0]] < 0.5


def held(average):
    found = average._average_model
    return getattr(found, "module", found)


@ALL
@EITHER
def test_the_average_has_the_zeros(tmp_path, workspace, average, first):
    """The module, what is validated, each checkpoint, and what is judged."""
    average, seen, saved = average(), Seen(), checkpoints(tmp_path / "saved")
    callback = pruning(workspace)
    module = fit(callback, average, first, seen, saved)
    averaged = weights_in(held(average))
    assert halved(averaged)
    assert same(averaged, weights_in(module))
    shares = [round(min(zeros(one).values()), 2) for one in seen.validated]
    assert shares == [0.0, 0.25, 0.5, 0.5]
    assert all(map(halved, seen.batches[8:]))
    for path in (tmp_path / "saved").glob("*.ckpt"):
        epoch = torch.load(path, weights_only=True)["epoch"]
        assert round(min(zeros(weights_at(path)).values()), 2) == [0.0, 0.25, 0.5, 0.5][epoch]
    assert same(weights_in(callback.result.model), averaged)
    assert callback.result.reached


@ALL
def test_the_average_is_one_of_several_weights(workspace, average):
    """It is not the last weights by another name."""
    average, seen = average(), Seen()
    module = fit(pruning(workspace), average, True, seen)
    assert not same(weights_in(module), seen.batches[-1])


@EITHER
def test_a_norm_that_swa_renews_in_one_more_epoch(workspace, first):
    class Flat(ConvLit):
        def on_train_end(self):
            self.counted = int(self.net[1].num_batches_tracked)

    data = (train_images(48), val_images(24))
    callback = pruning(workspace, end_epoch=1)
    module = fit(callback, AVERAGES["swa"](), first, module=Flat(), max_epochs=2, data=data)
    assert module.counted == 3
    assert all(abs(share - 0.5) < 0.02 for share in zeros(module).values())
    assert callback.result.reached


@pytest.mark.filterwarnings("ignore:The dirpath has changed from")
@pytest.mark.parametrize("name", ["average", "ema"])
@EITHER
def test_a_fit_that_goes_on_ends_the_same(tmp_path, workspace, name, first):
    whole = checkpoints(tmp_path / "whole")
    data = {"data": (train_loader(64, shuffle=False), val_loader(24))}
    expected = fit(pruning(workspace), AVERAGES[name](), first, whole, **data)
    (path,) = (tmp_path / "whole").glob("epoch=1-*")
    callback = pruning(workspace)
    again = checkpoints(tmp_path / "again")
    module = fit(callback, AVERAGES[name](), first, again, ckpt_path=str(path), **data)
    assert same(weights_of(module), weights_of(expected))
    last, told = (weights_at(tmp_path / one / "last.ckpt") for one in ("again", "whole"))
    assert same(last, told)
    assert set(state_in(tmp_path / "again/last.ckpt")["pruner"]["masks"]) == set(WEIGHTS)


def test_the_average_is_what_the_dense_baseline_was_measured_of(workspace):
    """Validated weights are the average's, before pruning began, too."""
    seen = Seen()
    callback = pruning(workspace, start_epoch=2)
    fit(callback, EMAWeightAveraging(decay=0.9), True, seen)
    assert zeros(seen.validated[1]) == dict.fromkeys(WEIGHTS, 0.0)
    assert callback.result.status == "met"
