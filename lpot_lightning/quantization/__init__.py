"""From fp32 to int8.

In: a module, calibration batches, a recipe. Out: an int8 module. `backend` says what is asked of an
engine, and `onednn` is one. `training/` lets a module round while it trains. Read in this order:
`kernels/`, `ranges/`, `quantized_layer`, `observed_layer`, `equalization`, `corrections`,
`functions/`, `damage`, `diagnosing/`, `graph/`, `program/`, `training/`, `observed_ops`,
`op_forms`, `layers`, `reasons`, `floats`, `onednn`.
"""
