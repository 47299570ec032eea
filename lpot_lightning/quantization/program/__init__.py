"""The int8 program of a captured graph: explicit quantize and dequantize, final integers.

In: a graph in which layers stand as one op each. Out: what computes it, integers flowing from
kernel to kernel. Read in this order: `memory`, `draft`, `functions`, `layouts`, `scaling`,
`moves`, `post_ops`, `streams`, `chains`, `fewer_passes`, `watched`, `scripted`, `program`.
"""
