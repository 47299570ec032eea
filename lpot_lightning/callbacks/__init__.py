"""The callbacks, each in the order of its hooks; they decide nothing.

In: a YAML and a Trainer that fits. Out: a result when the fit is over, files in a workspace. Read
in this order: `judged` (what all have in common), `tuned`, `quantization`; `qat`, `pruning`,
`benchmark`.
"""
