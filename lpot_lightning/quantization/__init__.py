"""From fp32 to int8.

In: a module, calibration batches, a recipe. Out: an int8 module. `backend` says what is asked of an
engine; `onednn` is the one of post-training quantization, `fx/`, by torch's own graphs, that of
trainings. Read of the first in this order: `kernels/`, `ranges/`, `quantized_layer`,
`observed_layer`, `equalization`, `corrections`, `functions/`, `damage`, `layers`, `graph/`, `program/`,
`floats`, `onednn`.
"""
