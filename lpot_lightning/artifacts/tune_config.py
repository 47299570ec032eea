"""The tune config: what is in it, and whether it can be believed."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from lpot_lightning.artifacts.believable import NOT_FINITE, check_fields
from lpot_lightning.artifacts.constants import check_modules
from lpot_lightning.artifacts.probe import check_probe
from lpot_lightning.conf.schema import Conf
from lpot_lightning.errors import ArtifactError, in_short, quoted
from lpot_lightning.machine.files import read_file
from lpot_lightning.machine.plain_yaml import TooMuch, check_plain, read_plain_yaml
from lpot_lightning.module.fingerprint import content_hash
from lpot_lightning.quantization.backend import check_backend
from lpot_lightning.recipe import Recipe, Rung, config_of
from lpot_lightning.tuning.score import Criterion
from lpot_lightning.version import VERSION

OURS = "lpot_lightning/"
FORMAT = f"{OURS}2"
MAX_BYTES = 16 << 20
"""Of a tune config: that of 2,000 ops, with the channels that were cut, has 1 MB."""
_FIELDS: dict[str, type | tuple[type, ...]] = {
    "backend": str,
    "engine": str,
    "reduce_range": bool,
    "parts": list,
    "op": dict,
    "modules": dict,
    "signatures": dict,
    "probe": dict,
    "fp32_model": dict,
    "weights": dict,
}
_PRUNED: dict[str, type | tuple[type, ...]] = {"fp32_model": dict, "weights": dict}
_TRAITS: dict[str, type | tuple[type, ...]] = {"modules": dict, "signatures": dict, "probe": dict}
"""What a pruned model is known by besides, but for those of earlier versions."""
_PART = {"path": str, "wrapped": bool, "fixed": dict, "kept": list}
_NOT_SEALED = ("sha256", "content", "with_file")
"""Of ``weights``: the hash of the file, and the seals themselves."""
_SCALARS = frozenset((str, int, float, bool, type(None)))
FLOATS = ("fp32", "bf16")
"""Of what type attention and products of activations are; earlier files do not say it."""
RUNGS = {one.value: (one.bits,) for one in Rung}
"""What an op can be, from the fastest to the slowest, and in how many bits."""
PRUNING = "pruning"
"""The ``approach`` of a model that was pruned and is still fp32."""


def heading(conf: Conf, approach: str) -> dict[str, Any]:
    """Return what every tune config says of itself: which model, how made, by which versions."""
    return {
        "framework": conf.model.framework,
        "model": conf.model.name,
        "approach": approach,
        "versions": {"lpot_lightning": VERSION, "torch": str(torch.__version__)},
    }


def verdict(monitor: str, criterion: Criterion, baseline: float, **found: Any) -> dict[str, Any]:
    """Return the ``accuracy`` of a tune config: what was asked for, and what was ``found``."""
    kind = "relative" if criterion.relative else "absolute"
    return {
        "monitor": monitor,
        "higher_is_better": criterion.higher_is_better,
        "criterion": {kind: criterion.goal},
        "baseline": baseline,
        **found,
    }


def with_rungs(ops: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Return ``op`` of a tune config, each with its ``rung`` and ``bits``.

    Args:
        ops: as a backend describes them.

    Example::

        with_rungs({"fc": {"activation": {"dtype": "fp32"}}})["fc"]["bits"]  # 32
    """
    return {name: {**_rung_of(op), **op} for name, op in ops.items()}


def _rung_of(op: Mapping[str, Any]) -> dict[str, Any]:
    rung = Recipe.of({"it": config_of(op)}).rungs["it"]
    return {"rung": rung.value, "bits": rung.bits}


def read_configure(path: Path) -> dict[str, Any]:
    """Read and check a ``best_configure.yaml``.

    Raises:
        ArtifactError: if it is missing, no YAML, of another format or lacks a field.
    """
    return parse_configure(read_file(path, MAX_BYTES), path)


def parse_configure(content: bytes, path: Path) -> dict[str, Any]:
    """Check the content of a ``best_configure.yaml``, which was read from ``path``.

    Raises:
        ArtifactError: as ``read_configure`` does, but for a file that cannot be read.
    """
    try:
        found = read_plain_yaml(content)
    except Exception as error:  # PyYAML 6 gives five kinds of them for damaged files
        reason = in_short(error)
        raise ArtifactError(f"`{path}` is no readable tune config: {reason}") from error
    try:
        _check_fields(found)
    except ArtifactError as error:
        raise ArtifactError(f"`{path}`: {error}") from error
    return cast(dict[str, Any], found)


def hash_in(content: bytes) -> str | None:
    """Return the hash of the weights that a file names, of whatever version of ours it is."""
    try:
        found = read_plain_yaml(content)
        ours = str(found["format"]).startswith(OURS)
        named = found["weights"]["sha256"]
    except Exception:  # PyYAML's five kinds, and what is no mapping or another one
        return None
    return named if ours and isinstance(named, str) else None


def check_configure(found: object) -> None:
    """Raise ``ArtifactError`` unless ``found`` has the fields that ``rebuild`` reads."""
    try:
        check_plain(found)  # one of a checkpoint came by no YAML
    except TooMuch as error:
        raise ArtifactError(f"the tune config is not what was written: {error}") from error
    _check_fields(found)


