"""The files of a quantized model: written atomically, read safely."""

from __future__ import annotations

import hashlib
import io
import os
import warnings
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar, cast

import torch
import yaml
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from lpot_lightning.errors import ArtifactError, did_you_mean
from lpot_lightning.files import sha256, write_file
from lpot_lightning.quantization.backend import BACKENDS
from lpot_lightning.quantization.replace import put, second_model

FORMAT = "lpot_lightning/1"
CONFIGURE = "best_configure.yaml"
WEIGHTS = "best_model_weights.pt"
PREVIOUS = "best_model_weights.previous.pt"

Model = TypeVar("Model", bound=nn.Module)


def content_hash(value: object) -> str:
    """Return a SHA-256 over all tensors, numbers and texts in ``value``, at any depth."""
    digest = hashlib.sha256()
    leaves, tree = pytree.tree_flatten(value)
    digest.update(str(tree).encode())
    for leaf in leaves:
        if isinstance(leaf, Tensor):
            digest.update(f"{leaf.dtype}{list(leaf.shape)}".encode())
            plain = leaf.detach().cpu().contiguous().reshape(-1)
            digest.update(plain.view(torch.uint8).numpy().tobytes())
        else:
            digest.update(f"{type(leaf).__name__}{leaf!r}".encode())
    return digest.hexdigest()


def fingerprint(model: nn.Module) -> dict[str, str]:
    """Return name to dtype and shape of every tensor of the fp32 model, as ``float32[8, 3]``."""
    return {
        name: f"{str(value.dtype).removeprefix('torch.')}{list(value.shape)}"
        for name, value in nn.Module.state_dict(model).items()
        if isinstance(value, Tensor)
    }


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
            "content": _seal(configure, plain),
        },
    }
    _keep_previous(folder)
    write_file(folder / WEIGHTS, content)
    save_configure(folder, complete)
    with suppress(FileNotFoundError):
        (folder / PREVIOUS).unlink()
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
    with suppress(ArtifactError):
        named = read_configure(folder / CONFIGURE)["weights"]["sha256"]
        content = _read(folder / WEIGHTS)
        if sha256(content) == named:
            write_file(folder / PREVIOUS, content)


def _seal(configure: Mapping[str, Any], plain: Mapping[str, Tensor]) -> str:
    """Return a hash over all that decides what the restored model computes."""
    return content_hash([{field: configure[field] for field in _SEALED}, dict(plain)])


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


def read_configure(path: Path) -> dict[str, Any]:
    """Read and check a ``best_configure.yaml``.

    Raises:
        ArtifactError: if it is missing, no YAML, of another format or lacks a field.
    """
    try:
        found = yaml.safe_load(_read(path))
    except ArtifactError:
        raise
    except Exception as error:  # PyYAML 6 gives five kinds of them for damaged files
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        raise ArtifactError(f"`{path}` is no readable tune config: {reason}") from error
    try:
        check_configure(found)
    except ArtifactError as error:
        raise ArtifactError(f"`{path}`: {error}") from error
    return cast(dict[str, Any], found)


_FIELDS: dict[str, type | tuple[type, ...]] = {
    "backend": str,
    "engine": str,
    "reduce_range": bool,
    "parts": list,
    "op": dict,
    "fp32_model": dict,
    "weights": dict,
}
_PART = {"path": str, "wrapped": bool, "fixed": dict}
_SEALED = ("backend", "parts", "op", "fp32_model")


