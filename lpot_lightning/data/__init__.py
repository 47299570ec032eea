"""What a YAML names of data sets, transforms, metrics.

In: blocks of a conf, local files. Out: loaders, batches, meters. Read in this order: `block`,
`loader`, `datasets`, `transforms`, `metrics`, `batches`.
"""
