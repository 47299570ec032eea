"""A program as `torch.export` has it."""

from __future__ import annotations

import re
import warnings
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
import torch.fx.experimental._config as symbols
from torch import fx

from lpot_lightning.deploy.calls import Input
from lpot_lightning.deploy.running import fakes
from lpot_lightning.deploy.whole_graph import MARKED
from lpot_lightning.errors import ExportError, in_one_line, quoted

_OP = re.compile(r"\b(?!torch)\w+(?:::|\.)\w+\.(?:default|[A-Z]\w+)\b|\b[a-z]\w+::\w+")
"""How torch names an op in what it says."""
_ALL = 1 << 20
_AT_MOST = re.compile(r"(\w+) = Dim\('\w+', (?:min=\d+, )?max=(\d+)\)")
"""How torch suggests the largest size, which a table of positions has."""


def exported_program(
    module: fx.GraphModule, inputs: Sequence[Input]
) -> torch.export.ExportedProgram:
    """Return ``module`` as ``torch.export`` has it, with sizes that may be any.

    Args:
        module: takes ``inputs``, gives a tuple of tensors.
        inputs: with the sizes that may be any.

    Raises:
        ExportError: if it cannot be exported, or fixes a size that is to be any.
    """
    fakes.register()
    names = dict.fromkeys(name for one in inputs for name in one.dynamic.values())
    refused: list[Exception] = []
    tries: list[tuple[bool, dict[str, int]]] = [(False, {}), (True, {})]
    while tries:
        oblivious, most = tries.pop(0)
        sizes = {name: torch.export.Dim(name, max=most.get(name)) for name in names}
        try:
            return _exported(module, inputs, sizes, oblivious=oblivious)
        except Exception as error:  # whatever torch.export says
            refused.append(error)
            told = in_one_line(error, _ALL)
        if not _is_of_sizes(told):
            break
        if not most and (found := {name: int(size) for name, size in _AT_MOST.findall(told)}):
            tries.insert(0, (oblivious, found))
    raise _refused(refused[0], names) from refused[0]


def _exported(
    module: fx.GraphModule, inputs: Sequence[Input], sizes: Mapping[str, Any], *, oblivious: bool
) -> torch.export.ExportedProgram:
    shapes = tuple({dim: sizes[name] for dim, name in one.dynamic.items()} for one in inputs)
    given = tuple(one.value for one in inputs)
    any_size = symbols.patch(backed_size_oblivious=oblivious)  # type: ignore[attr-defined]
    with quiet(), torch.no_grad(), any_size:
        return torch.export.export(module, given, dynamic_shapes=shapes, strict=False)


@contextmanager
def quiet() -> Iterator[None]:
    """Hold back what torch says of its own code, for the time of the ``with``."""
    with warnings.catch_warnings():
        for kind in (FutureWarning, DeprecationWarning):
            warnings.filterwarnings("ignore", category=kind)
        yield


def _is_of_sizes(told: str) -> bool:
    """Whether torch refuses a size. It may take it where no size is asked whether it is 1: those of
    strided layers could become that. Attention on the other hand is taken where it may ask."""
    return "onstraints violated" in told


def _refused(error: Exception, sizes: Collection[str]) -> ExportError:
    """Return the error for what ``torch.export`` cannot take: which op, or which size."""
    told = in_one_line(error)
    if _is_of_sizes(told):
        fixed = MARKED.search(told)
        told = told if fixed is None else fixed[1]
        return ExportError(
            f"`torch.export` cannot take the model for any size of {quoted(sizes)}: {told}; export"
            " it for that of the example with `dynamic=False`"
        )
    op = _OP.search(told)
    which = "" if op is None else f", for `{op[0].rstrip('.:')}`"
    return ExportError(
        f"`torch.export` cannot take the model{which}: {told}; write it by other functions of"
        " torch, export a part of it by `method`, or export to `.ts`, which records what is called"
    )
