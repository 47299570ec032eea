"""LPOT 1.5's and 1.6's `common`: what their scripts wrap models, metrics and data in.

In: what is given to `Quantization`, `Pruning` or `Benchmark`. Out: the same, as these take it.

Example::

    from lpot_lightning import Quantization, common

    quantizer = Quantization("ptq.yaml")
    quantizer.model = common.Model(model)
    quantizer.calib_dataloader = common.DataLoader(dataset, batch_size=32)
    quantizer.eval_dataloader = common.DataLoader(dataset, batch_size=32)
    quantizer.metric = common.Metric(Correct, "correct")
    q_model = quantizer()
    q_model.save("saved")
"""

from __future__ import annotations

import warnings
from typing import Any

from torch import nn

from lpot_lightning.data.loader import dataloader_of
from lpot_lightning.errors import did_you_mean
from lpot_lightning.lpot.given import check_model
from lpot_lightning.lpot.imperative import MetricWithName

__all__ = ["DataLoader", "Metric", "Model"]
DataLoader = dataloader_of
"""See ``Quantization.dataloader``: what it returns can be gone through here."""
_GONE = {
    "Postprocess": "change outputs and labels in a `Metric` of your own, or in an `eval_func`",
    "Criterions": "name the criterion in the `train` block of the YAML, or train by a `q_func`",
    "Optimizers": "name the optimizer in the `train` block of the YAML, or train by a `q_func`",
    "Dataset": "a data set is your own object, or `quantizer.dataset('dummy', shape=[100, 3])`",
}


def Model(root: nn.Module, **options: Any) -> nn.Module:
    """Return the model itself: nothing needs to be known of it besides.

    Args:
        root: an ``nn.Module``.
        options: LPOT's, such as ``prepare_custom_config_dict``; they have no effect.

    Raises:
        ConfError: if it is none, such as a path, which LPOT took for TensorFlow.
    """
    check_model(root, "quantizer")
    if options:
        names = ", ".join(f"`{name}`" for name in options)
        text = f"`common.Model`: {names} is for torch's FX quantization and has no effect"
        warnings.warn(text, UserWarning, stacklevel=2)
    return root


def Metric(metric_cls: Any, name: str = "user_metric", **options: Any) -> MetricWithName:
    """Return a metric with its name, for ``quantizer.metric = …``.

    Args:
        metric_cls: see ``Quantization.metric``.
        name: how it is called in messages and files.
        options: arguments of the class.
    """
    return MetricWithName(metric_cls, name, options)


def __getattr__(name: str) -> Any:
    """Say what takes the place of what LPOT had here."""
    instead = _GONE.get(name)
    hint = f": {instead}" if instead else f".{did_you_mean(name, __all__)}"
    raise AttributeError(f"module `{__name__}` has no `{name}`{hint}")