def _check_fields(found: object) -> None:
    found = _of_this_format(found)
    pruned = found.get("approach") == PRUNING
    fields = (_PRUNED | (_TRAITS if "probe" in found else {})) if pruned else _FIELDS
    for field, kind in fields.items():
        if not isinstance(found.get(field), kind):
            raise ArtifactError(f"`{field}` is missing or no {getattr(kind, '__name__', kind)}")
    if not isinstance(found["weights"].get("sha256"), str):
        raise ArtifactError("`weights.sha256` is missing")
    check_fields(found.get(NOT_FINITE, []))
    if not all(isinstance(one, str) for pair in found["fp32_model"].items() for one in pair):
        raise ArtifactError("`fp32_model` is no mapping of names to types and shapes")
    if not pruned:
        _check_int8(found)
    if "probe" in found:
        check_modules(found["modules"])
        check_probe(found["probe"])


def _check_int8(found: Mapping[str, Any]) -> None:
    check_backend(
        found["backend"],
        "backend",
        "quantize the fp32 model again; its own checkpoints load as ever",
    )
    if found.get("float", FLOATS[0]) not in FLOATS:
        allowed = quoted(FLOATS)
        raise ArtifactError(f"`float` is `{_shown(found['float'])}`; this version has {allowed}")
    for part in found["parts"]:
        if not isinstance(part, dict) or not _fits(part, _PART):
            raise ArtifactError("each of `parts` needs `path`, `wrapped` and `fixed`")
    for name, op in found["op"].items():
        if not isinstance(op, dict) or not isinstance(op.get("activation"), dict):
            raise ArtifactError(f"op `{name}` needs `activation`")
        _check_rung(name, op)


def _of_this_format(found: object) -> dict[str, Any]:
    came = found.get("format") if isinstance(found, dict) else None
    if isinstance(found, dict) and came == FORMAT:
        return found
    came = came if isinstance(came, str) else type(found).__name__
    if came.startswith(OURS):
        raise ArtifactError(
            f"`format` is `{came[:60]}`, this version reads `{FORMAT}`: quantize the model again,"
            " or load it by the version of lpot_lightning that wrote it"
        )
    raise ArtifactError(
        f"`format` is `{came}`, this version reads `{FORMAT}`; an LPOT or Neural Compressor"
        " file cannot be read: quantize the model again"
    )


def _check_rung(name: object, op: Mapping[str, Any]) -> None:
    """Raise ``ArtifactError`` where an op is something that this version cannot compute."""
    rung, bits = op.get("rung"), op.get("bits")
    if not isinstance(rung, str) or rung not in RUNGS:
        raise ArtifactError(
            f"op `{name}` has `rung: {_shown(rung)}`, this version has"
            f" {', '.join(f'`{one}`' for one in RUNGS)}: update lpot_lightning"
        )
    if type(bits) is not int or bits not in RUNGS[rung]:
        raise ArtifactError(
            f"op `{name}` has `bits: {_shown(bits)}`, this version has"
            f" {', '.join(f'`{one}`' for one in RUNGS[rung])} for `{rung}`: update lpot_lightning"
        )


def _shown(value: object) -> str:
    return str(value)[:60]


def _fits(plain: Mapping[str, Any], fields: Mapping[str, type]) -> bool:
    return set(plain) == set(fields) and all(
        isinstance(plain[name], kind) for name, kind in fields.items()
    )


def check_hash(
    configure: Mapping[str, Any], plain: Mapping[str, Tensor], *, of_file: bool = False
) -> None:
    """Raise ``ArtifactError`` unless the tensors are those that the tune config was written for.

    Args:
        configure: checked.
        plain: the tensors.
        of_file: whether they come of a file whose hash is the ``sha256`` that ``configure`` names:
            then a seal over that stands for one over all of them, and they are hashed once.
    """
    if of_file and configure["weights"].get("with_file") == seal_with_file(configure):
        return
    if configure["weights"].get("content") != seal(configure, plain):
        raise ArtifactError(
            "the tune config, or an int8 tensor, is not what was written: the file is damaged, was"
            " edited, or belongs to other weights"
        )


def seal(configure: Mapping[str, Any], plain: Mapping[str, Tensor]) -> str:
    """Return a hash over all of a tune config, but for its hashes, and over all tensors."""
    weights = {
        name: value for name, value in configure["weights"].items() if name not in _NOT_SEALED
    }
    return content_hash([_as_read({**configure, "weights": weights}), dict(plain)])


def seal_with_file(configure: Mapping[str, Any]) -> str:
    """Return a hash over all of a tune config, and the hash of the file that it names."""
    weights = {
        name: value
        for name, value in configure["weights"].items()
        if name == "sha256" or name not in _NOT_SEALED
    }
    return content_hash(_as_read({**configure, "weights": weights}))


def _as_read(value: Any) -> Any:
    """Return plain values as YAML gives them back, which has no tuples."""
    if type(value) in _SCALARS:
        return value
    if isinstance(value, dict):
        return {key: _as_read(one) for key, one in value.items()}
    return [_as_read(one) for one in value] if isinstance(value, list | tuple) else value
