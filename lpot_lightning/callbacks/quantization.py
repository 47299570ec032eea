"""Post-training quantization when a fit is over."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities import rank_zero_warn
from typing_extensions import override

from lpot_lightning.callbacks.judged import check_choice
from lpot_lightning.callbacks.tuned import TunedCallback
from lpot_lightning.conf.ownership import check_for_callback
from lpot_lightning.conf.reader import read_conf
from lpot_lightning.conf.schema import Conf
from lpot_lightning.errors import ArtifactError, LpotError
from lpot_lightning.trainer.calibration import Source
from lpot_lightning.trainer.checkpoint import KEY, VALIDATIONS
from lpot_lightning.trainer.fit_validations import FitValidations
from lpot_lightning.trainer.keepers import Choice


class QuantizationCallback(TunedCallback):
    """Quantize the model when the fit is over, tuned to an accuracy goal.

    At ``on_fit_end`` the weights of the best checkpoint are copied into a second model, calibrated
    and converted to int8; your own validation loop judges each trial, and the search goes on until
    the criterion of the YAML is met. Your module and your trainer are as they were afterwards.

    Args:
        conf: LPOT's user YAML: a path, a mapping or an OmegaConf object. A relative workspace in it
            lies below the trainer's ``default_root_dir``, where that is a folder of this machine.
        monitor: the logged metric that is the accuracy. If ``None``: what a ``ModelCheckpoint``
            monitors, else an ``EarlyStopping``, else the only metric that the validation loop logs.
        modules: names or globs of submodules or ops to quantize; default: everything quantizable.
        calib: ``"train"`` (unshuffled) or ``"val"`` data to calibrate on, unless the datamodule or
            the module has a ``calib_dataloader()``.
        ckpt: whose weights: the ``"best"`` or ``"last"`` checkpoint's, or the ``"current"`` ones.
            Without a ``ModelCheckpoint`` all three are the current ones; with one that has no
            ``monitor``, weights that ``StochasticWeightAveraging`` averaged are the best.

    Raises:
        ConfError: when created, if the YAML or an argument asks for what cannot be done, or for a
            strategy whose packages are not installed.
        LpotError: when a fit begins, if this Trainer cannot be used, or the workspace not written
            or in use by another run.
        SystemExit: with 130 for Ctrl-C and 143 for SIGTERM while it quantizes; what is finished
            until then is on disk.

    Example::

        quantization = QuantizationCallback("ptq.yaml", monitor="val_acc")
        Trainer(max_epochs=5, callbacks=[quantization]).fit(model, datamodule=data)
        print(quantization.result.table())
    """

    def __init__(
        self,
        conf: str | Path | dict[str, Any] | Conf,
        *,
        monitor: str | None = None,
        modules: list[str] | None = None,
        calib: Source = "train",
        ckpt: Choice = "best",
    ) -> None:
        read = read_conf(conf)
        check_for_callback(read, "QuantizationCallback")
        check_choice("calib", calib, ("train", "val"))
        super().__init__(read, monitor, modules, ckpt)
        self.calib = calib
        self._validations = FitValidations(self._name_so_far)

    @override
    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Refuse what cannot work, before any training."""
        if stage == "fit":
            self._validations = FitValidations(self._name_so_far)
        super().setup(trainer, pl_module, stage)

    @override
    def on_save_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Put what the validations have found beside the weights, under a key of our own."""
        if state := self._validations.state():
            checkpoint[KEY] = {**checkpoint.get(KEY, {}), VALIDATIONS: state}

    @override
    def on_load_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Take up what the validations have found of a fit that is gone on with."""
        ours = checkpoint.get(KEY)
        saved = ours.get(VALIDATIONS) if isinstance(ours, dict) else None
        if saved is None or trainer.state.fn != TrainerFn.FITTING:
            return
        try:
            self._validations.load(saved, pl_module)
        except ArtifactError as error:  # it costs a pass, and nothing is lost
            rank_zero_warn(f"{error}: the fp32 model is judged anew")

    @override
    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Look on: what this validation judges may be what is to be quantized."""
        super().on_validation_start(trainer, pl_module)
        if trainer.state.fn == TrainerFn.FITTING:
            self._validations.begin(trainer)

    @override
    def on_validation_batch_start(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Note the data, and before the first batch the model."""
        self._validations.start_batch(trainer, pl_module, batch, (dataloader_idx, batch_idx))

    @override
    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        *_: Any,
        **__: Any,
    ) -> None:
        """Note what was logged so far."""
        self._validations.end_batch(trainer, pl_module, batch)

    @override
    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Note what all batches came to."""
        self._validations.end_data()

    @override
    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Find the metric to judge by at the first validation, and keep what each has found."""
        super().on_validation_end(trainer, pl_module)
        found = None if trainer.sanity_checking else self._found_monitor
        self._validations.end(trainer, pl_module, found)

    def _name_so_far(self, trainer: Trainer) -> str | None:
        """Return the metric to judge by, if what is logged so far tells."""
        try:
            found = self._found_monitor or self._seek_monitor(trainer)
        except LpotError:
            return None  # it is told when the validation is over, if it is still so
        return None if found is None else found.name

    @override
    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Quantize, judge, tune, save."""
        with self._ending_well(trainer, pl_module):
            request = self._request(trainer, pl_module, self._weights(trainer, pl_module))
            request = dataclasses.replace(request, calib=self.calib, validations=self._validations)
            self._quantize(trainer, pl_module, request)
