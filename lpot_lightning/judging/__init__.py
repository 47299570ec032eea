"""How good: data, metric or function, verdict.

In: a model. Out: its accuracy, and what a pass has cost. Read in this order: `protocols` (what a
run asks of whoever owns the data), `plain_runner`, `loader_judge`; `screened_judge` ends hopeless
trials.
"""
