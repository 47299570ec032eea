"""What examples of pruning take for granted."""

from __future__ import annotations

from typing import Any

import torch
import yaml
from example_inside import Inside
from torch import Tensor
from torch.optim.swa_utils import AveragedModel
from users_digits import halves, model
from users_yamls import PRUNING

from lpot_lightning.conf.reader import read_conf
from lpot_lightning.conf.schema import Conf
from lpot_lightning.pruning.channels.cut import cut
from lpot_lightning.pruning.channels.finding import find_groups
from lpot_lightning.pruning.channels.plan import channel_plan_of
from lpot_lightning.pruning.masks import Masks


class Pruning(Inside):
    """The groups of channels of the user's model."""

    def make_params(self) -> dict[str, Tensor]:
        return dict(self.names.get("model", model()).named_parameters())

    def make_found(self) -> Any:
        return find_groups(model(), {"net": ((halves(4, 2).tensors[0],), {})})

    def make_group(self) -> Any:
        return next(one for one in self.make_found() if one.name == "net.stem")

    def make_scores(self) -> Tensor:
        return torch.tensor([0.1, 0.9, 0.2, 0.8])

    def make_threshold(self) -> float:
        return 0.5

    def make_plan(self) -> Any:
        kept = {"net.stem": self.make_scores() > 0.5}
        return channel_plan_of(model(), self.make_found().groups, kept)

    def make_text(self) -> str:
        return yaml.safe_dump(self.make_plan().to_dict())

    def make_weights(self) -> dict[str, Tensor]:
        return cut(model(), self.make_plan()).state_dict()

    def make_batch(self) -> list[Tensor]:
        return list(halves(8, 2).tensors)

    def make_optimizer(self) -> torch.optim.Optimizer:
        self._bring_all("model")
        return torch.optim.SGD(self.names["model"].parameters(), lr=0.1)

    def make_conf(self) -> Conf:
        return read_conf(yaml.safe_load(PRUNING))

    def make_ema(self) -> AveragedModel:
        return AveragedModel(model())

    def make_masks(self) -> Masks:
        return Masks(model())

    def make_data(self) -> list[Any]:
        return [halves(8, seed).tensors for seed in range(3)]
