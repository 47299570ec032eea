"""A user's `nn.Module`: copied, watched, computed for; no word of int8.

In: any module. Out: a second one, who calls what in it, or the same with something else computing
in its place, and as it was afterwards. Read in this order: `copying`, `calls`, `stand_in`,
`untouched`.
"""
