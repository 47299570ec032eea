"""A model that rounds as int8 will, while it trains.

In: the user's module, the ops that are to be int8, and what is known of their inputs. While it
trains each of these layers, and each function with an own weight, rounds its input and its weight
and computes as it did. Out: the ranges that training batches came to, as plain values that a
checkpoint keeps and that int8 is made of. Read in this order: `rounding`, `ranges`, `layers`,
`functions`, `training`, `state`, `converted`.
"""
