"""What runs a file, and what its inputs have to be."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from lpot_lightning.errors import ArtifactError, ExportError, in_one_line, in_short

InputSizes = tuple[int | str, ...]
"""Of a tensor; one that may be any is a name."""
MOST_SEEN = 64
"""Kinds of calls that are known to be right."""


class Runtime(Protocol):
    """A file that was opened: flat tensors in, flat tensors out, on the CPU.

    Attributes:
        name: of what runs it, with its version, such as ``"ONNX Runtime 1.32.0"``.
        inputs: names of its inputs, in order; of what names none they are made up.

    Example::

        opened = open_file("model.onnx")
        (scores,) = opened(images)
    """

    @property
    def name(self) -> str: ...

    @property
    def inputs(self) -> tuple[str, ...]: ...

    def __call__(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        """Compute.

        Raises:
            ExportError: if the tensors are not those that it takes.
        """
        ...

    def int8_ops(self) -> int | None:
        """Count the layers, convolutions and matrix products, in int8; ``None``: it cannot tell."""
        ...

    def int8_kinds(self) -> Mapping[str, int]:
        """Count the ops in int8 of each kind, as the runtime calls them."""
        ...


@dataclass(frozen=True)
class Port:
    """An input of a file.

    Args:
        name: of it.
        dtype: ``None`` where the file does not say.
        sizes: the same.
    """

    name: str
    dtype: torch.dtype | None = None
    sizes: InputSizes | None = None

    def __str__(self) -> str:
        """Show it as "`x` [batch, 3, 8, 8]"."""
        return f"`{self.name}`" + ("" if self.sizes is None else f" {_listed(self.sizes)}")


class Intake:
    """Takes the tensors of a call for a file.

    Numbers become those that the file wants; floats do not become whole numbers. What was right
    once is not looked at again: a call of a small net takes some 40 microseconds.

    Args:
        path: of the file.
        ports: its inputs.
    """

    def __init__(self, path: Path, ports: Sequence[Port]) -> None:
        self._path, self._ports = path, tuple(ports)
        self._seen: set[tuple[tuple[torch.Size, torch.dtype], ...]] = set()
        self.names = tuple(port.name for port in ports)

    def __call__(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """Return the tensors on the CPU, contiguous, of the types of the file.

        Raises:
            ExportError: if there are more or fewer, or one does not fit.
        """
        kind = tuple((one.shape, one.dtype) for one in tensors)
        if kind not in self._seen:
            self._check(tensors)
            if len(self._seen) < MOST_SEEN:
                self._seen.add(kind)
        return [_made(one, port.dtype) for one, port in zip(tensors, self._ports, strict=True)]

    def failed(self, name: str, tensors: Sequence[Tensor], error: Exception) -> ExportError:
        """Return what says that the runtime ``name`` raised ``error`` for ``tensors``."""
        came = ", ".join(_listed(one.shape) for one in tensors)
        return ExportError(f"`{self._path}` fails in {name} with {came} ({in_short(error)})")

    def _check(self, tensors: Sequence[Tensor]) -> None:
        if len(tensors) != len(self._ports):
            came = ", ".join(_listed(one.shape) for one in tensors) or "none"
            raise ExportError(
                f"`{self._path}` is called with {len(tensors)} tensors ({came}); allowed:"
                f" {len(self._ports)}, {', '.join(map(str, self._ports))}"
            )
        for tensor, port in zip(tensors, self._ports, strict=True):
            self._check_one(tensor, port)

    def _check_one(self, tensor: Tensor, port: Port) -> None:
        if port.sizes is not None and not _fits(tensor.shape, port.sizes):
            raise ExportError(
                f"`{self._path}`: `{port.name}` is {_listed(tensor.shape)}; allowed:"
                f" {_listed(port.sizes)}"
            )
        wanted = port.dtype
        if wanted is None or wanted.is_floating_point or not tensor.is_floating_point():
            return
        raise ExportError(
            f"`{self._path}`: `{port.name}` is of {_short(tensor.dtype)}; allowed:"
            f" {_short(wanted)}, or whole numbers, which become it"
        )


def _made(tensor: Tensor, dtype: torch.dtype | None) -> Tensor:
    """Return ``tensor`` as a file reads it."""
    plain = tensor.is_cpu and not tensor.requires_grad and tensor.is_contiguous()
    if plain and (dtype is None or tensor.dtype is dtype):
        return tensor
    return tensor.detach().to("cpu", dtype).contiguous()


def _fits(came: Sequence[int], sizes: InputSizes) -> bool:
    return len(came) == len(sizes) and all(
        one == size or isinstance(size, str) for one, size in zip(came, sizes, strict=True)
    )


def _listed(sizes: Sequence[int | str]) -> str:
    return f"[{', '.join(map(str, sizes))}]"


def _short(dtype: torch.dtype) -> str:
    return f"`{str(dtype).removeprefix('torch.')}`"


def package(name: str, extra: str) -> Any:
    """Return a package that is not always there.

    Raises:
        ExportError: if it is not.
    """
    try:
        return import_module(name)
    except ImportError as error:
        raise ExportError(
            f"the file is run by `{name}`, which is not installed, or too old: `pip install"
            f" 'lpot-lightning[{extra}]'`"
        ) from error


def cannot_open(path: Path, name: str, error: Exception) -> ArtifactError:
    """Return what says that the runtime ``name`` raised ``error`` when it opened ``path``."""
    return ArtifactError(f"`{path}` cannot be opened by {name}: {in_one_line(error, most=300)}")
