"""The files of a quantized model: written atomically, read safely."""

from __future__ import annotations

import io
import logging
import math
import os
import re
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
import yaml
from torch import Tensor, nn

from lpot_lightning.artifacts.archives import check_records
from lpot_lightning.artifacts.believable import NOT_FINITE, not_finite
from lpot_lightning.artifacts.probe import PREFIX
from lpot_lightning.artifacts.tune_config import (
    FORMAT,
    MAX_BYTES,
    hash_in,
    seal,
    seal_with_file,
)
from lpot_lightning.errors import ArtifactError, in_short
from lpot_lightning.machine.files import read_file, remove_file, rename_aside, sha256, write_file
from lpot_lightning.machine.numbers import shown_size
from lpot_lightning.module.stand_in import HELD, put
from lpot_lightning.quantization.backend import BACKENDS

_LOG = logging.getLogger(__name__)
CONFIGURE = "best_configure.yaml"
WEIGHTS = "best_model_weights.pt"


@dataclass(frozen=True)
class Names:
    """What the two files of a model are called."""

    configure: str = CONFIGURE
    weights: str = WEIGHTS


PREVIOUS = ".previous"
"""What is added to the stem of the weights that the next ones replace."""

Model = TypeVar("Model", bound=nn.Module)
_SIZE, _LONGEST_SHAPE = re.compile("[0-9]{1,18}"), 1000
_SHARED, _EXPANDED = 64, 64 << 20
"""How many times tied weights may be there, and how many bytes an expanded mask may stand for."""
_DTYPES = {
    getattr(torch, kind)
    for kind in (
        *("float16", "bfloat16", "float32", "float64", "complex32", "complex64", "complex128"),
        *("uint8", "int8", "int16", "int32", "int64", "bool", "uint16", "uint32", "uint64"),
        *("float8_e4m3fn", "float8_e5m2", "float8_e4m3fnuz", "float8_e5m2fnuz"),
    )
    if hasattr(torch, kind)
}


def save(
    folder: Path,
    configure: Mapping[str, Any],
    plain: Mapping[str, Tensor],
    names: Names = Names(),
    is_kept: Callable[[bytes], bool] = lambda _: False,
) -> dict[str, Any]:
    """Write the weights and then the configuration, which names their hash.

    Killed between the two, the older weights are still there under another name, and ``load``
    finds them: the pair on disk is always a model.

    Args:
        folder: the workspace.
        configure: without what it says of the weights.
        plain: the weights.
        names: of the two files.
        is_kept: whether weights that no configuration names any more are kept elsewhere, too.

    Returns:
        the configuration as written.

    Raises:
        ArtifactError: if a file cannot be written; what was there before still loads.
    """
    content = to_bytes(dict(plain))
    complete = {"format": FORMAT, **configure, "weights": {"file": names.weights}}
    if odd := not_finite(plain):
        complete[NOT_FINITE] = odd
    complete["weights"] |= {"sha256": sha256(content), "content": seal(complete, plain)}
    complete["weights"]["with_file"] = seal_with_file(complete)
    _keep_previous(folder, names, is_kept)
    write_file(folder / names.weights, content)
    save_configure(folder / names.configure, complete)
    remove_file(_previous(folder / names.weights))
    return complete


def save_configure(path: Path, configure: Mapping[str, Any]) -> None:
    """Write the configuration alone; the weights it names are already there."""
    text = yaml.safe_dump(dict(configure), sort_keys=False, default_flow_style=None, width=120)
    write_file(path, text.encode())


def _previous(weights: Path) -> Path:
    return weights.with_stem(weights.stem + PREVIOUS)


def _keep_previous(folder: Path, names: Names, is_kept: Callable[[bytes], bool]) -> None:
    """Hold on to the weights that the configuration on disk names, until it names others.

    Killed between the two files before, the previous ones are the ones to keep: they are left
    alone. Killed after both, they are of no more use. Where no configuration is there an empty file
    is in their place, so that the weights of a killed run are known. Others that no configuration
    of ours names may be somebody's only ones: they are kept under another name.
    """
    weights, named = folder / names.weights, _named(folder / names.configure)
    previous = _previous(weights)
    left = _content_of(previous) if previous.exists() else b""
    if left and sha256(left) != named and not (named and (_is_int8(left) or is_kept(left))):
        _set_aside(previous, names)
    if named is None:
        if not _is_empty(previous):
            _set_aside(weights, names)
            write_file(previous, b"")
        return
    content = _content_of(weights)
    if sha256(content) == named:
        write_file(previous, content)
    elif sha256(_content_of(previous)) != named:
        _set_aside(weights, names)


def _is_int8(content: bytes) -> bool:
    """Whether weights have names that only parts of ours give; others may be anybody's."""
    try:
        found = read_tensors(content, "")
    except ArtifactError:
        return False
    return isinstance(found, dict) and any(HELD in str(name).split(".") for name in found)


def _is_empty(path: Path) -> bool:
    return path.is_file() and not path.stat().st_size


def _named(configure: Path) -> str | None:
    """Return the hash that a configuration names; an LPOT file is none of ours, and names none.

    Raises:
        ArtifactError: if it is there and the disk does not give it: whose the weights are is not
            known then, and nothing may be moved.
    """
    if not os.path.lexists(configure):
        return None
    content = read_file(configure, MAX_BYTES)
    return hash_in(content)


