"""How fast: in turns, on which cores, in which processes.

In: models and held batches. Out: seconds, as percentiles and throughput. Read in this order:
`in_turns`, `percentiles`, `result`; `cores`, `processes`, `in_process`.
"""
