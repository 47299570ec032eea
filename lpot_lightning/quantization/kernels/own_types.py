"""What holds tensors of types that are its own affair."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Self

from torch import Tensor, nn


class OwnTypes(nn.Module):
    """Lets ``half()`` and the like be for what passes: its tensors keep their types.

    Kernels take scales of float32 alone, and in ``float16`` small ones are 0.
    """

    def _apply(self, fn: Callable[..., Tensor], recurse: bool = True) -> Self:
        super()._apply(partial(_as_it_is, fn), recurse)  # type: ignore[no-untyped-call]
        return self


def _as_it_is(fn: Callable[..., Tensor], tensor: Tensor) -> Tensor:
    """Return ``tensor`` as ``fn`` makes it, but of the type that it has."""
    made = fn(tensor)
    return made if made.dtype == tensor.dtype else tensor.to(made.device)
