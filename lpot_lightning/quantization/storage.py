"""The files of a quantized model: written atomically, read safely."""

from __future__ import annotations

import io
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
import yaml
from torch import Tensor, nn

from lpot_lightning.errors import ArtifactError, in_short
from lpot_lightning.files import read_file, remove_file, sha256, write_file
from lpot_lightning.quantization.backend import BACKENDS
from lpot_lightning.quantization.configure import FORMAT, check_hash, read_configure, seal
from lpot_lightning.quantization.fingerprint import check_fingerprint, fingerprint
from lpot_lightning.quantization.replace import put

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


def save(
    folder: Path,
    configure: Mapping[str, Any],
    plain: Mapping[str, Tensor],
    names: Names = Names(),
) -> dict[str, Any]:
    """Write the weights and then the configuration, which names their hash.

    Killed between the two, the older weights are still there under another name, and ``load``
    finds them: the pair on disk is always a model.

    Returns:
        the configuration as written.

    Raises:
        ArtifactError: if a file cannot be written; what was there before still loads.
    """
    content = to_bytes(dict(plain))
    complete = {
        "format": FORMAT,
        **configure,
        "weights": {
            "file": names.weights,
            "sha256": sha256(content),
            "content": seal(configure, plain),
        },
    }
    _keep_previous(folder, names)
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


def _keep_previous(folder: Path, names: Names) -> None:
    """Hold on to the weights that the configuration on disk names, until it names others.

    Killed between the two files before, the previous ones are the ones to keep: they are left
    alone. What cannot be loaded, an LPOT file for one, is not worth keeping.
    """
    try:
        named = read_configure(folder / names.configure)["weights"]["sha256"]
        content = read_file(folder / names.weights)
    except ArtifactError:
        return
    if sha256(content) == named:
        write_file(_previous(folder / names.weights), content)


def to_bytes(content: object) -> bytes:
    """Return what ``torch.save`` would write."""
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()


def read_weights(path: Path, expected: str) -> dict[str, Tensor]:
    """Read the weights whose hash the tune config names.

    Raises:
        ArtifactError: if they are missing, damaged, others, or anything but tensors.
    """
    content = read_file(path)
    previous = _previous(path)
    if sha256(content) != expected and previous.exists():
        content = read_file(previous)  # killed between the two files of a better model
    if sha256(content) != expected:
        raise ArtifactError(
            f"`{path}` is damaged or belongs to another tune config: its SHA-256 is"
            f" {sha256(content)[:16]}…, the tune config names {expected[:16]}…"
        )
    return plain_tensors(read_tensors(content, str(path)), str(path))


def read_tensors(content: bytes, name: str) -> Any:
    """Unpickle with ``weights_only=True``, always; any complaint becomes an ``ArtifactError``."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except Exception as error:  # torch gives ten kinds of them for damaged files
        reason = in_short(error)
        raise ArtifactError(f"`{name}` cannot be read: {reason}") from error


def plain_tensors(found: object, name: str) -> dict[str, Tensor]:
    """Return ``found`` if it maps names to dense tensors."""
    if isinstance(found, dict) and all(
        isinstance(key, str) and isinstance(value, Tensor) and value.layout is torch.strided
        for key, value in found.items()
    ):
        return found
    raise ArtifactError(f"`{name}` holds something else than dense tensors by name")


def rebuild(configure: Mapping[str, Any], plain: Mapping[str, Tensor], restored: Model) -> Model:
    """Return ``restored`` with int8 parts, filled with ``plain``.

    Args:
        configure: checked.
        plain: the tensors of the int8 model.
        restored: an fp32 model of our own; it is changed.

    Raises:
        ArtifactError: if the model is of another structure, or the tensors do not fit it.
    """
    check_fingerprint(configure["fp32_model"], fingerprint(restored))
    check_hash(configure, plain)
    backend = BACKENDS[configure["backend"]]()
    try:
        parts = backend.rebuild(restored, configure)
    except ArtifactError:
        raise
    except Exception as error:  # torch's own, about a model or a tune config that it cannot follow
        reason = in_short(error)
        raise ArtifactError(f"the model cannot be rebuilt from it: {reason}") from error
    put(restored, parts)
    backend.fill(restored, plain, configure["engine"])
    return restored.requires_grad_(False).eval()
