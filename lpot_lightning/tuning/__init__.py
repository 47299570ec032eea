"""Which recipe next; knows no torch.

In: a space of ops and settings, and a function that scores a recipe. Out: trials, the best of
them, a history on disk. Read in this order: `space`, `trial`, `score`, `loop`, `strategies/`.
"""