def _content_of(path: Path) -> bytes:
    """Return what is in a file, nothing where there is none.

    Raises:
        ArtifactError: if the disk does not give it.
    """
    return read_file(path, memory()) if os.path.lexists(path) else b""


def _set_aside(weights: Path, names: Names) -> None:
    if not os.path.lexists(weights):
        return
    kept = rename_aside(weights)
    _LOG.warning(
        "`%s` was there and no `%s` names it: kept as `%s`", weights, names.configure, kept
    )


def memory() -> int:
    """Return the bytes of memory that the machine has: no more can be read of any file."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):  # Windows does not say
        return 1 << 37


def to_bytes(content: object) -> bytes:
    """Return what ``torch.save`` would write."""
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()


def read_checked(path: Path, expected: str, fp32: Mapping[str, str] | None = None) -> bytes:
    """Read the weights file whose hash the tune config names.

    Args:
        path: the file.
        expected: its hash.
        fp32: the fingerprint of the fp32 model, whose size bounds that of the file.

    Raises:
        ArtifactError: if it is missing, damaged, or another one.
    """
    most = min(memory(), _most_of(fp32) if fp32 is not None else memory())
    content = read_file(path, most)
    found, previous = sha256(content), _previous(path)
    if found != expected and previous.exists():
        content = read_file(previous, most)  # killed between the two files of a better model
        found = sha256(content)
    if found != expected:
        raise ArtifactError(
            f"`{path}` is damaged or belongs to another tune config: its SHA-256 is"
            f" {found[:16]}…, the tune config names {expected[:16]}…"
        )
    return content


def read_weights(content: bytes, path: Path) -> dict[str, Tensor]:
    """Return the tensors in a weights file, which was read from ``path``.

    Raises:
        ArtifactError: if it holds anything else.
    """
    return plain_tensors(read_tensors(content, str(path)), str(path))


def _most_of(fp32: Mapping[str, str]) -> int:
    """Return what a file can have at most; int8 has a fourth of it, and a little for each tensor.

    Every number counts as 16 bytes, the most that any has; a shape that is none counts nothing.
    """
    numbers = 0
    for shape in map(str, fp32.values()):
        sizes = _SIZE.findall(shape.partition("[")[2][:_LONGEST_SHAPE])
        numbers += math.prod(map(int, sizes))
    return (16 << 20) + (16 << 10) * len(fp32) + 16 * numbers


def read_tensors(content: bytes, name: str) -> Any:
    """Unpickle with ``weights_only=True``, always; any complaint becomes an ``ArtifactError``."""
    try:
        check_records(io.BytesIO(content), len(content))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except Exception as error:  # torch gives ten kinds of them for damaged files
        reason = in_short(error)
        raise ArtifactError(f"`{name}` cannot be read: {reason}") from error


def plain_tensors(found: object, name: str) -> dict[str, Tensor]:
    """Return ``found`` if it maps names to dense tensors, as large as what is stored of them."""
    if not isinstance(found, dict) or not all(
        isinstance(key, str) and isinstance(value, Tensor) for key, value in found.items()
    ):
        raise ArtifactError(f"`{name}` holds something else than dense tensors by name")
    for key, value in found.items():
        if odd := _oddity(value):
            raise ArtifactError(
                f"`{name}` holds something else than dense tensors by name: `{key}` is {odd}"
            )
    _check_stored(found, name)
    return found


def _oddity(value: Tensor) -> str:
    """Return in what a tensor is another one than a state of ours holds; empty if in nothing."""
    if value.is_nested:
        return "nested"
    if value.layout is not torch.strided:
        return f"`{value.layout}`"
    if value.device.type != "cpu":
        return f"on `{value.device}`"
    if value.is_quantized:
        return "quantized"
    if value.is_conj() or value.is_neg():
        return "a view that conjugates or negates"
    if value.dtype not in _DTYPES:
        return f"of `{value.dtype}`"
    return ""


def _check_stored(found: Mapping[str, Tensor], name: str) -> None:
    """Refuse views of little that would be copied to much: an expanded one, or thousands of one."""
    stored = {
        value.untyped_storage().data_ptr(): value.untyped_storage().nbytes()
        for value in found.values()
    }
    shown = sum(value.numel() * value.element_size() for value in found.values())
    if shown > _SHARED * sum(stored.values()) + _EXPANDED:
        held, seen = (shown_size(one, binary=True) for one in (sum(stored.values()), shown))
        raise ArtifactError(f"`{name}` holds {held} of numbers, which its tensors show as {seen}")


def rebuild(configure: Mapping[str, Any], plain: Mapping[str, Tensor], restored: Model) -> Model:
    """Return ``restored`` with int8 parts, filled with ``plain``; graphs are not joined yet.

    Args:
        configure: checked, and found to be that of ``plain``.
        plain: the tensors of the int8 model, and those of its probe.
        restored: an fp32 model of our own, of the structure that was quantized; it is changed.

    Raises:
        ArtifactError: if the tensors do not fit it.
    """
    backend = BACKENDS[configure["backend"]]()
    try:
        parts = backend.rebuild(restored, configure)
    except ArtifactError:
        raise
    except Exception as error:  # torch's own, about a model or a tune config that it cannot follow
        reason = in_short(error)
        raise ArtifactError(f"the model cannot be rebuilt from it: {reason}") from error
    put(restored, parts)
    own = {name: one for name, one in plain.items() if not name.startswith(PREFIX)}
    backend.fill(restored, own, configure["engine"])
    return restored.requires_grad_(False).eval()
