"""The strategy that models are judged under: the CPU, float32, over one process or several."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Self, TypeVar

import torch
import torch.distributed as dist
from lightning.fabric.utilities.distributed import _all_gather_ddp_if_available, _sync_ddp
from lightning.pytorch import LightningModule
from lightning.pytorch.accelerators import CPUAccelerator
from lightning.pytorch.plugins.precision import Precision
from lightning.pytorch.strategies import SingleDeviceStrategy, Strategy
from torch import Tensor, nn
from torchmetrics import Metric
from torchmetrics.utilities.distributed import gather_all_tensors
from typing_extensions import override

from lpot_lightning.machine.ranks import GlooRanks, Ranks
from lpot_lightning.trainer.package import derived, of

T = TypeVar("T")
if TYPE_CHECKING:
    _Single = SingleDeviceStrategy
else:  # it comes from the package of the trainer
    _Single = object


class SharedStrategy(_Single):
    """What the user's code exchanges between processes goes over the connections of ``ranks``."""

    is_distributed = True

    def __new__(cls, ranks: GlooRanks, users: Strategy, *_: object) -> Self:
        """Return a strategy of the package of the user's."""
        return super().__new__(derived(cls, of(users, SingleDeviceStrategy)))

    def __init__(self, ranks: GlooRanks, users: Strategy, precision: Precision) -> None:
        super().__init__(
            device=torch.device("cpu"),
            accelerator=of(users, CPUAccelerator)(),
            precision_plugin=precision,
        )
        self._ranks = ranks
        self.global_rank, self.world_size = ranks.rank, ranks.size
        for name in ("local_rank", "node_rank", "num_nodes"):
            setattr(self, name, getattr(users, name, 0))

    @property
    @override
    def is_global_zero(self) -> bool:
        return self.global_rank == 0

    @override
    def reduce(self, tensor: Any, group: Any = None, reduce_op: Any = "mean") -> Any:
        if not isinstance(tensor, Tensor):
            return tensor
        return _sync_ddp(tensor, group=group or self._ranks.data, reduce_op=reduce_op)

    @override
    def all_gather(self, tensor: Tensor, group: Any = None, sync_grads: bool = False) -> Tensor:
        return _all_gather_ddp_if_available(tensor, group or self._ranks.data, sync_grads)

    @override
    def barrier(self, *_: Any, **__: Any) -> None:
        dist.barrier(group=self._ranks.data)

    @override
    def broadcast(self, obj: T, src: int = 0) -> T:
        held = [obj]
        dist.broadcast_object_list(held, src, group=self._ranks.data)
        return held[0]


def on_cpu(
    model: LightningModule, users: Strategy, ranks: Ranks, precision: Precision | None = None
) -> SingleDeviceStrategy:
    """Return a CPU strategy for ``model`` that shows copies of the user's optimizers."""
    precision = precision or of(users, Precision)()
    strategy = (
        SharedStrategy(ranks, users, precision)
        if isinstance(ranks, GlooRanks)
        else of(users, SingleDeviceStrategy)(
            device=torch.device("cpu"),
            accelerator=of(users, CPUAccelerator)(),
            precision_plugin=precision,
        )
    )
    strategy.connect(model)
    copies = {id(one): _readable(one) for one in users.optimizers}
    strategy.optimizers = list(copies.values())
    for config in users.lr_scheduler_configs:
        scheduler = copy.copy(config.scheduler)
        if own := copies.get(id(getattr(scheduler, "optimizer", None))):
            scheduler.optimizer = own
        strategy.lr_scheduler_configs.append(dataclasses.replace(config, scheduler=scheduler))
    return strategy


@contextmanager
def metrics_over(modules: Iterable[nn.Module], ranks: Ranks) -> Iterator[None]:
    """Let the torchmetrics objects among ``modules`` exchange their states over ``ranks`` alone."""
    metrics = [one for one in modules if isinstance(one, Metric)]
    before = [(one.dist_sync_fn, one.distributed_available_fn) for one in metrics]

    def exchange(value: Tensor, group: Any = None) -> list[Tensor]:
        assert isinstance(ranks, GlooRanks)
        return gather_all_tensors(value, group=group or ranks.data)

    for metric in metrics:
        metric.dist_sync_fn = metric.dist_sync_fn or exchange
        metric.distributed_available_fn = lambda: ranks.size > 1
    try:
        yield
    finally:
        for metric, own in zip(metrics, before, strict=True):
            metric.dist_sync_fn, metric.distributed_available_fn = own


def _readable(optimizer: torch.optim.Optimizer) -> torch.optim.Optimizer:
    """Return a copy whose learning rates can be changed; its state is shared."""
    try:
        copied = copy.copy(optimizer)
        copied.param_groups = [dict(group) for group in optimizer.param_groups]
    except Exception:  # a wrapper around another optimizer may refuse either
        return optimizer
    return copied
