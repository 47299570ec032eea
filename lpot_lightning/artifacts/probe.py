"""A call that the files hold with its answer: another model of equal tensors is told by it."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from lpot_lightning.artifacts.first_calls import MAX_BYTES, FirstCall, bytes_of
from lpot_lightning.errors import ArtifactError, in_short
from lpot_lightning.machine.random_numbers import seeded
from lpot_lightning.module.plain_tree import from_plain

PREFIX = ".probe."
"""Of the tensors of a probe; no module has an empty name, so no `state_dict` has such a one."""
TOLERANCE, BLIND_TOLERANCE, MOST_TOLERANCE = 0.02, 0.05, 0.2
"""Relative error that is let pass. Kernels of other engines round single integers otherwise: of
qnnpack and x86 (torch 2.13) the answers differ by up to 0.005 in convolutions, 0.011 in four
transformer layers, those of fbgemm and onednn in nothing. How much a net enlarges it is seen by
nudging its input, where that is not integers only."""
_NUDGE, _TIMES = 1 / 256, 3
_STEADY, _TINY = 1e-3, 1e-6


class _NotStored(Exception):
    """Why there is no probe of a module."""


@dataclass(frozen=True)
class Answer:
    """What became of a stored call.

    Args:
        path: of the module that was called.
        off: how far its answer is from the stored one, in what is let pass: up to 1 is good.
        told: the same for people.
    """

    path: str
    off: float
    told: str


def answered(
    model: nn.Module, calls: Sequence[FirstCall]
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Return the ``probe`` of a tune config, and the tensors that belong to it.

    Args:
        model: that is to be stored; it is run, and may keep what a run leaves in it.
        calls: to be answered.
    """
    probe: dict[str, Any] = {}
    tensors: dict[str, Tensor] = {}
    for call in calls:
        try:
            given, answer, tolerance = _answered(model.get_submodule(call.path), call)
        except _NotStored as error:
            probe[call.path] = str(error)
            continue
        probe[call.path] = {**call.described, "tolerance": tolerance}
        tensors |= _named(call.path, "given", given) | _named(call.path, "answer", answer)
    return probe, tensors


def _named(path: str, which: str, tensors: Sequence[Tensor]) -> dict[str, Tensor]:
    return {f"{PREFIX}{path}.{which}.{number}": one for number, one in enumerate(tensors)}


def _answered(
    module: nn.Module, call: FirstCall
) -> tuple[Sequence[Tensor], Sequence[Tensor], float]:
    """Return what of the call was answered, with what, and what error is let pass."""
    why = call.refused
    for given in call.tries:
        try:
            answer = _answer(module, call.described, given)
        except Exception as error:  # whatever the user's code says outside of its step
            why = f"it fails outside of its step ({in_short(error)})"
            continue
        if bytes_of([*given, *answer]) <= MAX_BYTES:
            return given, answer, _tolerance(module, call.described, given, answer)
        why = "its answer is too large"
    raise _NotStored(why)


