"""Which layer reads the heads of an attention."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from lpot_lightning.pruning.channels.entering import CallsByPath, entered
from lpot_lightning.pruning.channels.proof import Proof


class HeadProbe:
    """Sees what is read where some rows of a layer are zero.

    Args:
        proof: of the model.
        calls: as of ``find_groups``.
    """

    def __init__(self, proof: Proof, calls: CallsByPath) -> None:
        self._model, self._calls = proof.lively_copy(), calls
        linears = self._model.named_modules()
        self._linears = {path: one for path, one in linears if isinstance(one, nn.Linear)}

    @torch.no_grad()
    def readers(self, paths: Sequence[str], rows: Tensor, columns: Tensor) -> list[str]:
        """Return the layers that read zeros in the columns of every second head, and in no others.

        They are in the order of the calls, and as many as ``paths``, or none at all.
        """
        if not any(one.in_features == columns.numel() for one in self._linears.values()):
            return []
        given = [one for path in paths for one in self._linears[path].parameters(recurse=False)]
        before = [one.detach().clone() for one in given]
        for one in given:
            one[rows[1::2].flatten()] = 0
        try:
            read = self._zero_columns()
        finally:
            for one, values in zip(given, before, strict=True):
                one.copy_(values)
        wanted = torch.zeros(columns.numel(), dtype=torch.bool)
        wanted[columns[1::2].flatten()] = True
        found = [path for path, zero in read.items() if torch.equal(zero.cpu(), wanted)]
        return found if len(found) == len(paths) else []

    def _zero_columns(self) -> dict[str, Tensor]:
        seen: dict[str, Tensor] = {}

        def look(path: str, x: Tensor) -> None:
            zero = (x == 0).reshape(-1, x.shape[-1]).all(dim=0)
            seen[path] = zero & seen[path] if path in seen else zero

        hooks = [
            one.register_forward_pre_hook(lambda _, given, path=path: look(path, given[0]))
            for path, one in self._linears.items()
        ]
        try:
            for _ in entered(self._model, self._calls):
                pass
        finally:
            for hook in hooks:
                hook.remove()
        return seen
