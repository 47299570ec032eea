"""The files of a model: written whole, read without trust.

In: the tensors of a model and its tune config. Out: the same model, in another process. Read in
this order: `tune_config`, `storage`, `restore`.
"""
