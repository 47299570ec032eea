"""One run from conf to result: search, prune, keep the best.

In: a model, a checked conf, and what judges and feeds it. Out: a result, and the files of a
workspace. Read in this order: `job`, `quantize`, `preparation`, `ranker`, `best_model`,
`tuning_result`; `prune`.
"""
