"""A placed program as an ONNX model, written by torch's exporter."""

from __future__ import annotations

import ast
import logging
import re
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import fx

from lpot_lightning.deploy.calls import Input
from lpot_lightning.deploy.exported_program import exported_program
from lpot_lightning.deploy.onnx.pairs import AS_FLOATS, DEQUANTIZE, LINEAR, QUANTIZE
from lpot_lightning.errors import ExportError, in_short
from lpot_lightning.version import VERSION

OP = "lpot_op"
"""The property of a node that names the op of the user's model that it belongs to."""
_MOST_BYTES = 2**31 - 1
_LOGGERS = "torch.onnx", "onnxscript", "onnx_ir"
_SCOPES = "pkg.torch.onnx.name_scopes"
_TARGET = re.compile(r"target=torch\.ops\.([\w.]+)\]")
_WORD = re.compile(r"\w+")
_MISSING = re.compile(r"No ONNX function found for <OpOverload\(op='([\w.:]+)'")


def onnx_model(
    module: fx.GraphModule,
    inputs: Sequence[Input],
    output_names: Sequence[str],
    ops: Mapping[str, str],
    opset: int | None = None,
) -> bytes:
    """Return a model of ``module`` as the content of a file.

    Args:
        module: computes it in floats, with pairs for what is int8.
        inputs: of it.
        output_names: of what it gives.
        ops: paths of ops in the user's model, by the names of the submodules that compute them.
        opset: of ONNX; ``None``: that of torch's exporter.

    Raises:
        ExportError: if ONNX has no op for something that the module does, or the model is too large
            for one file.
    """
    program = exported_program(module, inputs)
    with _quietly():
        try:
            made: Any = torch.onnx.export(
                program,
                dynamo=True,
                verbose=False,
                opset_version=opset,
                custom_translation_table=_translations(),
                input_names=[one.name for one in inputs],
                output_names=list(output_names),
            )
            model = made.model_proto
        except Exception as error:  # whatever torch's exporter, or what it stands on, says
            raise _untranslated(error) from error
    _describe(model, ops)
    _part(model)
    _cast(model)
    _name_sizes(model, inputs)
    if model.ByteSize() > _MOST_BYTES:
        raise ExportError(
            f"the model has {model.ByteSize() / 1e9:.1f} GB; one ONNX file holds up to 2: export"
            " parts of it by `method`, or quantize more of it"
        )
    content: bytes = model.SerializeToString()
    return content


def _translations() -> dict[Any, Callable[..., Any]]:
    """Return what stands in ONNX for our ops."""
    from onnxscript import opset18 as op

    def quantize(x: Any, scale: Any, zero_point: Any) -> Any:
        return op.QuantizeLinear(x, scale, zero_point)

    def dequantize(x: Any, scale: Any, zero_point: Any, axis: int) -> Any:
        return op.DequantizeLinear(x, scale, zero_point, axis=axis)

    def as_floats(x: Any) -> Any:
        one: Any = op.Constant(value_float=1.0)
        return op.DequantizeLinear(x, one)

    def matmul_add(x: Any, weight: Any, bias: Any = None) -> Any:
        if bias is not None and len(x.shape) == 2:
            return op.Gemm(x, weight, bias)
        found = op.MatMul(x, weight)
        return found if bias is None else op.Add(found, bias)

    def mean(x: Any, dim: Sequence[int], keepdim: bool = False, dtype: int = -1) -> Any:
        rank, whole = len(x.shape), dtype in (-1, None)
        if whole and keepdim and rank > 2 and {one % rank for one in dim} == {*range(2, rank)}:
            return op.GlobalAveragePool(x)  # ONNX Runtime has it for integers, and no ReduceMean
        dims: Any = op.Constant(value_ints=list(dim))
        found = op.ReduceMean(x, dims, keepdims=int(keepdim))
        return found if whole else op.Cast(found, to=dtype)

    return {
        QUANTIZE: quantize,
        DEQUANTIZE: dequantize,
        AS_FLOATS: as_floats,
        LINEAR: matmul_add,
        torch.ops.aten.mean.dim: mean,
    }


