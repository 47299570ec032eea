"""Where a graph is watched: torch's choice, put right."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from torch.ao.quantization import (
    QConfig,
    QConfigMapping,
    float_qparams_weight_only_qconfig,
    get_default_qconfig_mapping,
)
from torch.ao.quantization.fx.custom_config import PrepareCustomConfig
from torch.ao.quantization.fx.prepare import prepare
from torch.ao.quantization.observer import (
    FixedQParamsObserver,
    PerChannelMinMaxObserver,
    ReuseInputObserver,
    default_weight_observer,
)
from torch.fx import GraphModule, Node
from torch.fx.node import map_arg

from lpot_lightning.quantization.fx.capability import has_kernel
from lpot_lightning.quantization.fx.graph import observer_nodes
from lpot_lightning.quantization.fx.observer import RangeObserver
from lpot_lightning.quantization.fx.trace import Scopes

EMBEDDINGS = (nn.Embedding, nn.EmbeddingBag)
_PER_CHANNEL = PerChannelMinMaxObserver.with_args(
    dtype=torch.qint8, qscheme=torch.per_channel_symmetric
)
# A weight given to a function ends as a ScriptObject in the state_dict, which `weights_only`
# cannot read; recurrent layers have no static kernel, `F.group_norm` is never lowered, and the
# int8 `nn.ELU` keeps its scale out of the state_dict.
NOT_QUANTIZED = (
    F.linear, F.conv1d, F.conv2d, F.conv3d,
    F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d,
    F.embedding, F.embedding_bag,
    nn.LSTM, nn.GRU, nn.LSTMCell, nn.GRUCell, nn.RNNCell,
    nn.ELU, F.group_norm,
)  # fmt: skip


def observe(
    graph: GraphModule, scopes: Scopes, reduce_range: bool, kept: Collection[str] = ()
) -> GraphModule:
    """Put an observer wherever an op reads or gives what int8 may hold; ``kept`` layers do not."""
    end = next(iter(reversed(graph.graph.nodes)))
    shape = end.args[0]
    end.args = (_nodes_in(shape),)  # torch's prepare fails on numbers and dicts inside of a tuple
    graph = prepare(
        graph,
        _mapping(graph, reduce_range, kept),
        False,
        scopes,
        example_inputs=(),
        prepare_custom_config=PrepareCustomConfig(),
    )
    _give_shape_back(graph, shape)
    _watch_inputs(graph, reduce_range)
    _share_outputs(graph)
    return graph.requires_grad_(False)


def _nodes_in(value: Any) -> tuple[Node, ...]:
    found: list[Node] = []

    def take(node: Node) -> Node:
        found.append(node)
        return node

    map_arg(value, take)
    return tuple(found)


def _give_shape_back(graph: GraphModule, shape: Any) -> None:
    end = next(iter(reversed(graph.graph.nodes)))
    observed = iter(_nodes_in(end.args[0]))
    end.args = (map_arg(shape, lambda _: next(observed)),)
    graph.recompile()


def _watch_inputs(graph: GraphModule, reduce_range: bool) -> None:
    """Watch what sigmoid and the like read: torch holds it in the range of what they give."""
    qconfigs = graph.meta["_observed_graph_module_attrs"].node_name_to_qconfig
    fixed = {
        str(node.target): node.all_input_nodes[0].name
        for node in observer_nodes(graph)
        if isinstance(graph.get_submodule(str(node.target)), FixedQParamsObserver)
    }
    given = {
        id(graph.get_submodule(target))
        for target, source in fixed.items()
        if qconfigs.get(source) and isinstance(qconfigs[source].activation(), FixedQParamsObserver)
    }
    for target in fixed:
        if id(graph.get_submodule(target)) not in given:
            setattr(graph, target, RangeObserver(reduce_range))


def _share_outputs(graph: GraphModule) -> None:
    """Give a layer that is called several times one output observer: it has but one scale."""
    seen: dict[str, nn.Module] = {}
    for node in list(observer_nodes(graph)):
        source = node.all_input_nodes[0]
        if source.op != "call_module":
            continue
        mine = graph.get_submodule(str(node.target))
        first = seen.setdefault(str(source.target), mine)
        for name, module in list(graph._modules.items()):
            if module is mine and isinstance(first, RangeObserver):
                setattr(graph, name, first)


def _mapping(graph: GraphModule, reduce_range: bool, kept: Collection[str]) -> QConfigMapping:
    """Return torch's own choice for every op, with our observer where it has one to choose."""
    activation = RangeObserver.with_args(reduce_range=reduce_range)

    def observed(weight: object) -> QConfig:
        return QConfig(activation=activation, weight=weight)  # type: ignore[no-untyped-call]

    mapping = QConfigMapping().set_global(observed(_PER_CHANNEL))
    for kind, theirs in get_default_qconfig_mapping("onednn").object_type_qconfigs.items():
        assert theirs is not None
        keep = isinstance(theirs.activation(), FixedQParamsObserver | ReuseInputObserver)
        mapping.set_object_type(kind, theirs if keep else observed(theirs.weight))
    for transposed in (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d):
        mapping.set_object_type(transposed, observed(default_weight_observer))
    for embedding in EMBEDDINGS:
        mapping.set_object_type(embedding, float_qparams_weight_only_qconfig)
    for kind in NOT_QUANTIZED:
        mapping.set_object_type(kind, None)
    for name, module in graph.named_modules():
        if name in kept or not has_kernel(module):
            mapping.set_module_name(name, None)
    return mapping
