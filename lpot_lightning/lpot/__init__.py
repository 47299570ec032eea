"""LPOT's own classes, without a Trainer.

In: a YAML, a plain module, functions and loaders. Out: a model and a result. Read in this order:
`quantization`, `given`, `data_sources`, `quantize_plainly`; `pruning` and `benchmark` go the same
way.
"""
