"""The files of a quantized model: written atomically, read safely."""

from __future__ import annotations

import io
import os
import warnings
from collections.abc import Mapping
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
from lpot_lightning.quantization.replace import put, second_model

CONFIGURE = "best_configure.yaml"
WEIGHTS = "best_model_weights.pt"
PREVIOUS = "best_model_weights.previous.pt"

Model = TypeVar("Model", bound=nn.Module)


def save(folder: Path, configure: Mapping[str, Any], plain: Mapping[str, Tensor]) -> dict[str, Any]:
    """Write ``best_model_weights.pt`` and then ``best_configure.yaml``, which names its hash.

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
            "file": WEIGHTS,
            "sha256": sha256(content),
            "content": seal(configure, plain),
        },
    }
    _keep_previous(folder)
    write_file(folder / WEIGHTS, content)
    save_configure(folder, complete)
    remove_file(folder / PREVIOUS)
    return complete


def save_configure(folder: Path, configure: Mapping[str, Any]) -> None:
    """Write ``best_configure.yaml`` alone; the weights it names are already there."""
    text = yaml.safe_dump(dict(configure), sort_keys=False, default_flow_style=None, width=120)
    write_file(folder / CONFIGURE, text.encode())


def _keep_previous(folder: Path) -> None:
    """Hold on to the weights that the tune config on disk names, until it names others.

    Killed between the two files before, the previous ones are the ones to keep: they are left
    alone. What cannot be loaded, an LPOT file for one, is not worth keeping.
    """
    try:
        named = read_configure(folder / CONFIGURE)["weights"]["sha256"]
        content = read_file(folder / WEIGHTS)
    except ArtifactError:
        return
    if sha256(content) == named:
        write_file(folder / PREVIOUS, content)


def to_bytes(content: object) -> bytes:
    """Return what ``torch.save`` would write."""
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()


def load(
    tune_cfg_file: str | os.PathLike[str], weights_file: str | os.PathLike[str], model: Model
) -> Model:
    """Restore a quantized model from the two files of a workspace.

    Everything is checked before anything is built: the hash of the weights file, names, shapes
    and dtypes, scales, and that ``model`` is of the structure that was quantized. Nothing is
    recomputed: int8 weights, biases and fallback layers are those of the file.

    Args:
        tune_cfg_file: ``best_configure.yaml``.
        weights_file: ``best_model_weights.pt``.
        model: the fp32 model, with whatever weights; it is left as it is.

    Returns:
        a second model of the same class, in eval mode and on the CPU.

    Raises:
        ArtifactError: naming the file and the first thing that is missing, damaged or foreign.

    Example::

        fp32 = LitDigits.load_from_checkpoint("best.ckpt")
        int8 = lpot_lightning.load(f"{ws}/best_configure.yaml", f"{ws}/best_model_weights.pt", fp32)
        Trainer(accelerator="cpu").test(int8, datamodule=data)
    """
    configure_path = Path(tune_cfg_file).expanduser()
    weights_path = Path(weights_file).expanduser()
    configure = read_configure(configure_path)
    plain = _read_weights(weights_path, configure["weights"]["sha256"])
    try:
        return rebuild(configure, plain, model)
    except ArtifactError as error:
        raise ArtifactError(f"`{configure_path}`: {error}") from error


def _read_weights(path: Path, expected: str) -> dict[str, Tensor]:
    """Read the weights whose hash the tune config names."""
    content = read_file(path)
    previous = path.with_name(PREVIOUS)
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


def rebuild(configure: Mapping[str, Any], plain: Mapping[str, Tensor], model: Model) -> Model:
    """Return a copy of ``model`` with int8 parts, filled with ``plain``.

    Raises:
        ArtifactError: if the model is of another structure, or the tensors do not fit it.
    """
    restored = second_model(model)
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
