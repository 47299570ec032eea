"""What a model is called with, noted while somebody shows it data anyway."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from lpot_lightning.data.batches import samples_in
from lpot_lightning.deploy.origin import Call

MOST_SAMPLES, MOST_BYTES, MOST_ROOTS = 64, 64 << 20, 8


class CallRecorder:
    """Keeps the first calls of the module that is called first from outside of all others.

    It keeps whole calls, of 64 samples and 64 MiB together at most, and one in any case; of other
    modules that are called from outside the first one, for eight of them.

    Args:
        paths: of the modules that are meant; ``None`` for all that have parameters.

    Example::

        recorder = CallRecorder()
        with recorder.on(model):
            validate(model)
        recorder.root, recorder.calls
    """

    def __init__(self, paths: Collection[str] | None = None) -> None:
        self._paths = paths
        self.root: str | None = None
        self.firsts: dict[str, Call] = {}
        self._depth = 0
        self._kept: list[Call] = []
        self._samples = self._bytes = 0
        self._is_full = False

    @property
    def calls(self) -> tuple[Call, ...]:
        """What was kept, the first call first."""
        return tuple(self._kept)

    @contextmanager
    def on(self, model: nn.Module) -> Iterator[None]:
        """Take notes of ``model`` inside of the ``with``."""
        with ExitStack() as undo:
            for path, module in list(model.named_modules()):
                if self._means(path, module):
                    undo.enter_context(self._watching(path, module))
            yield

    def _means(self, path: str, module: nn.Module) -> bool:
        if isinstance(module, torch.jit.ScriptModule):  # it takes no attribute
            return False
        if self._paths is not None:
            return path in self._paths
        return next(module.parameters(), None) is not None

    @contextmanager
    def _watching(self, path: str, module: nn.Module) -> Iterator[None]:
        """Note calls of ``module``, and of ``module.forward``, which no hook hears of."""
        given: list[tuple[Any, Any]] = []
        forward = module.forward

        def hook(_: nn.Module, args: Any, kwargs: Any) -> None:
            given[:] = [(args, kwargs)]

        def noted(*args: Any, **kwargs: Any) -> Any:
            self._note(path, *(given.pop() if given else (args, kwargs)))
            self._depth += 1
            try:
                return forward(*args, **kwargs)
            finally:
                self._depth -= 1

        # the first of all hooks: others may change what it is called with
        handle = module.register_forward_pre_hook(hook, prepend=True, with_kwargs=True)
        own = vars(module)
        before = {"forward": own["forward"]} if "forward" in own else {}
        own["forward"] = noted
        try:
            yield
        finally:
            del own["forward"]
            own.update(before)
            handle.remove()

    def _note(self, path: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if self.root is None:
            self.root = path
        if path == self.root and not self._is_full:
            self._keep(args, kwargs)
        if not self._depth and path not in self.firsts and len(self.firsts) < MOST_ROOTS:
            self.firsts[path] = _owned(args, kwargs)

    def _keep(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        leaves = [one for one in pytree.tree_leaves((args, kwargs)) if isinstance(one, Tensor)]
        self._samples += samples_in((args, kwargs))
        self._bytes += sum(one.numel() * one.element_size() for one in leaves)
        if self._samples > MOST_SAMPLES or self._bytes > MOST_BYTES:
            self._is_full = True
        if not self._is_full or not self._kept:
            self._kept.append(_owned(args, kwargs))


def _owned(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Call:
    return Call(*pytree.tree_map_only(Tensor, _own, (args, kwargs)))


def _own(tensor: Tensor) -> Tensor:
    return tensor.detach().cpu().clone()


def roots_with(roots: Iterable[str], ops: Iterable[str]) -> tuple[str, ...]:
    """Return those of ``roots``, paths of modules, that hold one of ``ops``; all if none does.

    Example::

        roots_with(["net", "loss"], ["net.0", "net#linear"])  # ("net",)
    """
    places, found = [name.partition("#")[0] for name in ops], tuple(roots)
    holding = [one for one in found if any(_is_in(place, one) for place in places)]
    return tuple(holding) or found


def _is_in(place: str, root: str) -> bool:
    return not root or f"{place}.".startswith(f"{root}.")
