"""Which weights, heads, channels go, and when.

In: a module and the pruners of a YAML. Out: masks that hold while it trains, and a plan that cuts
channels. Read in this order: `model_pruner`, `schedule`, `masks`, `pruners`, `patterns`; `heads`,
`channel_pruner`, `channels/`.
"""
