"""How much each op hurts alone in int8: the error of what the model gives."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from typing import Any

from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence
from torch.utils import _pytree as pytree

from lpot_lightning.module.calls import ModuleCalls
from lpot_lightning.module.stand_in import computing
from lpot_lightning.module.untouched import as_before, at_rest

Forward = Callable[..., Any]


class RootErrors:
    """Measures on one call of each root: a module that is called from outside of all others.

    Args:
        roots: by path.
        calls: of each root, in a dry run.
        layers: by path; those inside of a root are of interest.

    Attributes:
        forwards: what it cost so far, in forward passes of the batch of the dry run.
    """

    def __init__(
        self,
        roots: Mapping[str, nn.Module],
        calls: Mapping[str, ModuleCalls],
        layers: Mapping[str, nn.Module],
    ) -> None:
        self._roots, self._calls, self._layers = roots, calls, layers
        self.forwards = 0.0

    def of(self, int8: Iterable[tuple[str, str, Forward]]) -> dict[str, float]:
        """Return the error of the roots' outputs for each op that is alone in int8.

        It is the mean over the outputs of ``|noisy - clean|² / |clean|²``, summed over the roots; 0
        where the call does not come to the op.

        Args:
            int8: of each op its name, the path of its module, and what computes for that, with the
                op in int8; each is needed once, and made then.
        """
        clean = {path: self._outputs(path, {}) for path in self._roots}
        found = {}
        for op, module, forward in int8:
            around = [path for path in self._roots if _is_in(path, module)]
            noisy = {path: self._outputs(path, {module: forward}) for path in around}
            found[op] = sum(error_of(noisy[path], clean[path]) for path in around)
        return found

    def _outputs(self, path: str, int8: Mapping[str, Forward]) -> list[Tensor]:
        root, calls = self._roots[path], self._calls[path]
        plain = {
            name: partial(type(layer).forward, layer)
            for name, layer in self._layers.items()
            if _is_in(path, name)
        }
        forwards: dict[str, Forward] = {**plain, **int8}
        self.forwards += 1 / len(self._roots)
        relative = {name[len(path) + 1 if path else 0 :]: one for name, one in forwards.items()}
        # all layers: torch's fused transformers would leave out what is masked, in some runs
        with at_rest(root), as_before(root.modules()), computing(root, relative):
            return list(floats_in(root.forward(*calls.args, **calls.kwargs)))


def _is_in(root: str, layer: str) -> bool:
    return not root or layer.startswith(f"{root}.")


def floats_in(given: object) -> Iterator[Tensor]:
    """Yield the tensors of floats in what a module gives."""
    for one in pytree.tree_leaves(given, is_leaf=_is_packed):
        one = one.data if _is_packed(one) else one
        if isinstance(one, Tensor) and one.is_floating_point():
            yield one


def _is_packed(given: object) -> bool:
    return isinstance(given, PackedSequence)


def error_of(noisy: list[Tensor], clean: list[Tensor]) -> float:
    """Return the mean share that the squared difference of tensors has of their squared size."""
    if not clean or [one.shape for one in noisy] != [one.shape for one in clean]:
        return 0.0
    shares = [
        float((a - b).square().sum() / b.square().sum().clamp_min(1e-30))
        for a, b in zip(noisy, clean, strict=True)
    ]
    return sum(shares) / len(shares)