def check_configure(found: object) -> None:
    """Raise ``ArtifactError`` unless ``found`` has the fields that ``rebuild`` reads."""
    if not isinstance(found, dict) or found.get("format") != FORMAT:
        came = found.get("format") if isinstance(found, dict) else None
        came = came if isinstance(came, str) else type(found).__name__
        raise ArtifactError(
            f"`format` is `{came}`, this version reads `{FORMAT}`; an LPOT or Neural Compressor"
            " file cannot be read: quantize the model again"
        )
    for field, kind in _FIELDS.items():
        if not isinstance(found.get(field), kind):
            raise ArtifactError(f"`{field}` is missing or no {getattr(kind, '__name__', kind)}")
    if found["backend"] not in BACKENDS:
        raise ArtifactError(
            f"`backend` is `{found['backend']}`; this version has {', '.join(sorted(BACKENDS))}."
            + did_you_mean(str(found["backend"]), BACKENDS)
        )
    if not isinstance(found["weights"].get("sha256"), str):
        raise ArtifactError("`weights.sha256` is missing")
    for part in found["parts"]:
        if not isinstance(part, dict) or not _fits(part, _PART):
            raise ArtifactError("each of `parts` needs `path`, `wrapped` and `fixed`")
    for name, op in found["op"].items():
        if not isinstance(op, dict) or not isinstance(op.get("activation"), dict):
            raise ArtifactError(f"op `{name}` needs `activation`")


def _fits(plain: Mapping[str, Any], fields: Mapping[str, type]) -> bool:
    return set(plain) == set(fields) and all(
        isinstance(plain[name], kind) for name, kind in fields.items()
    )


def check_hash(configure: Mapping[str, Any], plain: Mapping[str, Tensor]) -> None:
    """Raise ``ArtifactError`` unless the tensors are those that the tune config was written for."""
    if configure["weights"].get("content") != _seal(configure, plain):
        raise ArtifactError(
            f"one of {', '.join(f'`{field}`' for field in _SEALED)}, or an int8 tensor, is not what"
            " was written: the file is damaged, was edited, or belongs to other weights"
        )


def _read_weights(path: Path, expected: str) -> dict[str, Tensor]:
    """Read the weights whose hash the tune config names."""
    content = _read(path)
    previous = path.with_name(PREVIOUS)
    if sha256(content) != expected and previous.exists():
        content = _read(previous)  # killed between the two files of a better model
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
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ArtifactError(f"`{name}` cannot be read: {reason}") from error


def plain_tensors(found: object, name: str) -> dict[str, Tensor]:
    """Return ``found`` if it maps names to dense tensors."""
    if isinstance(found, dict) and all(
        isinstance(key, str) and isinstance(value, Tensor) and value.layout is torch.strided
        for key, value in found.items()
    ):
        return found
    raise ArtifactError(f"`{name}` holds something else than dense tensors by name")


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ArtifactError(f"cannot read `{path}`: {error.strerror}") from error


def rebuild(configure: Mapping[str, Any], plain: Mapping[str, Tensor], model: Model) -> Model:
    """Return a copy of ``model`` with int8 parts, filled with ``plain``.

    Raises:
        ArtifactError: if the model is of another structure, or the tensors do not fit it.
    """
    _check_fingerprint(configure["fp32_model"], fingerprint(model))
    check_hash(configure, plain)
    backend = BACKENDS[configure["backend"]]()
    restored = second_model(model)
    try:
        parts = backend.rebuild(restored, configure)
    except ArtifactError:
        raise
    except Exception as error:  # torch's own, about a model or a tune config that it cannot follow
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        raise ArtifactError(f"the model cannot be rebuilt from it: {reason}") from error
    if "" in parts:
        restored = cast(Model, parts[""])
    else:
        put(restored, parts)
    backend.fill(restored, plain, configure["engine"])
    return restored.requires_grad_(False).eval()


def _check_fingerprint(expected: Mapping[str, str], found: Mapping[str, str]) -> None:
    for name in (*expected, *found):
        if name not in found:
            raise ArtifactError(f"the model has no `{name}`, the quantized one had")
        if name not in expected:
            raise ArtifactError(f"the model has `{name}`, the quantized one had not")
        if found[name] != expected[name]:
            raise ArtifactError(
                f"`{name}` of the model is {found[name]}, the quantized one's was {expected[name]}"
            )
