"""What each kind of op can be in FX graph mode."""

from __future__ import annotations

import dataclasses

from torch import nn

from lpot_lightning.quantization.capability import ACTIVATIONS, EMBEDDING
from lpot_lightning.recipe import FP32, OpConfig, TensorConfig

OP_LAYERS = (
    nn.Conv1d, nn.Conv2d, nn.Conv3d,
    nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d,
    nn.Linear, nn.Embedding, nn.EmbeddingBag,
)  # fmt: skip
"""Layers worth quantizing alone, where nothing around them can be traced."""

_FIXED = {"sigmoid", "Sigmoid", "tanh", "Tanh", "softmax", "Softmax", "hardsigmoid", "Hardsigmoid"}


def has_kernel(module: nn.Module) -> bool:
    """Whether the settings of ``module``, of whatever kind, are such that int8 can follow."""
    if isinstance(module, nn.BatchNorm2d | nn.BatchNorm3d):
        return module.affine and module.track_running_stats
    if isinstance(module, nn.Conv1d | nn.Conv2d | nn.Conv3d):
        return module.padding_mode in ("zeros", "reflect") and not isinstance(module.padding, str)
    return True


def configs_of(kind: str) -> tuple[OpConfig, ...]:
    """Return the choices for an op of ``kind``, LPOT's first choice first, ``FP32`` last.

    The table is LPOT 1.6's for torch >= 1.7: four settings for weighted layers (activation
    asymmetric or symmetric, range by ``kl`` or ``minmax``), one for everything else. ``percentile``
    is not LPOT's and comes after.
    """
    if kind in ("Embedding", "EmbeddingBag"):
        return (EMBEDDING, FP32)
    if kind.startswith("Conv") or kind == "Linear":
        granularity = "per_tensor" if "Transpose" in kind else "per_channel"
        weight = TensorConfig("int8", "sym", granularity, "minmax")
        return (*(OpConfig(activation, weight) for activation in ACTIVATIONS), FP32)
    algorithm = "minmax" if kind in _FIXED else "kl"
    return (OpConfig(TensorConfig("uint8", "asym", "per_tensor", algorithm)), FP32)


def trained_configs_of(kind: str) -> tuple[OpConfig, ...]:
    """Return the choices for an op of ``kind`` that is trained for int8: one, and ``FP32``.

    The range is the running one of the training, which LPOT calls ``minmax``, and asymmetric.
    """
    first, *_ = configs_of(kind)
    activation = dataclasses.replace(first.activation, algorithm="minmax")
    return (dataclasses.replace(first, activation=activation), FP32)
