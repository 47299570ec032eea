"""Lightning checkpoints: which weights are quantized, and int8 in one file."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar

import lightning
from lightning.fabric.utilities.cloud_io import _load
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from omegaconf import DictConfig, OmegaConf
from torch import Tensor

from lpot_lightning.errors import ArtifactError, QuantizationError, in_short
from lpot_lightning.files import write_file
from lpot_lightning.quantization import storage
from lpot_lightning.quantization.configure import check_configure
from lpot_lightning.quantization.replace import second_model

Choice = Literal["best", "last", "current"]
CHOICES = ("best", "last", "current")
FILE = "best_quantized.ckpt"
KEY = "lpot_lightning"

Module = TypeVar("Module", bound=LightningModule)


def saved_weights(trainer: Trainer, choice: Choice) -> str:
    """Return the path of the checkpoint whose weights are asked for, ``""`` for the live ones."""
    kept = trainer.checkpoint_callback
    if choice == "current" or not isinstance(kept, ModelCheckpoint):
        return ""
    return kept.best_model_path if choice == "best" else kept.last_model_path


def read_checkpoint(path: str) -> dict[str, Any]:
    """Read a checkpoint with ``weights_only=True``, local or remote.

    Raises:
        QuantizationError: if it cannot be read that way, or is no checkpoint of Lightning.
    """
    try:
        found = _load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise QuantizationError(f"cannot read `{path}`: {error.strerror or error}") from error
    except Exception as error:
        raise QuantizationError(
            f"`{path}` cannot be read with `weights_only=True`: {in_short(error)} Keep"
            " hyperparameters to plain numbers, texts, lists and dicts, or quantize the weights in"
            " memory with `ckpt='current'`"
        ) from error
    if not isinstance(found, dict) or not isinstance(found.get("state_dict"), dict):
        raise QuantizationError(f"`{path}` is no Lightning checkpoint: it has no `state_dict`")
    return found


def model_with(module: Module, path: str) -> Module:
    """Return a second model, with the weights of the checkpoint at ``path`` where there is one.

    Raises:
        QuantizationError: if the module cannot be copied, or the checkpoint is not its own.
    """
    copied = second_model(module)
    if path:
        checkpoint = read_checkpoint(path)
        copied.on_load_checkpoint(checkpoint)
        try:
            copied.load_state_dict(checkpoint["state_dict"], strict=copied.strict_loading)
        except RuntimeError as error:
            reason = " ".join(str(error).split())
            raise QuantizationError(
                f"`{path}` is not of this `{type(module).__name__}`: {reason}"
            ) from error
    return copied


def write_checkpoint(
    folder: Path,
    trainer: Trainer,
    module: LightningModule,
    fp32: Mapping[str, Any],
    configure: Mapping[str, Any],
    plain: Mapping[str, Tensor],
    say: Callable[[str], None],
) -> None:
    """Write ``best_quantized.ckpt``: fp32 for Lightning, int8 under our own key.

    ``Cls.load_from_checkpoint`` alone gives the fp32 model; what it could not read with
    ``weights_only=True`` is left out, and ``say`` told.

    Args:
        module: a copy of the user's, to ask for hyperparameters and for what it adds itself.
    """
    checkpoint: dict[str, Any] = {
        "epoch": trainer.current_epoch,
        "global_step": trainer.global_step,
        "pytorch-lightning_version": lightning.__version__,
        "state_dict": _readable_state(fp32, say),
        KEY: {"configure": dict(configure), "weights": dict(plain)},
    }
    if module.hparams:
        if hasattr(module, "_hparams_name"):
            checkpoint[module.CHECKPOINT_HYPER_PARAMS_NAME] = module._hparams_name
        checkpoint[module.CHECKPOINT_HYPER_PARAMS_KEY] = _readable(_plain(module), say)
    known = set(checkpoint)
    module.trainer = trainer
    module.on_save_checkpoint(checkpoint)
    theirs = {key: checkpoint.pop(key) for key in set(checkpoint) - known}
    checkpoint.update(_readable(theirs, say))
    write_file(folder / FILE, storage.to_bytes(checkpoint))


def _plain(module: LightningModule) -> dict[str, Any]:
    hparams = module.hparams
    if isinstance(hparams, DictConfig):
        return dict(OmegaConf.to_container(hparams))  # type: ignore[arg-type]
    return dict(hparams)


def _readable_state(state: Mapping[str, Any], say: Callable[[str], None]) -> dict[str, Any]:
    """Return a state_dict of which only what is no tensor needs a look: a module's extra state."""
    tensors = {name: value for name, value in state.items() if isinstance(value, Tensor)}
    others = {name: value for name, value in state.items() if name not in tensors}
    return tensors | _readable(others, say)


def _readable(items: Mapping[str, Any], say: Callable[[str], None]) -> dict[str, Any]:
    """Return what ``weights_only=True`` can read back."""
    kept: dict[str, Any] = {}
    for name, value in items.items():
        try:
            storage.read_tensors(storage.to_bytes(value), name)
        except Exception as error:  # what cannot be pickled raises whatever its class likes
            say(f"`{name}` is left out of `{FILE}`: {in_short(error)}")
        else:
            kept[name] = value
    return kept


def load_from_checkpoint(cls: type[Module], path: str | os.PathLike[str], **kwargs: Any) -> Module:
    """Restore the int8 model from the one file ``best_quantized.ckpt``.

    Args:
        cls: the LightningModule class that was quantized.
        path: the checkpoint, local or remote.
        kwargs: as for ``LightningModule.load_from_checkpoint``: hyperparameters to override.

    Returns:
        the int8 model, in eval mode and on the CPU.

    Raises:
        ArtifactError: if it is no checkpoint of ours, is damaged, or is of another class.

    Example::

        model = lpot_lightning.load_from_checkpoint(LitDigits, "workspace/best_quantized.ckpt")
    """
    name = os.fspath(path)
    kwargs.setdefault("map_location", "cpu")
    try:
        checkpoint = _load(name, map_location="cpu", weights_only=True)
    except Exception as error:
        raise ArtifactError(f"cannot read `{name}`: {in_short(error)}") from error
    ours = checkpoint.get(KEY) if isinstance(checkpoint, dict) else None
    if not isinstance(ours, dict) or set(ours) != {"configure", "weights"}:
        raise ArtifactError(
            f"`{name}` holds no quantized model: it has no key `{KEY}`; the file to give is"
            f" `{FILE}` of a workspace"
        )
    try:
        check_configure(ours["configure"])
        plain = storage.plain_tensors(ours["weights"], f"{KEY}.weights")
        fp32 = cls.load_from_checkpoint(name, weights_only=True, **kwargs)
        return storage.rebuild(ours["configure"], plain, fp32)
    except ArtifactError as error:
        raise ArtifactError(f"`{name}`: {error}") from error
    except RuntimeError as error:
        reason = " ".join(str(error).split())
        raise ArtifactError(f"`{name}` is not of `{cls.__name__}`: {reason}") from error