def _answer(
    module: nn.Module, described: Mapping[str, Any], given: Sequence[Tensor], seed: int = 0
) -> tuple[Tensor, ...]:
    """Call ``module`` in eval mode and return all floats that it gives."""
    copies = [one.clone() for one in given]  # a model may write into its input
    args = [from_plain(one, copies) for one in described["args"]]
    kwargs = {name: from_plain(one, copies) for name, one in described["kwargs"].items()}
    with (
        seeded(seed),
        torch.no_grad(),
        torch.autocast("cpu", enabled=False),
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore")
        return tuple(one.detach().clone() for one in _floats_in(module(*args, **kwargs)))


def _floats_in(value: Any) -> Iterator[Tensor]:
    for leaf in pytree.tree_leaves(value):
        if isinstance(leaf, Tensor):
            if leaf.is_floating_point() and leaf.layout is torch.strided:
                yield leaf
        elif isinstance(leaf, Mapping):
            yield from _floats_in(dict(leaf))
        elif dataclasses.is_dataclass(leaf) and not isinstance(leaf, type):
            yield from _floats_in([getattr(leaf, one.name) for one in dataclasses.fields(leaf)])


def _tolerance(
    module: nn.Module,
    described: Mapping[str, Any],
    given: Sequence[Tensor],
    answer: Sequence[Tensor],
) -> float:
    """Return what error is let pass; more where single integers count for more.

    Raises:
        _NotStored: if another call gives another answer, or one that goes by single integers.
    """
    if not answer:
        raise _NotStored("it gives no tensor of floats")
    again = distance(_answer(module, described, given, seed=1), answer)
    if again > _STEADY:
        raise _NotStored(
            "it answers one call in two ways: it draws random numbers, or goes by what it saw"
        )
    if not any(one.is_floating_point() for one in given):
        return BLIND_TOLERANCE
    moved = distance(_answer(module, described, [_nudged(one) for one in given]), answer)
    if _TIMES * moved > MOST_TOLERANCE:
        raise _NotStored("its answer goes by single integer steps of its input")
    return max(TOLERANCE, round(_TIMES * moved, 4))


def _nudged(tensor: Tensor) -> Tensor:
    """Return numbers that are each a 256th of themselves away, up and down in turns."""
    if not tensor.is_floating_point():
        return tensor
    turns = 1 - 2 * (torch.arange(tensor.numel()).reshape(tensor.shape) % 2)
    return tensor * (1 + _NUDGE * turns).to(tensor.dtype)


def distance(found: Sequence[Tensor], wanted: Sequence[Tensor]) -> float:
    """Return the largest relative error of a tensor; infinity where shapes or types differ.

    Example::

        distance([torch.tensor([1.1])], [torch.tensor([1.0])])  # 0.1
    """
    if len(found) != len(wanted):
        return float("inf")
    return max(map(_distance, found, wanted), default=0.0)


def _distance(found: Tensor, wanted: Tensor) -> float:
    if found.dtype != wanted.dtype or found.shape != wanted.shape:
        return float("inf")
    if torch.equal(found, wanted):
        return 0.0
    finite = wanted.isfinite()
    others = found[~finite], wanted[~finite]
    if not torch.equal(found.isfinite(), finite) or not torch.equal(*map(_comparable, others)):
        return float("inf")
    ours, theirs = found[finite].double(), wanted[finite].double()
    tiny = _TINY * theirs.numel() ** 0.5  # of an answer of zeros any error would be infinite
    return float((ours - theirs).norm() / theirs.norm().clamp_min(tiny))


def _comparable(tensor: Tensor) -> Tensor:
    return torch.nan_to_num(tensor.double(), nan=0.0, posinf=1.0, neginf=-1.0)


def check_probe(probe: Mapping[Any, Any]) -> None:
    """Raise ``ArtifactError`` unless ``probe`` is of the form that ``answered`` gives."""
    for path, held in probe.items():
        where = f"`probe.{str(path)[:60]}`"
        if not isinstance(path, str) or not isinstance(held, str | dict):
            raise ArtifactError(f"{where} is neither a call nor a reason")
        if isinstance(held, dict):
            _check_call(where, held)


def _check_call(where: str, held: Mapping[Any, Any]) -> None:
    args, kwargs, tolerance = (held.get(name) for name in ("args", "kwargs", "tolerance"))
    if not isinstance(args, list) or not isinstance(kwargs, dict):
        raise ArtifactError(f"{where} needs `args`, a list, and `kwargs`, a mapping")
    if not all(isinstance(name, str) for name in kwargs):
        raise ArtifactError(f"{where} has a `kwargs` whose name is no text")
    if type(tolerance) is not float or not 0 < tolerance <= MOST_TOLERANCE:
        raise ArtifactError(f"{where} needs `tolerance`, above 0 and up to {MOST_TOLERANCE}")


def stored_calls(
    probe: Mapping[str, Any], tensors: Mapping[str, Tensor]
) -> dict[str, tuple[tuple[Any, ...], dict[str, Any]]]:
    """Return the calls that the files hold, arguments and those by name, by the path of the module.

    Args:
        probe: of a tune config, checked.
        tensors: that came with it.

    Raises:
        ArtifactError: if a call holds what is none.
    """
    found = {}
    for path, held in probe.items():
        if isinstance(held, dict):
            given = _of(tensors, path, "given")
            args = tuple(from_plain(one, given) for one in held["args"])
            kwargs = {name: from_plain(one, given) for name, one in held["kwargs"].items()}
            found[path] = args, kwargs
    return found


def ask(
    model: nn.Module, probe: Mapping[str, Any], tensors: Mapping[str, Tensor]
) -> tuple[Answer, ...]:
    """Ask ``model`` what ``probe`` asks, and compare the answers.

    Args:
        model: in eval mode; it is run, and may keep what a run leaves in it.
        probe: of a tune config, checked.
        tensors: that came with it.

    Raises:
        ArtifactError: if a call holds what is none, or has lost its answer.
    """
    calls = {path: held for path, held in probe.items() if isinstance(held, dict)}
    return tuple(_asked(model, path, held, tensors) for path, held in calls.items())


def _asked(
    model: nn.Module, path: str, held: Mapping[str, Any], tensors: Mapping[str, Tensor]
) -> Answer:
    name = f"`{path}`" if path else "the model"
    given, wanted = _of(tensors, path, "given"), _of(tensors, path, "answer")
    if not wanted:
        raise ArtifactError(f"the answer of `probe.{path}` is missing")
    for value in (*held["args"], *held["kwargs"].values()):
        from_plain(value, given)
    try:
        found = _answer(model.get_submodule(path), held, given)
    except Exception as error:  # whatever another class says
        return Answer(path, float("inf"), f"{name} fails on it: {in_short(error)}")
    far, most = distance(found, wanted), held["tolerance"]
    if far == float("inf"):
        return Answer(path, far, f"{name} gives tensors of other shapes, types or infinities")
    return Answer(path, far / most, f"{name} is off by {far:.2%}, {most:.2%} is let pass")


def _of(tensors: Mapping[str, Tensor], path: str, which: str) -> list[Tensor]:
    found: list[Tensor] = []
    while (name := f"{PREFIX}{path}.{which}.{len(found)}") in tensors:
        found.append(tensors[name])
    return found
