"""A file, where a model is asked for."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn
from torch.utils import _pytree as pytree

from lpot_lightning.deploy.running.runtime import Runtime
from lpot_lightning.deploy.running.runtimes import check_there, open_file, runtime_name
from lpot_lightning.errors import ExportError, quoted
from lpot_lightning.machine.files import expanded

_LABELS = ("labels", "label")
"""What a batch by name has besides inputs, for a model that computes its loss."""


class FileModel(nn.Module):
    """An exported file that is called as a model: tensors in, a tensor or a tuple of them out.

    It is opened when it is called first, in whichever process that is, with as many threads as
    torch has there; a copy, or what is sent to another process, opens it again.

    Args:
        path: of the file.
        threads: see ``open_file``.
        runtime: see ``open_file``.

    Example::

        FileModel("int8.onnx", runtime="openvino")(images).argmax(1)
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        threads: int | None = None,
        runtime: str | None = None,
    ) -> None:
        super().__init__()
        self.path, self._threads, self._wanted = expanded(path), threads, runtime
        self._opened: Runtime | None = None

    @property
    def runtime(self) -> Runtime:
        """What runs it.

        Raises:
            LpotError: as ``open_file`` does.
        """
        if self._opened is None:
            self._opened = open_file(self.path, threads=self._threads, runtime=self._wanted)
        return self._opened

    @property
    def runs_in(self) -> str:
        """What runs it, with its version; nothing is opened.

        Raises:
            LpotError: as ``runtime_name`` does.
        """
        return runtime_name(self.path, self._wanted)

    def check(self) -> None:
        """Raise an ``LpotError`` if it is not there, or there is nothing to run it."""
        check_there(self.path)
        _ = self.runs_in

    def forward(self, *args: Any, **kwargs: Any) -> Tensor | tuple[Tensor, ...]:
        """Compute; arguments by name are the inputs of that name."""
        plain = all(isinstance(one, Tensor) for one in args)
        given = args if plain else pytree.tree_leaves(args)  # which takes as long as a small net
        found = self.runtime(*given, *self._named(len(given), kwargs))
        return found[0] if len(found) == 1 else found

    def _named(self, before: int, kwargs: Mapping[str, Any]) -> list[Any]:
        """Return arguments by name in the order of the file, behind the first ``before`` ones."""
        if not kwargs:
            return []
        names = self.runtime.inputs[before:]
        others = [name for name in kwargs if name not in (*names, *_LABELS)]
        missing = [name for name in names if name not in kwargs]
        if others or missing:
            raise ExportError(
                f"`{self.path}` is called with {quoted(kwargs)}; allowed: {quoted(names) or 'none'}"
            )
        return [kwargs[name] for name in names]

    def __getstate__(self) -> dict[str, Any]:
        """Return all but what is opened, which belongs to this process."""
        return {**vars(self), "_opened": None}
