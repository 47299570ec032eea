"""What a fit lends to the runs in it: its processes, what judges and feeds models, and a place."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property, partial
from pathlib import Path
from typing import Any, TypeVar

from lightning.fabric.utilities.cloud_io import _is_local_file_protocol
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.plugins.precision import Precision
from lightning.pytorch.utilities import rank_zero_info, rank_zero_warn

from lpot_lightning.conf.quantization import DYNAMIC
from lpot_lightning.conf.schema import Conf
from lpot_lightning.errors import ArtifactError, LpotError
from lpot_lightning.machine.random_numbers import seeded
from lpot_lightning.machine.ranks import GlooRanks, Ranks
from lpot_lightning.pruning.channels.cut import cut
from lpot_lightning.pruning.channels.plan import ChannelPlan
from lpot_lightning.runs.workspace import Workspace
from lpot_lightning.trainer.calibration import Calibration, Source
from lpot_lightning.trainer.checks import Loaders, find_loaders
from lpot_lightning.trainer.fit_validations import FitValidations
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

    Example::

        with session.at_work(conf) as work:
            accuracy = work.judge("val_acc").evaluate(work.model(), "baseline").accuracy
    """

    def __init__(
        self,
        trainer: Trainer,
        module: LightningModule,
        watchers: Sequence[Callback],
        precision: Precision | None = None,
    ) -> None:
        self.trainer, self.module, self.watchers = trainer, module, watchers
        if precision is not None:
            self.precision = precision
        self._lent: dict[int, Passes] = {}

    @cached_property
    def ranks(self) -> Ranks:
        """The processes that work together, this one alone or several."""
        return ranks_of(self.trainer)

    @cached_property
    def precision(self) -> Precision:
        """What models are judged in, always 32 bits."""
        return judging_precision(self.trainer, self.module, rank_zero_info)

    @contextmanager
    def at_work(
        self, conf: Conf, weights: Weights | None = None, plan: ChannelPlan | None = None
    ) -> Iterator[SessionWork]:
        """Let random numbers start from the seed of the conf, and put them back.

        Args:
            conf: checked.
            weights: of all models; those of the module where nothing is given.
            plan: by which channels are cut out of them.
        """
        seed = conf.tuning.random_seed
        with seeded(seed):
            yield SessionWork(self, self._passes(seed), conf, weights or Weights(), plan)

    def _passes(self, seed: int) -> Passes:
        if seed not in self._lent:
            self._lent[seed] = Passes(
                self.trainer, self.ranks, seed, self.precision, rank_zero_warn
            )
        return self._lent[seed]

    def close(self) -> None:
        """Let go of the processes; what is asked for afterwards is opened anew."""
        self._lent.clear()
        ranks = vars(self).pop("ranks", None)
        if ranks is not None:
            ranks.close()


class SessionWork:
    """Models of one session, and what judges and feeds them, for one ``with``.

    Not longer, since a training may exchange its loaders.

    Args:
        session: see there.
        passes: lends the validation loop.
        conf: checked.
        weights: of all models.
        plan: by which channels are cut out of them.
    """

    def __init__(
        self,
        session: Session,
        passes: Passes,
        conf: Conf,
        weights: Weights,
        plan: ChannelPlan | None,
    ) -> None:
        self.ranks = session.ranks
        self._session, self._passes, self._conf = session, passes, conf
        self._weights, self._plan = weights, plan

    def model(self) -> LightningModule:
        """Return a new copy of the module, the same in all processes."""
        model = self.ranks.together(partial(self._weights.model_of, self._session.module))
        if self._plan is not None:
            cut(model, self._plan)
        self.ranks.make_equal([*model.parameters(), *model.buffers()])
        return model

    def judge(
        self, monitor: str | None, validations: FitValidations | None = None
    ) -> ValidationJudge:
        """Return who judges by ``monitor``, or by the metric that the user's callbacks watch.

        Args:
            monitor: see above.
            validations: those of the fit, which may have judged the same model.
        """
        asked = monitor, self._conf.tuning.accuracy_criterion.higher_is_better
        session, loaders = self._session, lambda: self._loaders
        return ValidationJudge(
            self._passes, session.module, asked, session.watchers, loaders, validations
        )

    def feed(
        self,
        *,
        calib: Source = "train",
        train: Any = None,
        samples: int | None = None,
        tells: bool = True,
    ) -> ValidationFeed:
        """Return who shows data to the models.

        Args:
            calib: whose data, ``"train"`` or ``"val"``.
            train: training data, where it is not that of the trainer.
            samples: how many, where that is not the sampling size.
            tells: whether to say that there are fewer than the conf asks for.
        """
        asked = self._conf.quantization.calibration
        data = Calibration(
            self._session.trainer,
            self._session.module,
            lambda: self._loaders[0],
            wanted=asked.sampling_size if samples is None else samples,
            calib=calib,
            train=train,
            passes=self._passes,
        )
        static = self._conf.quantization.approach != DYNAMIC  # which looks for no range before
        tells = tells and static and samples is None and asked.is_asked
        return ValidationFeed(self._passes, self.model, data, tells=tells)

    @cached_property
    def _loaders(self) -> Loaders:
        """The validation loaders, found in all processes at once."""
        accuracy = self._conf.evaluation.accuracy if self._conf.evaluation else None
        most = -1 if accuracy is None else accuracy.iteration
        seed = self._conf.tuning.random_seed
        return self.ranks.together(partial(find_loaders, self._session.trainer, most, seed))


def ranks_of(trainer: Trainer) -> Ranks:
    """Return the processes of a trainer, who wait for each other as long as its strategy says."""
    if trainer.world_size == 1:
        return Ranks()
    return GlooRanks(getattr(trainer.strategy, "_timeout", None))


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


def workspace_in(trainer: Trainer, conf: Conf) -> Workspace:
    """Return where files go: relative paths below ``default_root_dir``, none in a ``fast_dev_run``.

    A ``default_root_dir`` on another machine, ``s3://…`` for one, cannot hold a workspace: then,
    and without one, relative paths stay relative to the current folder.
    """
    quick: int = trainer.fast_dev_run  # type: ignore[attr-defined]
    return Workspace() if quick else Workspace.of(conf, root_of(trainer))


def root_of(trainer: Trainer) -> Path:
    """Return the ``default_root_dir``, where it is a folder of this machine and no other one."""
    root = trainer.default_root_dir
    if not _is_local_file_protocol(root) or root == os.getcwd():
        return Path()
    return Path(root)
