"""Which tensors of a graph are those of the module it stands for."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from itertools import chain

from torch import Tensor, nn
from torch.fx import GraphModule

from lpot_lightning.module.stand_in import StandIn


class SharedTensors:
    """Follows the tensors of a module through trace, fusion and conversion.

    What an int8 graph still needs as it is, it shares with the module; what it holds in another
    form, the module does not need any more; what it never used stays where it is.

    Args:
        graph: just traced.
        module: what was traced.
        prefix: what stands before the names of ``module`` in ``graph``.
        kept: layers of ``module`` whose tensors others read.
    """

    def __init__(
        self, graph: GraphModule, module: nn.Module, prefix: str, kept: Collection[str]
    ) -> None:
        self._prefix = prefix
        self._own = frozenset(name for name, _ in _named_tensors(module))
        self._kept = self._under(kept)
        layers = [str(n.target) for n in graph.graph.nodes if n.op == "call_module"]
        direct = [self._name(str(n.target)) for n in graph.graph.nodes if n.op == "get_attr"]
        self._used = self.under(layers) | self._own.intersection(direct)
        self._traced = [
            (tensor, self._name(name))
            for name, tensor in _named_tensors(graph)
            if self._name(name) in self._own
        ]
        self._shared: dict[str, str] = {}

    def follow(self, graph: GraphModule) -> None:
        """Find the tensors again that the fusion left as they were."""
        for name, tensor in _named_tensors(graph):
            origins = [origin for traced, origin in self._traced if traced is tensor]
            if origins:
                same = self._name(name) in origins
                self._shared[name] = self._name(name) if same else origins[0]
        self._traced = []

    def under(self, layers: Iterable[str]) -> frozenset[str]:
        """Return the names of the module's tensors that the graph's ``layers`` hold."""
        return self._under(map(self._name, layers)) - self._kept

    def stand_in(self, converted: GraphModule) -> StandIn:
        """Return ``converted`` with what it shares and what is gone."""
        names = {name for name, _ in _named_tensors(converted)}
        shared = {ours: theirs for ours, theirs in self._shared.items() if ours in names}
        gone = self._used - self._kept - set(shared.values())
        return StandIn(converted, shared, tuple(sorted(gone)))

    def _under(self, layers: Iterable[str]) -> frozenset[str]:
        paths = tuple(f"{layer}." if layer else "" for layer in layers)
        return frozenset(name for name in self._own if name.startswith(paths))

    def _name(self, name: str) -> str:
        """Return what the module calls what the graph calls ``name``."""
        return f"{name}.".removeprefix(self._prefix).removesuffix(".")


def _named_tensors(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    return chain(
        module.named_parameters(remove_duplicate=False),
        module.named_buffers(remove_duplicate=False),
    )