def _describe(model: Any, ops: Mapping[str, str]) -> None:
    """Let nodes name the user's ops, in place of lines of code on the machine that exported."""
    model.producer_name, model.producer_version = "lpot_lightning", VERSION
    model.doc_string = ""
    for node in model.graph.node:
        scopes = {one.key: one.value for one in node.metadata_props}.get(_SCOPES, "[]")
        names = [part for scope in ast.literal_eval(scopes) for part in scope.split(".")[:1]]
        op = next((ops[name] for name in names if name in ops), None)
        del node.metadata_props[:]
        if op is not None:
            node.metadata_props.add(key=OP, value=op)
    for held in (model.graph.value_info, model.graph.initializer, model.graph.input):
        for one in held:
            del one.metadata_props[:]
    del model.graph.metadata_props[:]


def _part(model: Any) -> None:
    """Give each reader of dequantized values a DequantizeLinear of its own.

    The exporter makes one of several that are equal, and runtimes fuse only one that has a single
    reader: ONNX Runtime 1.32 computes a matrix product in floats otherwise.
    """
    graph, seen, added = model.graph, set(), []
    makers = {one.output[0]: one for one in graph.node if one.op_type == "DequantizeLinear"}
    for node in graph.node:
        for place, name in enumerate(node.input):
            if name in makers and name in seen:
                own = f"{name}_for_{node.output[0]}_{place}"
                made = type(makers[name])()
                made.CopyFrom(makers[name])
                made.name, made.output[0] = f"node_{own}", own
                node.input[place] = own
                added.append((makers[name].name, made))
            seen.add(name)
    _insert(graph, added)


def _cast(model: Any) -> None:
    """Let integers that stay such in the file become floats by Cast.

    The exporter computes a Cast of few integers itself, and writes floats; of DequantizeLinear,
    which it leaves alone, runtimes make something else. Pairs have a zero point besides.
    """
    from onnx import TensorProto, helper

    for node in model.graph.node:
        if node.op_type == "DequantizeLinear" and len(node.input) == 2:
            del node.input[1:], node.attribute[:]
            node.op_type = "Cast"
            node.attribute.append(helper.make_attribute("to", TensorProto.FLOAT))


def _insert(graph: Any, added: Sequence[tuple[str, Any]]) -> None:
    """Put nodes behind those of the names that they come with."""
    nodes = list(graph.node)
    del graph.node[:]
    for node in nodes:
        graph.node.append(node)
        graph.node.extend(made for name, made in added if name == node.name)


def _name_sizes(model: Any, inputs: Sequence[Input]) -> None:
    """Call sizes that may be any what they are called: the exporter knows symbols."""
    names = {
        given.type.tensor_type.shape.dim[dim].dim_param: name
        for given, one in zip(model.graph.input, inputs, strict=True)
        for dim, name in one.dynamic.items()
    }
    graph = model.graph
    for value in (*graph.input, *graph.output, *graph.value_info):
        for dim in value.type.tensor_type.shape.dim:
            if dim.dim_param:
                dim.dim_param = _WORD.sub(lambda one: names.get(one[0], one[0]), dim.dim_param)


def _untranslated(error: Exception) -> ExportError:
    """Return the error for what the exporter cannot write: which op, and the first reason of it."""
    told, last = [], error
    while True:
        told.append(str(last))
        if last.__cause__ is None:
            break
        last = last.__cause__  # type: ignore[assignment]
    missing = next(filter(None, map(_MISSING.search, told)), None)
    if missing:
        return ExportError(
            f"ONNX has nothing for `{missing[1]}`: write that part of `forward` with other"
            " functions, export a part without it by `method`, or export `.pt2`"
        )
    op = next(filter(None, map(_TARGET.search, told)), None)
    which = "the model" if op is None else f"`{op[1]}`"
    return ExportError(
        f"torch's ONNX exporter cannot take {which} ({in_short(last)}): write that part with other"
        " functions, or export `.pt2`"
    )


@contextmanager
def _quietly() -> Iterator[None]:
    """Keep back what the exporter says of packages that it does not need, in warnings and logs."""
    loggers = [logging.getLogger(name) for name in _LOGGERS]
    before = [one.level for one in loggers]
    try:
        for one in loggers:
            one.setLevel(logging.CRITICAL)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for one, level in zip(loggers, before, strict=True):
            one.setLevel(level)
