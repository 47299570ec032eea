"""Files of torch: exported, compiled ahead of time, TorchScript."""

from __future__ import annotations

import warnings
import zipfile
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from lpot_lightning.artifacts.archives import check_records
from lpot_lightning.deploy.running import fakes
from lpot_lightning.deploy.running.program_records import check_program
from lpot_lightning.deploy.running.runtime import InputSizes, Intake, Port, cannot_open
from lpot_lightning.errors import ArtifactError
from lpot_lightning.timing.in_turns import threads as with_threads

_LAYERS = ("qlinear", "qconv", "_int_mm")
"""What the names of layers in int8 begin with, behind their library."""
Flat = Callable[..., Any]


class TorchRuntime:
    """A file in torch.

    Args:
        path: of a ``.pt2``, ``.aoti.pt2`` or ``.ts``.
        form: of it.
        threads: ``None`` for as many as torch has at each call. What was compiled ahead of time
            keeps those that it was compiled for.

    Raises:
        ArtifactError: if it is no such file.
    """

    def __init__(self, path: Path, form: str, threads: int | None = None) -> None:
        self.name, self._threads = version(), threads
        if not zipfile.is_zipfile(path):  # torch would log pages of it
            raise ArtifactError(f"`{path}` is damaged, or no file of torch: it is no zip archive")
        try:
            self._flat, ports, self._kinds = _READERS[form](path)
        except Exception as error:  # torch gives ten kinds of them for damaged files
            raise cannot_open(path, self.name, error) from error
        self._intake = Intake(path, ports)
        self.inputs = self._intake.names

    def __call__(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        """Compute; see ``Runtime``."""
        taken = self._intake(tensors)
        try:
            with torch.no_grad(), self._as_asked():
                return tuple(pytree.tree_leaves(self._flat(*taken)))
        except Exception as error:  # whatever an op says
            raise self._intake.failed(self.name, tensors, error) from error

    def _as_asked(self) -> Any:
        return nullcontext() if self._threads is None else with_threads(self._threads)

    def int8_kinds(self) -> Counter[str]:
        """Count the ops in int8 of each kind; none are known of what is compiled."""
        return Counter() if self._kinds is None else self._kinds

    def int8_ops(self) -> int | None:
        """Count them all; ``None`` of what is compiled."""
        return None if self._kinds is None else self._kinds.total()


Read = tuple[Flat, Sequence[Port], Counter[str] | None]


def version() -> str:
    """Return torch's name for people."""
    return f"torch {torch.__version__.partition('+')[0]}"


def _exported(path: Path) -> Read:
    check_program(path)
    fakes.register()
    program = torch.export.load(path)
    module, spec = fakes.packed_once(program.module()), program.call_spec.in_spec
    holders = [node for node in program.graph.nodes if node.op == "placeholder"]
    shown = {node.name: node.meta["val"] for node in holders}
    names = [str(one) for one in program.graph_signature.user_inputs]
    kinds = _int8_of(str(node.target) for node in program.graph.nodes)

    def flat(*tensors: Tensor) -> Any:
        args, kwargs = pytree.tree_unflatten(tensors, spec)
        return module(*args, **kwargs)

    return flat, [Port(name, shown[name].dtype, _sizes(shown[name])) for name in names], kinds


def _sizes(value: Tensor) -> InputSizes:
    return tuple(one if isinstance(one, int) else str(one) for one in value.shape)


def _compiled(path: Path) -> Read:
    with path.open("rb") as file:
        check_records(file, path.stat().st_size)
    from torch._inductor import aoti_load_package

    loader = aoti_load_package(str(path)).loader
    count = pytree.treespec_loads(loader.get_call_spec()[0]).num_leaves
    return lambda *tensors: loader.run(list(tensors)), _unnamed(count), None


def _unnamed(count: int) -> list[Port]:
    return [Port(f"input_{number}" if number else "input") for number in range(count)]


def _scripted(path: Path) -> Read:
    with warnings.catch_warnings():  # a DeprecationWarning in torch 2.13, a FutureWarning in 2.14
        warnings.filterwarnings("ignore", message=".*torch.jit")
        script: Any = torch.jit.load(str(path), map_location="cpu")  # type: ignore[no-untyped-call]
    names = [one.debugName() for one in script.graph.inputs()][1:]
    return (
        script,
        [Port(name) for name in names],
        _int8_of(node.kind() for node in script.inlined_graph.nodes()),
    )


def _int8_of(targets: Any) -> Counter[str]:
    """Count the layers among the names of ops, such as ``onednn.qlinear_pointwise.default``."""
    words = (target.replace("::", ".") for target in targets)
    return Counter(
        word.removesuffix(".default")
        for word in words
        if word.partition(".")[2].startswith(_LAYERS) and "prepack" not in word
    )


_READERS = {"pt2": _exported, "aoti": _compiled, "torchscript": _scripted}
