"""How int8 is computed: oneDNN's kernels, and below each of them arithmetic that is always right.

In: integers, the grids that they are on, weights. Out: integers on another grid, or floats. Read in
this order: `grid`, `bounds`, `post_op`, `arithmetic`, `pack`, `saturation`, `layers`, `bound`,
`proof`, `recorded`, `loaded`.
"""
