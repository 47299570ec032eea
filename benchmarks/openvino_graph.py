"""What of an OpenVINO model is int8, as NNCF has quantized it."""

from __future__ import annotations

from typing import Any

import openvino as ov

MOVES = ("Concat", "Gather", "MaxPool", "Reshape", "Slice", "Split", "Squeeze", "StridedSlice")
MOVES += ("Transpose", "Unsqueeze", "VariadicSplit")
"""What only moves values that are quantized above it."""
LAYERS = ("Convolution", "GroupConvolution", "MatMul", "GRUSequence")


def is_quantized(value: ov.Output) -> bool:
    """Whether ``value`` is quantized, or made of int8 constants."""
    node = value.get_node()
    kind = node.get_type_name()
    if kind == "FakeQuantize":
        return True
    if kind == "Constant":
        return node.get_element_type().size == 1
    first = node.input_values()[:1]  # of scale and shape changes: the tensor
    return kind in ("Convert", "Subtract", "Multiply", "Reshape") and is_quantized(first[0])


def layers_in_int8(model: ov.Model) -> int:
    """Count layers with weights whose inputs are all quantized, or moved after that."""
    ops = [op for op in model.get_ordered_ops() if op.get_type_name() in LAYERS]
    return sum(
        any(map(is_constant, op.input_values())) and all(map(was_quantized, op.input_values()))
        for op in ops
    )


def was_quantized(value: Any) -> bool:
    """Whether ``value`` is quantized, or parts of what is."""
    node = value.get_node()
    if is_quantized(value) or node.get_type_name() not in MOVES:
        return bool(is_quantized(value))
    moved = node.input_values()
    return all(map(was_quantized, moved if node.get_type_name() == "Concat" else moved[:1]))


def is_constant(value: Any) -> bool:
    """Whether ``value`` is computed of constants alone."""
    node = value.get_node()
    inputs = node.input_values()
    return node.get_type_name() == "Constant" or bool(inputs) and all(map(is_constant, inputs))
