"""Post-training quantization when a fit is over."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from typing_extensions import override

from lpot_lightning.callbacks.judged import check_choice
from lpot_lightning.callbacks.tuned import TunedCallback
from lpot_lightning.conf.ownership import check_for_callback
from lpot_lightning.conf.reader import read_conf
from lpot_lightning.trainer.calibration import Source
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
        conf: str | Path | dict[str, Any],
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

    @override
    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Quantize, judge, tune, save."""
        with self._ending_well(trainer, pl_module):
            request = self._request(trainer, pl_module, self._weights(trainer, pl_module))
            request = dataclasses.replace(request, calib=self.calib)
            self._quantize(trainer, pl_module, request)
