"""What hurts an op in int8: simulated without one thing after the other.

In: calibrated ops. Out: their errors with and without. Read in this order: `diagnosis`,
`simulated_op`, `diagnoser`.
"""
