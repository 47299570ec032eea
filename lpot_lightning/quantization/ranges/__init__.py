"""What values pass, and which of them 8 bits are to hold.

In: the tensors of a calibration. Out: a grid for each. Read in this order: `histogram`, `choice`.
"""
