"""Files that torch alone runs: exported, compiled ahead of time, traced.

In: the graph of a method. Out: a file of torch's own ops. Read in this order: `steps`, `pt2`,
`aoti`, `torchscript`.
"""
