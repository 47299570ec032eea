"""A weight that is not there: what it was can be asked, values cannot."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from lpot_lightning.errors import QuantizationError

_METADATA = frozenset(
    (
        "shape", "dtype", "device", "ndim", "layout", "itemsize", "nbytes", "requires_grad",
        "is_leaf", "is_cpu", "is_cuda", "is_meta", "is_mps", "is_quantized", "is_sparse",
        "is_nested", "size", "dim", "numel", "nelement", "element_size", "get_device",
        "is_floating_point", "is_complex", "__len__",
    )
)  # fmt: skip
_OF_ITS_TYPE = frozenset(("new_empty", "new_zeros", "new_ones", "new_full", "new_tensor"))


def asks_for_values(func: Callable[..., Any]) -> bool:
    """Whether ``func``, as ``__torch_function__`` gets it, reads what a tensor holds."""
    return _name(func) not in _METADATA | _OF_ITS_TYPE


def _name(func: Callable[..., Any]) -> str:
    if func.__name__ == "__get__":
        return str(getattr(func, "__self__").__name__)  # noqa: B009
    return func.__name__


class WeightPlaceholder(Tensor):
    """Has shape, type and device of a weight that int8 holds in another form.

    It is no part of the state, and takes no memory.
    """

    _layer: str

    @staticmethod
    def of(weight: Tensor, layer: str) -> WeightPlaceholder:
        """Return what stands for ``weight`` of ``layer``."""
        return _placeholder(tuple(weight.shape), weight.dtype, weight.device, layer)

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Answer what needs no values."""
        with torch._C.DisableTorchFunctionSubclass():
            if _name(func) in _OF_ITS_TYPE:
                like = torch.empty(0, dtype=args[0].dtype, device=args[0].device)
                return func(like, *args[1:], **(kwargs or {}))
            if asks_for_values(func):
                found = (one for one in pytree.tree_leaves((args, kwargs)) if type(one) is cls)
                raise QuantizationError(
                    f"the weights of `{next(found)._layer}` are int8 now, and no other code can use"
                    " them; use them in `validation_step` too, then the layer stays in fp32"
                )
            return func(*args, **(kwargs or {}))

    def __deepcopy__(self, memo: dict[int, Any]) -> WeightPlaceholder:
        """Return another one like it."""
        return WeightPlaceholder.of(self, self._layer)

    def __reduce_ex__(self, protocol: Any) -> Any:
        """Let a pickle hold what can be asked."""
        return _placeholder, (tuple(self.shape), self.dtype, self.device, self._layer)

    def __repr__(self) -> str:  # type: ignore[override]
        """Say what it was."""
        return f"WeightPlaceholder({list(self.shape)}, {self.dtype})"

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]
        cls, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        """Reached where ``__torch_function__`` is off."""
        raise QuantizationError("the weights of this layer are int8 now")


def _placeholder(
    shape: tuple[int, ...], dtype: torch.dtype, device: torch.device, layer: str
) -> WeightPlaceholder:
    made: WeightPlaceholder = Tensor._make_wrapper_subclass(
        WeightPlaceholder, shape, dtype=dtype, device=device
    )
    made._layer = layer
    return made
