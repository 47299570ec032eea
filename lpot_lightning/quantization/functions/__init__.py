"""Modules that compute with their own weights in a `forward` of their own, in int8.

In: such a module, called with data. Out: int8 forms of its calls of `F.linear` and convolutions.
Read in this order: `watching`, `observed`, `forward`, `owners`, `stored`,
`rebuilt`.
"""
