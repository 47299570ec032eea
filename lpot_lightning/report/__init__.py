"""One page about a run: what was asked, what came of it, what became of each op.

In: `facts`, plain values, whoever has collected them. Out: HTML that needs nothing else, also no
network and no JavaScript. Read in this order: `facts`, `markup`, `numbers`, `charts`, `page`; each
other file draws one section.
"""
