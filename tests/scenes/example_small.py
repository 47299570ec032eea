"""Small things of a kind, for the examples of most rooms."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import lightning.pytorch as pl
import torch
import yaml
from example_inside import Inside
from made_up import INT8, linear
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel
from users_digits import halves, model
from users_things import accuracy, train

import lpot_lightning
from lpot_lightning.conf.reader import read_conf
from lpot_lightning.conf.schema import Conf
from lpot_lightning.recipe import FP32, Op, Recipe
from lpot_lightning.tuning.causes import Cause, CauseKind
from lpot_lightning.tuning.repair import Repair

WHOLE = """
model: {name: digits, framework: pytorch_fx}
quantization:
  approach: quant_aware_training
  train:
    optimizer: {SGD: {learning_rate: 0.01}}
    criterion: {CrossEntropyLoss: {}}
    end_epoch: 1
pruning:
  approach:
    weight_compression: {target_sparsity: 0.5, end_epoch: 2, pruners: [{}]}
evaluation:
  accuracy:
    metric: {topk: 1}
    dataloader: {batch_size: 8, dataset: {dummy: {shape: [32, 1, 8, 8], label: true}}}
export: {formats: [onnx]}
"""


class Correct(lpot_lightning.Metric):
    """A metric of the user's."""

    def __init__(self) -> None:
        self.reset()

    def update(self, preds: Tensor, labels: Tensor) -> None:
        self.right += int((preds.argmax(1) == labels).sum())
        self.seen += len(labels)

    def reset(self) -> None:
        self.right = self.seen = 0

    def result(self) -> float:
        return self.right / self.seen


class ExampleThings(Inside):
    """Small things of a kind."""

    make_lit = make_module = make_net = staticmethod(model)

    def make_batch(self) -> list[Tensor]:
        return list(halves(8, 2).tensors)

    def make_x(self) -> Tensor:
        return halves(8, 2).tensors[0]

    make_image = make_other_images = make_x

    def make_labels(self) -> Tensor:
        return halves(8, 2).tensors[1]

    def make_loss(self) -> Any:
        return nn.functional.cross_entropy

    def make_optimizer(self) -> torch.optim.Optimizer:
        self._bring_all("model")
        return torch.optim.SGD(self.names["model"].parameters(), lr=0.1)

    def make_layer(self) -> nn.Linear:
        return nn.Linear(8, 4)

    def make_conf(self) -> Conf:
        return read_conf(yaml.safe_load(WHOLE))

    def make_Correct(self) -> Any:  # noqa: N802
        return Correct

    def make_ema(self) -> AveragedModel:
        return AveragedModel(model())

    def make_validate(self) -> Callable[[nn.Module], Any]:
        return accuracy

    make_evaluate = make_validate

    def make_fit(self) -> Callable[[nn.Module], Any]:
        return train


class Taught(pl.LightningModule):
    """A head that learns, on a backbone that does not; a teacher beside."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone, self.teacher, self.head = (nn.Linear(8, 8) for _ in range(3))
        self.backbone.requires_grad_(False)
        self.teacher.requires_grad_(False)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        x = batch[0].flatten(1)[:, :8]
        return (self.head(self.backbone(x)) - self.teacher(x)).square().mean()


class Watched(ExampleThings):
    """A module with frozen parts."""

    make_lit = staticmethod(Taught)

    def make_ops(self) -> list[Op]:
        return [linear(name) for name in ("backbone.conv", "head.fc1", "head.fc2")]

    def make_causes(self) -> dict[str, Cause]:
        return {
            "fc": Cause(kind=CauseKind.UNEQUAL_CHANNELS, found="93x as wide", remedy="equalization")
        }

    def make_repairs(self) -> list[Repair]:
        return [Repair("fc", "cross_layer_equalization", 0.21, 0.03)]

    def make_recipe(self) -> Recipe:
        return Recipe.of({"a": INT8, "b": INT8, "c": FP32})
