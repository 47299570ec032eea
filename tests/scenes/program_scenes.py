"""A model whose layers are int8, computed by graphs, and what those are made of."""

from __future__ import annotations

import copy
from collections.abc import Collection
from typing import Any

import torch
from grid_scenes import grid_over
from torch import Tensor, fx, nn

from lpot_lightning.module.stand_in import StandIn, put
from lpot_lightning.quantization.graph.capture import Captured
from lpot_lightning.quantization.kernels.grid import Grid
from lpot_lightning.quantization.layer_forward import LayerForward
from lpot_lightning.quantization.program.program import Program
from lpot_lightning.quantization.quantized_layer import kind_of, quantized


def in_int8(
    model: nn.Module,
    grids: dict[str, Grid] | None = None,
    factors: dict[str, Tensor] | None = None,
    floats: Collection[str] = (),
) -> nn.Module:
    """Return a copy whose layers are int8 by themselves, but for ``floats``."""
    made = copy.deepcopy(model).eval()
    layers = {name: layer for name, layer in made.named_modules() if kind_of(layer)}
    parts = {}
    for name, layer in layers.items():
        if name in floats:
            vars(layer)["forward"] = LayerForward(layer, None)
            continue
        grid = (grids or {}).get(name, grid_over(-3, 3))
        form = quantized(layer, grid, factors=(factors or {}).get(name))
        forward = LayerForward(layer, form)
        parts[name] = StandIn(form, gone=("weight", "bias"), forward=forward)
    put(made, parts)
    return made


def captured(model: nn.Module) -> tuple[nn.Module, list[Program]]:
    made, graphs = copy.deepcopy(model), []

    def lower(graph, inputs):
        graphs.append(Program(graph, inputs))
        return graphs[-1]

    vars(made)["forward"] = Captured(made, lower)
    return made, graphs


def ops(program: Program) -> list[Any]:
    """Return what is computed, without that a caller gets it in the layout of fp32."""
    called = [node for node in program.graph.nodes if node.op.startswith("call")]
    nodes = [node for node in called if not _lays_out(node)]
    steps = [program._draft.step(node) for node in nodes]
    return [
        node.target if step is None else type(step) for node, step in zip(nodes, steps, strict=True)
    ]


def _lays_out(node: fx.Node) -> bool:
    return node.target == "contiguous" and all(one.op == "output" for one in node.users)


def assert_same(fused: nn.Module, layers: nn.Module, *inputs: Any) -> None:
    """Integers may be one step beside, where roundings are done in another order."""
    with torch.no_grad():
        found, wanted = fused(*inputs), layers(*inputs)
    beside = (found - wanted).abs() > 1e-5 * wanted.abs().max()
    assert float(beside.float().mean()) < 0.01
    assert float((found - wanted).norm() / wanted.norm()) < 0.01
