"""The files of a model: written whole, read without trust.

In: the tensors of a model, its tune config, and what else it is known by. Out: the same model, in
another process. Read in this order: `constants`, `first_calls`, `probe`, `traits`, `tune_config`,
`archives`, `believable`, `storage`, `restore`; then `earlier`.
"""
