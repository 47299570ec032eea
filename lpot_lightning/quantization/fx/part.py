"""One traced module: prepared once, converted once a trial."""

from __future__ import annotations

import copy
import operator
from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

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
from torch.ao.quantization.fx.fuse import fuse
from torch.ao.quantization.fx.prepare import prepare
from torch.ao.quantization.observer import (
    FixedQParamsObserver,
    PerChannelMinMaxObserver,
    ReuseInputObserver,
    default_weight_observer,
)
from torch.ao.quantization.quantize_fx import (
    _attach_meta_to_node_if_not_exist,
    _swap_ff_with_fxff,
    convert_fx,
)
from torch.fx import GraphModule

from lpot_lightning.quantization.calls import Scalar
from lpot_lightning.quantization.fx.graph import GraphOps, observer_nodes, read_ops
from lpot_lightning.quantization.fx.observer import QParams, RangeObserver, SettledObserver
from lpot_lightning.quantization.fx.trace import trace
from lpot_lightning.recipe import OpConfig

WRAPPED = "0"  # where a single layer sits in the Sequential that is traced in its stead
EMBEDDINGS = (nn.Embedding, nn.EmbeddingBag)
_PER_CHANNEL = PerChannelMinMaxObserver.with_args(
    dtype=torch.qint8, qscheme=torch.per_channel_symmetric
)
_IN_PLACE = {operator.iadd: operator.add, operator.imul: operator.mul}
# A weight given to a function ends as a ScriptObject in the state_dict, which `weights_only`
# cannot read; recurrent layers have no static kernel.
NOT_QUANTIZED = (
    F.linear, F.conv1d, F.conv2d, F.conv3d,
    F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d,
    F.embedding, F.embedding_bag,
    nn.LSTM, nn.GRU, nn.LSTMCell, nn.GRUCell, nn.RNNCell,
)  # fmt: skip


@dataclass(frozen=True)
class PartSpec:
    """What is needed to trace and prepare a part again: plain values, kept in the files.

    Args:
        path: dotted path of the module in the user's model; ``""`` is the model itself.
        wrapped: whether the module is a single layer, traced inside a ``Sequential``.
        fixed: the non-tensor arguments of its ``forward``.
    """

    path: str
    wrapped: bool
    fixed: tuple[tuple[str, Scalar], ...] = ()

    def name_of(self, inner: str) -> str:
        """Return the full name of what the graph calls ``inner``."""
        if self.wrapped:
            inner = inner.removeprefix(WRAPPED)
        return ".".join(piece for piece in (self.path, inner) if piece)


