"""How fast: in turns, on which cores, in which processes.

In: models and held batches. Out: seconds, as percentiles and throughput, and how sure a speed-up
is. Read in this order: `ratio`, `in_turns`, `percentiles`, `result`; `cores`, `processes`,
`in_process`.
"""
