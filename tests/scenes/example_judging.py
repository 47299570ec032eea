"""What examples of judging, and of LPOT's classes, take for granted."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import yaml
from example_small import ExampleThings
from int8_scenes import BACKEND, Batch, all_int8, calibrated
from torch import nn
from users_digits import DigitsData, halves
from users_things import accuracy, train
from users_yamls import PRUNING, PTQ

import lpot_lightning
from lpot_lightning import Quantization
from lpot_lightning.data.batches import collect
from lpot_lightning.data.metrics import METRICS


class Judging(ExampleThings):
    """What a judge is given."""

    def make_data(self) -> Any:
        return collect(DigitsData().val_dataloader(), 32, origin="`q_dataloader`", seed=0)

    def make_named(self) -> Any:
        return self.make_conf().evaluation.accuracy.metric

    def make_METRICS(self) -> Any:  # noqa: N802
        return METRICS


class Lpot(Judging):
    """LPOT's own objects, with what they need."""

    def make_quantization(self) -> Quantization:
        made = Quantization(yaml.safe_load(PTQ))
        made.calib_dataloader, made.eval_func = DigitsData().train_dataloader(), accuracy
        return made

    def make_pruning(self) -> lpot_lightning.Pruning:
        return lpot_lightning.Pruning(yaml.safe_load(PRUNING))

    def make_train(self) -> Callable[[nn.Module], None]:
        """Return a function that calls the hooks of ``pruning``, where that is there."""
        pruning = self.names.get("pruning")
        return train if pruning is None else lambda model: train_by_hooks(model, pruning)

    def make_training(self) -> Any:
        self._bring_all("model")
        prepared = calibrated(self.names["model"], Batch(halves(8, 2).tensors[0]))
        return BACKEND.training(prepared, all_int8(prepared))

    def make_again(self) -> Callable[[], Any]:
        return self.make_training


def train_by_hooks(model: nn.Module, pruning: Any) -> None:
    """Train, and tell ``pruning`` of it."""
    for epoch in range(3):
        pruning.on_epoch_begin(epoch)
        pruning.on_batch_begin(0)
        train(model)
        pruning.on_batch_end()
        pruning.on_epoch_end()