class Part:
    """A module of the user's model as an observed graph."""

    def __init__(self, spec: PartSpec, graph: GraphModule, ops: GraphOps) -> None:
        self.spec = spec
        self.graph = graph
        self.ops = ops
        self.ranges: dict[str, RangeObserver] = {}
        self._last: tuple[tuple[object, ...], nn.Module] | None = None

    @classmethod
    def build(cls, spec: PartSpec, module: nn.Module, *, reduce_range: bool) -> Part:
        """Trace, fuse and observe ``module``; it is left as it is.

        Raises:
            NotTraceable: if the module cannot become one graph.
        """
        root = nn.Sequential(module) if spec.wrapped else module
        graph, scopes = trace(root, dict(spec.fixed))
        _take_out_in_place(graph)
        _swap_ff_with_fxff(graph)
        _attach_meta_to_node_if_not_exist(graph)
        graph = fuse(graph, is_qat=False)
        graph = prepare(
            graph,
            _mapping(reduce_range),
            False,
            scopes,
            example_inputs=(),
            prepare_custom_config=PrepareCustomConfig(),
        )
        graph.requires_grad_(False)
        return cls(spec, graph, read_ops(graph, scopes, spec.name_of))

    def settle(self) -> None:
        """Take the observers out of the graph; from here on it is read only."""
        for node in observer_nodes(self.graph):
            target = str(node.target)
            found = self.graph.get_submodule(target)
            if isinstance(found, RangeObserver):
                self.ranges[target] = found
                setattr(self.graph, target, SettledObserver())

    def unusable(self) -> dict[str, str]:
        """Return the ops whose observers saw nothing that int8 can hold, each with the reason."""
        found: dict[str, str] = {}
        for node in observer_nodes(self.graph):
            seen = self.ranges.get(str(node.target))
            if seen is not None and not seen.usable:
                why = "works on integers" if seen.foreign else "saw no calibration data"
                found.update(dict.fromkeys(self.ops.touching(node), why))
        return found

    def chosen_qparams(self, configs: Mapping[str, OpConfig]) -> dict[str, QParams]:
        """Return scale and zero point of every observer, by its name in the graph."""
        owners: dict[int, str | None] = {}
        chosen: dict[str, QParams] = {}
        for node in observer_nodes(self.graph):
            seen = self.ranges.get(str(node.target))
            if seen is None:
                continue
            owner = owners.setdefault(id(seen), self.ops.owner(node))
            wish = configs[owner].activation if owner is not None and owner in configs else None
            scheme = wish.scheme if wish and wish.scheme in ("asym", "sym") else "asym"
            algorithm = wish.algorithm if wish and wish.algorithm else "kl"
            usable = seen.usable
            chosen[str(node.target)] = seen.qparams(scheme, algorithm) if usable else (1.0, 0)
        return chosen

    def output_qparams(self, configs: Mapping[str, OpConfig]) -> dict[str, QParams]:
        """Return scale and zero point of what each op gives on, where an observer follows it."""
        chosen = self.chosen_qparams(configs)
        found: dict[str, QParams] = {}
        for node in observer_nodes(self.graph):
            for op in self.ops.producers[node.name]:
                if str(node.target) in chosen:
                    found.setdefault(op, chosen[str(node.target)])
        return found

    def weight_bytes(self, op: str) -> int:
        """Return the bytes of the fp32 parameters of ``op``."""
        layers = {str(n.target) for n in self.ops.nodes[op] if n.op == "call_module"}
        modules = (self.graph.get_submodule(layer) for layer in layers)
        return sum(p.numel() * p.element_size() for m in modules for p in m.parameters())

    def was_fused(self, inner: str) -> bool:
        """Whether the layer the user calls ``inner`` has become part of another one."""
        try:
            layer = self.graph.get_submodule(f"{WRAPPED}.{inner}" if self.spec.wrapped else inner)
        except AttributeError:
            return True
        return not list(layer.parameters())

    def convert(self, configs: Mapping[str, OpConfig]) -> nn.Module | None:
        """Return an int8 module, or ``None`` where every op of this part stays fp32.

        Args:
            configs: of every op of this part.
        """
        key = tuple((op, configs[op]) for op in self.ops.nodes)
        fp32 = {op for op, config in key if config.is_fp32}
        if fp32 >= set(self.ops.nodes):
            return None
        if self._last is None or self._last[0] != key:
            self._last = key, self._convert(configs, fp32)
        return self._last[1]

    def _convert(self, configs: Mapping[str, OpConfig], fp32: set[str]) -> nn.Module:
        graph = copy.deepcopy(self.graph)
        for target, (scale, zero_point) in self.chosen_qparams(configs).items():
            setattr(graph, target, SettledObserver(scale, zero_point))
        qconfigs = graph.meta["_observed_graph_module_attrs"].node_name_to_qconfig
        for name in self._left_in_fp32(fp32):
            qconfigs[name] = None
        return cast(nn.Module, convert_fx(graph))

    def _left_in_fp32(self, fp32: set[str]) -> list[str]:
        nodes = [node for op in fp32 for node in self.ops.nodes[op]]
        nodes += [node for node in self.ops.followers if self.ops.follows_fp32(node, fp32)]
        return [node.name for node in (*nodes, *self.ops.bystanders)]


def _take_out_in_place(graph: GraphModule) -> None:
    """Let no node change the value of another: single nodes are run again when ranking."""
    for node in graph.graph.nodes:
        if node.target in _IN_PLACE:
            node.target = _IN_PLACE[node.target]
        elif node.op == "call_method" and node.target in ("relu_", "add_", "mul_", "squeeze_"):
            node.target = str(node.target).rstrip("_")
        elif node.kwargs.get("inplace"):
            node.kwargs = {**node.kwargs, "inplace": False}
        elif node.op == "call_module":
            module = graph.get_submodule(str(node.target))
            if getattr(module, "inplace", False) is True:
                module.inplace = False  # type: ignore[assignment]
    graph.recompile()


def _mapping(reduce_range: bool) -> QConfigMapping:
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
    return mapping
