"""A module as a graph, and when it may be used.

In: a module whose layers are int8 by themselves. Out: the same module, with graphs that compute for
the calls that they were made for. Read in this order: `ops`,
`weight_calls`, `sources`, `guards`, `hooks`, `compiled`, `own_code`, `capture`, `tracing`,
`exporting`.
"""
