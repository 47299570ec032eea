"""Weights that another callback averages while they are trained for int8."""

import pytest
import torch
from lightning.pytorch.callbacks import (
    EMAWeightAveraging,
    StochasticWeightAveraging,
    WeightAveraging,
)
from lit_scenes import same, trainer, weights_of
from qat_scenes import ConvLit, checkpoints, qat, ranges_in, train_images, val_images

AVERAGES = {
    "swa": lambda: StochasticWeightAveraging(swa_lrs=0.05, swa_epoch_start=1),
    "average": lambda: WeightAveraging(),
    "ema": lambda: EMAWeightAveraging(decay=0.9),
}


class Counted(ConvLit):
    """Keeps what its norms had counted when the training was over."""

    def on_train_end(self):
        self.counted = [int(self.net[1].num_batches_tracked), self.net[1].training]


def fit(callbacks, **given):
    torch.manual_seed(0)
    module = Counted()
    one = trainer(*callbacks, **{"max_epochs": 4, **given})
    one.fit(module, train_images(), val_images())
    return module


@pytest.mark.parametrize("average", AVERAGES.values(), ids=AVERAGES)
@pytest.mark.parametrize("first", [True, False], ids=["before the average", "after it"])
def test_the_average_is_what_becomes_int8(workspace, average, first):
    callback, averaging = qat(workspace, ckpt="current"), average()
    module = fit([callback, averaging] if first else [averaging, callback])
    held = averaging._average_model
    averaged = dict(getattr(held, "module", held).named_parameters())
    assert same(averaged, dict(module.named_parameters()))
    result = callback.result
    assert (result.status, result.fp32_ops) == ("met", ())
    assert not any("forward" in vars(part) for part in module.modules())


@pytest.mark.parametrize("first", [True, False], ids=["before the average", "after it"])
def test_the_last_pass_of_swa_renews_norms_and_ranges_that_are_frozen(tmp_path, workspace, first):
    alone = fit([AVERAGES["swa"]()])
    callback, saved = (
        qat(workspace, freeze_batch_norm=1, freeze_observers=2),
        checkpoints(tmp_path / "saved"),
    )
    swa = AVERAGES["swa"]()
    order = [callback, swa] if first else [swa, callback]
    module = fit([saved, *order], enable_checkpointing=True)
    assert module.counted == alone.counted == [6, True]
    assert not torch.equal(module.net[1].running_mean, torch.zeros(8))
    by_epoch = [ranges_in(path) for path in sorted((tmp_path / "saved").glob("epoch*"))]
    assert [same(*pair) for pair in zip(by_epoch[1:], by_epoch[2:], strict=False)] == [
        True,
        True,
        False,
    ]
    assert callback.result.status == "met"


def test_ranges_are_not_averaged(tmp_path, workspace):
    """The average has the structure of the module, and no state of ours is in it."""
    averaging = EMAWeightAveraging(decay=0.9)
    fit([qat(workspace), averaging])
    module = averaging._average_model.module
    assert list(module.state_dict()) == list(weights_of(ConvLit()))
    assert not any("forward" in vars(part) for part in module.modules())
