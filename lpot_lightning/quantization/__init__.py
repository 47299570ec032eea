"""From fp32 to int8.

In: a module, calibration batches, a recipe. Out: an int8 module. `backend` says what is asked of
an engine; `fx/` is the one that there is.
"""
