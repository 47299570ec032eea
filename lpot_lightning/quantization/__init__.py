"""From fp32 to int8.

In: a module, calibration batches, a recipe. Out: an int8 module. `backend` says what is asked of
an engine, and `fx/`, by torch's own graphs, is the one that runs use. The rest is one that needs
nothing of `torch.ao` and takes its place when it is whole. Read of it in this order: `kernels/`,
`ranges/`, `quantized_layer`, `observed_layer`, `layers`, `graph/`, `onednn`.
"""
