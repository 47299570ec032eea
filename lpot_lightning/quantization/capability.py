"""What each kind of op can be."""

from __future__ import annotations

from lpot_lightning.recipe import FP32, TRAINED, OpConfig, TensorConfig

WEIGHT = TensorConfig("int8", "sym", "per_channel", "minmax")
ACTIVATIONS = tuple(
    TensorConfig("uint8", scheme, "per_tensor", algorithm)
    for algorithms in (("kl", "minmax"), ("percentile",))
    for scheme in ("asym", "sym")
    for algorithm in algorithms
)
EMBEDDING = OpConfig(
    TensorConfig("uint8", "placeholder", "per_tensor", "minmax"),
    TensorConfig("uint8", "asym_float", "per_channel", "minmax"),
)
AS_TRAINED = OpConfig(TensorConfig("uint8", "asym", "per_tensor", TRAINED), WEIGHT)
"""What a training for int8 rounds by."""


def configs_of(kind: str) -> tuple[OpConfig, ...]:
    """Return the choices for an op of ``kind``, LPOT's first choice first, ``FP32`` last.

    The table is LPOT 1.6's for torch >= 1.7: four settings for layers with a weight (activation
    asymmetric or symmetric, range by ``kl`` or ``minmax``), one for tables. ``percentile`` is not
    LPOT's and comes after.
    """
    if kind in ("Embedding", "EmbeddingBag"):
        return (EMBEDDING, FP32)
    return (*(OpConfig(activation, WEIGHT) for activation in ACTIVATIONS), FP32)
