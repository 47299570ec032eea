"""Which functions the `forward` of each module calls by itself, and how long they take."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from time import thread_time
from typing import Any

import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils.weak import WeakTensorKeyDictionary

from lpot_lightning.module.attention import OPENED
from lpot_lightning.module.constants import Constants, tensors_in
from lpot_lightning.module.placeholder import asks_for_values

_SHORT = {
    "iadd": "add", "radd": "add", "imul": "mul", "rmul": "mul", "isub": "sub", "rsub": "sub",
    "truediv": "div", "itruediv": "div", "rtruediv": "div", "rmatmul": "matmul",
}  # fmt: skip
LAYERS = frozenset(("linear", "conv1d", "conv2d", "conv3d", "addmm"))
"""The functions that layers with a weight are."""
_INTERPOLATE = ("input", "size", "scale_factor", "mode")
_NEAREST = ("nearest", "nearest-exact")


def repeats(func: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> bool:
    """Whether a call only gives each value a few times, or leaves some out.

    Example::

        repeats(F.interpolate, (images, None, 2.0), {"mode": "nearest"})  # True
    """
    if func is not F.interpolate:
        return False
    given = dict(zip(_INTERPOLATE, args, strict=False)) | {**kwargs}
    return given.get("mode", "nearest") in _NEAREST


@dataclass(kw_only=True)
class FunctionCall:
    """Calls of one function at one place, in a dry run.

    Args:
        function: its name.
        sources: the ids of the parameters and buffers that its second tensor comes of alone.
        seconds: of the processor, in all calls.
        fixed: whether all of its tensors do.
        behind: whether its first tensor comes of one of ``LAYERS``, at most with a norm between.
        repeats: whether it only gives values again.
    """

    function: str
    sources: frozenset[int]
    seconds: float = 0.0
    fixed: bool = True
    behind: bool = False
    repeats: bool = False

    @property
    def weighted(self) -> bool:
        """Whether its second tensor is a weight."""
        return bool(self.sources)


class FunctionCalls(TorchFunctionMode):
    """Notes the functions that run inside of modules.

    Args:
        running: the modules whose ``forward`` runs, the innermost one last, by their ids.
        held: the tensors of all modules.
        real: gives what something stands for.

    Attributes:
        found: by the module's id and the function's name, in the order of a call of the module.
    """

    def __init__(
        self, running: list[int], held: Iterable[Tensor], real: Callable[[Any], Any]
    ) -> None:
        self._running, self._real = running, real
        self._constants = Constants(held)
        self._of_layers: Any = WeakTensorKeyDictionary()
        self._numbers: list[dict[tuple[str, bool], int]] = []
        self.found: dict[int, dict[tuple[str, bool, int], FunctionCall]] = defaultdict(dict)

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Compute a function, and note it."""
        kwargs = kwargs or {}
        if func is F.multi_head_attention_forward:
            with self:
                return OPENED(*args, **kwargs)
        started = thread_time()
        found = func(*args, **kwargs)
        if self._numbers and asks_for_values(func):
            seconds = thread_time() - started
            self._note(func, self._real((args, kwargs)), found, seconds)
        return found

    def called(self) -> None:
        """Number functions anew: another module is called."""
        self._numbers.append(defaultdict(int))

    def returned(self) -> None:
        """Go on with the numbers of the module around it."""
        self._numbers.pop()

    def _note(self, func: Any, given: Any, found: Any, seconds: float) -> None:
        tensors = tensors_in(given)
        sources = [self._constants.sources(one) for one in tensors]
        of_second = sources[1] if len(sources) > 1 else frozenset()
        call = self._call(_name(func), of_second)
        call.seconds += seconds
        call.fixed &= all(sources)
        call.repeats = repeats(func, *given)
        call.behind = any(one in self._of_layers for one in tensors[:1])
        if call.function in LAYERS or (call.function == "batch_norm" and call.behind):
            self._of_layers.update(dict.fromkeys(tensors_in(found), True))
        self._constants.note(func, given, found)

    def _call(self, name: str, sources: frozenset[int]) -> FunctionCall:
        key = name, bool(sources)
        number = self._numbers[-1][key]
        self._numbers[-1][key] += 1
        calls = self.found[self._running[-1]]
        return calls.setdefault((*key, number), FunctionCall(function=name, sources=sources))


def _name(func: Any) -> str:
    if func.__name__ == "__get__":
        return str(func.__self__.__name__)
    plain = str(func.__name__).strip("_")
    return _SHORT.get(plain, plain)
