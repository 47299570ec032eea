"""The callbacks that one YAML asks for."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback

from lpot_lightning.callbacks.exporting import ExportCallback
from lpot_lightning.callbacks.pruning import PruningCallback
from lpot_lightning.callbacks.qat import QATCallback
from lpot_lightning.callbacks.quantization import QuantizationCallback
from lpot_lightning.conf.exporting import arguments_of
from lpot_lightning.conf.reader import read_conf
from lpot_lightning.conf.schema import Conf


def callbacks_from_conf(
    conf: str | Path | dict[str, Any],
    *,
    monitor: str | None = None,
    modules: list[str] | None = None,
    baseline: float | None = None,
    wait_for_target: bool = True,
) -> list[Callback]:
    """Return the callbacks that a YAML asks for, in the order in which they have to stand.

    A ``pruning`` section gives a ``PruningCallback``; a ``quantization`` section gives a
    ``QATCallback`` or a ``QuantizationCallback``, by its ``approach``. With both, the model is
    pruned while it trains, and what is left becomes int8 when the fit is over; what is zero is zero
    in int8, too. A YAML with neither gives a ``QuantizationCallback``. An ``export`` section adds
    an ``ExportCallback``, which writes what the others come to.

    Args:
        conf: LPOT's user YAML: a path, a mapping or an OmegaConf object.
        monitor: for all of them.
        modules: for all of them.
        baseline: for those that have one.
        wait_for_target: as for ``PruningCallback``.

    Raises:
        ConfError: if the YAML or an argument asks for what cannot be done.

    Example::

        trainer = Trainer(max_epochs=10, callbacks=callbacks_from_conf("prune_and_quantize.yaml"))
    """
    read = read_conf(conf)
    alone, found = replace(read, export=None), list[Callback]()
    if read.pruning is not None:
        found.append(
            PruningCallback(
                alone,
                monitor=monitor,
                modules=modules,
                baseline=baseline,
                wait_for_target=wait_for_target,
            )
        )
    if read.quantizes:
        found.append(_quantizing(alone, monitor, modules, baseline))
    if read.export is not None:
        found.append(ExportCallback(**arguments_of(read.export)))
    return found


def _quantizing(
    conf: Conf, monitor: str | None, modules: list[str] | None, baseline: float | None
) -> Callback:
    if conf.quantization.approach == "quant_aware_training":
        return QATCallback(conf, monitor=monitor, modules=modules, baseline=baseline)
    return QuantizationCallback(conf, monitor=monitor, modules=modules)
