"""What a fit lends to the runs in it: its processes, and what judges and feeds models."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property, partial
from typing import Any, TypeVar

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.plugins.precision import Precision
from lightning.pytorch.utilities import rank_zero_info, rank_zero_warn

from lpot_lightning.conf.schema import Conf
from lpot_lightning.errors import ArtifactError, LpotError
from lpot_lightning.machine.random_numbers import seeded
from lpot_lightning.machine.ranks import GlooRanks, Ranks
from lpot_lightning.pruning.channels.cut import cut
from lpot_lightning.pruning.channels.plan import ChannelPlan
from lpot_lightning.trainer.calibration import Calibration, Source
from lpot_lightning.trainer.checks import Loaders, find_loaders
from lpot_lightning.trainer.passes import Passes
from lpot_lightning.trainer.precision import judging_precision
from lpot_lightning.trainer.validation_feed import ValidationFeed
from lpot_lightning.trainer.validation_judge import ValidationJudge
from lpot_lightning.trainer.weights import Weights

T = TypeVar("T")


class Session:
    """One for a fit: each part is opened when asked for, and processes stay until ``close``.

    Where several processes train together, all of them ask for the same at the same points.

    Args:
        trainer: in a hook of a fit, or inside ``validate``; used quietly and given back.
        module: the user's; copies of it are judged, nothing of it is changed.
        watchers: the user's callbacks; one of them may name the metric, or log it.
        precision: what models are judged in, where the module does not tell.
    """

    def __init__(
        self,
        trainer: Trainer,
        module: LightningModule,
        watchers: Sequence[Callback],
        precision: Precision | None = None,
    ) -> None:
        self._trainer, self.module, self._watchers = trainer, module, watchers
        if precision is not None:
            self.precision = precision
        self._judges: dict[tuple[Any, ...], ValidationJudge] = {}
        self._loaders: dict[tuple[int, int], Loaders] = {}
        self._lent: dict[int, Passes] = {}

    @cached_property
    def ranks(self) -> Ranks:
        """The processes that work together, this one alone or several."""
        return GlooRanks() if self._trainer.world_size > 1 else Ranks()

    @cached_property
    def precision(self) -> Precision:
        """What models are judged in, always 32 bits."""
        return judging_precision(self._trainer, self.module, rank_zero_info)

    @contextmanager
    def at_work(self, conf: Conf) -> Iterator[None]:
        """Let random numbers start from the seed of the conf, and put them back.

        What judges and feeds is that of one ``with``: a training may exchange its loaders.
        """
        try:
            with seeded(conf.tuning.random_seed):
                yield
        finally:
            self._judges.clear()
            self._loaders.clear()

    def judge(self, conf: Conf, monitor: str | None) -> ValidationJudge:
        """Return who judges by ``monitor``, or by the metric that the user's callbacks watch."""
        asked = monitor, conf.tuning.accuracy_criterion.higher_is_better
        key = (asked, *_share_of_data(conf))
        if key not in self._judges:
            self._judges[key] = ValidationJudge(
                self._passes(conf),
                self.module,
                asked,
                self._watchers,
                partial(self._validation_loaders, conf),
            )
        return self._judges[key]

    def _validation_loaders(self, conf: Conf) -> Loaders:
        most, seed = key = _share_of_data(conf)
        if key not in self._loaders:
            find = partial(find_loaders, self._trainer, most, seed)
            self._loaders[key] = self.ranks.together(find)
        return self._loaders[key]

    def feed(
        self,
        conf: Conf,
        weights: Weights,
        plan: ChannelPlan | None = None,
        *,
        calib: Source = "train",
        train: Any = None,
        samples: int | None = None,
    ) -> ValidationFeed:
        """Return who shows data to models with these weights.

        Args:
            conf: for the sampling size and the seed.
            weights: of new copies.
            plan: by which channels are cut out of them.
            calib: whose data, ``"train"`` or ``"val"``.
            train: training data, where it is not that of the trainer.
            samples: how many, where that is not the sampling size.
        """
        wanted = conf.quantization.calibration.sampling_size if samples is None else samples
        data = Calibration(
            self._trainer,
            self.module,
            lambda: self._validation_loaders(conf)[0],
            wanted=wanted,
            calib=calib,
            train=train,
            passes=self._passes(conf),
        )
        return ValidationFeed(self._passes(conf), partial(self.model, weights, plan), data)

    def model(self, weights: Weights, plan: ChannelPlan | None = None) -> LightningModule:
        """Return a copy of the module with these weights, the same in all processes."""
        model = self.ranks.together(partial(weights.model_of, self.module))
        if plan is not None:
            cut(model, plan)
        self.ranks.make_equal([*model.parameters(), *model.buffers()])
        return model

    def _passes(self, conf: Conf) -> Passes:
        seed = conf.tuning.random_seed
        if seed not in self._lent:
            self._lent[seed] = Passes(
                self._trainer, self.ranks, seed, self.precision, rank_zero_warn
            )
        return self._lent[seed]

    def close(self) -> None:
        """Let go of the processes; what is asked for afterwards is opened anew."""
        self._lent.clear()
        ranks = vars(self).pop("ranks", None)
        if ranks is not None:
            ranks.close()


def _share_of_data(conf: Conf) -> tuple[int, int]:
    """Return how many batches of each loader a pass takes, -1 for all, and the seed."""
    accuracy = conf.evaluation.accuracy if conf.evaluation else None
    return accuracy.iteration if accuracy else -1, conf.tuning.random_seed


def in_one_process(trainer: Trainer, work: Callable[[], T]) -> T:
    """Return in all processes what ``work`` gives in rank 0 of ``trainer``; all hear if it fails.

    Raises:
        LpotError: what ``work`` raised; in the other processes an ``ArtifactError`` that says it.
    """
    value: T | None = None
    fault: LpotError | None = None
    if trainer.is_global_zero:
        try:
            value = work()
        except LpotError as error:
            fault = error
    value, told = trainer.strategy.broadcast((value, None if fault is None else str(fault)))
    if told is not None:
        raise fault or ArtifactError(told)
    return value  # type: ignore[return-value]
