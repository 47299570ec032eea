"""The two command lines, `LPOTCLI` and `lpot-lightning`, and what they do without a fit.

In: arguments of a shell, YAML files, a Trainer that has nothing to train. Out: exit codes, tables,
a result. Read in this order: `cli`, `quantize`, `benchmark`; then `main`, `check`, `show`,
`selftest`, `skill`.
"""
