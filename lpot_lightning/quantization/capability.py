"""What each kind of op can be."""

from __future__ import annotations

from lpot_lightning.recipe import (
    FP32,
    GROUP_SIZES,
    PLACEHOLDER,
    TRAINED,
    OpConfig,
    TensorConfig,
)

WEIGHT = TensorConfig(dtype="int8", scheme="sym", granularity="per_channel", algorithm="minmax")
ACTIVATIONS = tuple(
    TensorConfig(dtype="uint8", scheme=scheme, granularity="per_tensor", algorithm=algorithm)
    for algorithms in (("kl", "minmax"), ("percentile",))
    for scheme in ("asym", "sym")
    for algorithm in algorithms
)
DYNAMIC = OpConfig(
    TensorConfig(
        dtype="uint8",
        scheme="asym",
        granularity="per_token",
        algorithm="minmax",
        quant_mode="dynamic",
    ),
    WEIGHT,
)
_GROUPS = tuple(
    TensorConfig(
        dtype="int8", scheme="sym", granularity="per_group", algorithm="minmax", group_size=size
    )
    for size in GROUP_SIZES
)
WEIGHT_ONLY = tuple(OpConfig(TensorConfig(dtype="fp32"), weight) for weight in (WEIGHT, *_GROUPS))
BF16 = OpConfig(TensorConfig(dtype="bf16"), TensorConfig(dtype="bf16"))
_IDS = TensorConfig(dtype="uint8", scheme=PLACEHOLDER, granularity="per_tensor", algorithm="minmax")
EMBEDDING = OpConfig(
    _IDS,
    TensorConfig(dtype="uint8", scheme="asym_float", granularity="per_channel", algorithm="minmax"),
)
EMBEDDINGS = (
    EMBEDDING,
    *(
        OpConfig(
            _IDS,
            TensorConfig(
                dtype="uint8",
                scheme="asym_float",
                granularity="per_group",
                algorithm="minmax",
                group_size=size,
            ),
        )
        for size in GROUP_SIZES
    ),
)
AS_TRAINED = OpConfig(
    TensorConfig(dtype="uint8", scheme="asym", granularity="per_tensor", algorithm=TRAINED), WEIGHT
)
"""What a training for int8 rounds by."""
TABLES = ("Embedding", "EmbeddingBag")
RECURRENT = ("LSTM", "GRU", "RNN", "LSTMCell", "GRUCell", "RNNCell")
"""Layers that go over steps: the ranges of what they carry on are found at each."""


def configs_of(kind: str) -> tuple[OpConfig, ...]:
    """Return the choices for an op of ``kind``, the fastest rung first, ``FP32`` last.

    The static ones are LPOT 1.6's for torch >= 1.7, its first choice first: four settings for
    layers with a weight (activation asymmetric or symmetric, range by ``kl`` or ``minmax``), one
    for tables. ``percentile`` is not LPOT's and comes after; so is what makes groups. LPOT's
    dynamic choices are those of linear and recurrent layers.
    """
    if kind in TABLES:
        return (*EMBEDDINGS, FP32)
    if kind in RECURRENT:
        return (DYNAMIC, *WEIGHT_ONLY, FP32)
    static = tuple(OpConfig(activation, WEIGHT) for activation in ACTIVATIONS)
    dynamic = () if kind.startswith("Conv") and kind != "Conv1D" else (DYNAMIC,)
    return (*static, *dynamic, *WEIGHT_ONLY, BF16, FP32)
