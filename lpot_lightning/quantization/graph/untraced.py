"""Which modules are no graph as they are written, and why."""

from __future__ import annotations

from collections.abc import Mapping

from lpot_lightning.module.calls import ModuleCalls
from lpot_lightning.module.untouched import as_before, at_rest
from lpot_lightning.quantization.graph.breaks import GraphBreak
from lpot_lightning.quantization.graph.capture import Captured


def untraced(
    captured: Mapping[str, Captured], calls: Mapping[str, ModuleCalls]
) -> dict[str, GraphBreak]:
    """Return the modules whose own code ends a graph, by path, each with the first such place.

    Args:
        captured: what computes for the roots of a model, by path, and has computed.
        calls: of each, one of which is captured again where no graph computed some call and none
            tells why: a break in a loop leaves no graph behind.

    Example::

        untraced(prepared.graphs(model), calls)  # {"net.gate": GraphBreak("Unsupported …", …)}
    """
    found: dict[str, GraphBreak] = {}
    for path, one in captured.items():
        is_unclear = not one.breaks.are_told or (one.counts.by_layers and not one.breaks.found)
        if is_unclear and calls[path].count:
            _look_again(one, calls[path])
        for inner, why in one.breaks.by_module(one.module).items():
            found[".".join(filter(None, (path, inner)))] = why
    return found


def _look_again(captured: Captured, calls: ModuleCalls) -> None:
    module = captured.module
    with at_rest(module), as_before(module.modules()):
        captured.find_break(*calls.args, **calls.kwargs)
