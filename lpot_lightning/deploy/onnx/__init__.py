"""ONNX with pairs of quantize and dequantize.

In: one graph of a method, with its int8 program. Out: a model in which each runtime finds what it
computes in int8, and which op of a file is wrong. Read in this order: `pairs`, `placing`,
`onnx_file`, `faults`.
"""
