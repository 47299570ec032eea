"""A module in, its graph out, proved equal."""

from __future__ import annotations

import copy
import inspect
import operator
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.ao.quantization.fx.tracer import QuantizationTracer
from torch.fx import GraphModule, Proxy
from torch.utils import _pytree as pytree

from lpot_lightning.errors import QuantizationError, in_short
from lpot_lightning.module.calls import ModuleCalls, Scalar
from lpot_lightning.module.copying import copy_of
from lpot_lightning.module.folding import fold_weights

Scopes = dict[str, tuple[str, type]]


class NotTraceable(QuantizationError):
    """This module cannot become one graph; its parts may."""


@contextmanager
def told(what: str) -> Iterator[None]:
    """Turn whatever torch raises about a user's model into ``NotTraceable``."""
    try:
        yield
    except NotTraceable:
        raise
    except Exception as error:
        reason = in_short(error)
        raise NotTraceable(f"{what}: {reason}") from error


def trace(
    module: nn.Module, fixed: Mapping[str, Scalar], *, stands_for: str = "", training: bool = False
) -> tuple[GraphModule, Scopes]:
    """Trace ``module``, with the arguments in ``fixed`` taken as constants.

    Args:
        module: left as it is; the graph shares nothing with it.
        fixed: values of ``forward``'s arguments that are no tensors, as seen in a dry run.
        stands_for: path inside of ``module`` of what the graph computes for; that has hooks of its
            own still, and no graph needs them.
        training: whether to trace it in training mode, and not in eval mode.

    Raises:
        NotTraceable: with torch's own reason.
    """
    for parameter in inspect.signature(module.forward).parameters.values():
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            raise NotTraceable(f"`forward` takes `{parameter}`, which a graph cannot hold")
    tracer = QuantizationTracer([], [])
    with told("it cannot be traced"):
        root = copy_of(module).train(training)
        fold_weights(root)
        _check_hooks(root, stands_for)
        before = _attributes(root)
        graph = tracer.trace(root, dict(fixed) or None)
    _check_memory(root, before)
    _give_names_back(graph, fixed)
    for node in graph.nodes:
        tracer.node_name_to_scope.setdefault(node.name, ("", type(root)))
    with told("its graph cannot be written"):
        return GraphModule(root, graph), tracer.node_name_to_scope


def check_same_in_training(module: nn.Module, fixed: Mapping[str, Scalar]) -> None:
    """Raise ``NotTraceable`` if ``module`` is another graph in training than it is in eval mode.

    A trace takes ``self.training`` as a constant: ``F.dropout(x, training=self.training)`` would
    stay on or off for ever. Layers such as ``nn.Dropout`` are called, and go by their own mode.
    """
    graphs = [trace(module, fixed, training=mode)[0].graph for mode in (False, True)]
    if _written(graphs[0]) != _written(graphs[1]):
        raise NotTraceable("it reads `self.training`, and is another graph in training")


def _written(graph: torch.fx.Graph) -> list[tuple[str, str, str, str]]:
    return [(n.op, str(n.target), repr(n.args), repr(n.kwargs)) for n in graph.nodes]


def _check_hooks(root: nn.Module, outside: str) -> None:
    for name, part in root.named_modules():
        if name in ("", outside):
            part._forward_hooks.clear()
            part._forward_pre_hooks.clear()
        elif part._forward_hooks or part._forward_pre_hooks:
            raise NotTraceable(f"`{name}` has forward hooks, which a graph would lose")
    if callable(getattr(root, "log_dict", None)):
        for name in ("log", "log_dict"):
            vars(root)[name] = _refuse_to_log


def _refuse_to_log(*_: object, **__: object) -> None:
    raise NotTraceable("its `forward` logs, which a graph would lose")


def _attributes(root: nn.Module) -> dict[str, dict[str, Any]]:
    return {name: dict(vars(module)) for name, module in root.named_modules()}


def _check_memory(root: nn.Module, before: Mapping[str, Mapping[str, Any]]) -> None:
    """Raise ``NotTraceable`` if ``forward`` left something in a module, for later or for others."""
    for name, module in root.named_modules():
        for key, value in vars(module).items():
            known = before.get(name, {})
            ours = key.startswith("_tensor_constant")  # the tracer's own
            changed = not ours and (key not in known or known[key] is not value)
            if changed or any(isinstance(leaf, Proxy) for leaf in pytree.tree_leaves(value)):
                where = f"{name}.{key}" if name else key
                raise NotTraceable(f"its `forward` sets `{where}`, which a graph would not")


def _give_names_back(graph: torch.fx.Graph, fixed: Mapping[str, Scalar]) -> None:
    """Undo torch's renaming of constant arguments, so that keyword calls still work.

    Torch's check for ``None`` is dead code to its own clean-up; ``torch._assert`` is not.
    """
    renamed = {f"{name}_1": name for name in fixed}
    for node in list(graph.nodes):
        if node.op == "placeholder" and node.target in renamed:
            node.target = renamed[node.target]
        elif getattr(node.target, "__name__", "") == "_assert_is_none":
            value, message = node.args
            with graph.inserting_before(node):
                is_none = graph.call_function(operator.is_, (value, None))
                graph.call_function(torch._assert, (is_none, message))
            graph.erase_node(node)


def check_equal(graph: GraphModule, module: nn.Module, calls: ModuleCalls) -> None:
    """Raise ``NotTraceable`` unless the graph computes what the module computes."""
    with told("its graph does not run"), torch.no_grad():
        ours = graph.forward(*copy.deepcopy(calls.args), **copy.deepcopy(calls.kwargs))
        theirs = module.forward(*copy.deepcopy(calls.args), **copy.deepcopy(calls.kwargs))
    if not _same(ours, theirs):
        raise NotTraceable("its graph gives other values than the module itself")


def _same(ours: Any, theirs: Any) -> bool:
    mine, my_tree = pytree.tree_flatten(ours)
    yours, your_tree = pytree.tree_flatten(theirs)
    return my_tree == your_tree and all(map(_equal, mine, yours))


def _equal(mine: Any, yours: Any) -> bool:
    if not isinstance(mine, torch.Tensor) or not isinstance(yours, torch.Tensor):
        return bool(mine == yours) if type(mine) is type(yours) else False
    return mine.shape == yours.shape and torch.allclose(
        mine, yours, rtol=1e-4, atol=1e-5, equal_nan=True
    )
