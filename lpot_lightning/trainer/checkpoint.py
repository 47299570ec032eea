"""Lightning checkpoints: which weights are quantized, and int8 in one file."""

from __future__ import annotations

import json
import os
import warnings
import zipfile
import zlib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar

import lightning
from lightning.fabric.utilities.cloud_io import _load
from lightning.pytorch import LightningModule, Trainer
from omegaconf import DictConfig, OmegaConf
from torch import Tensor

from lpot_lightning.artifacts import storage
from lpot_lightning.artifacts.archives import check_file, check_sums_of
from lpot_lightning.artifacts.earlier import CHECKPOINT
from lpot_lightning.artifacts.restore import restored
from lpot_lightning.artifacts.tune_config import check_configure
from lpot_lightning.errors import ArtifactError, ConfError, QuantizationError, in_one_line, in_short
from lpot_lightning.machine.files import checked_path, remove_file, rename_aside, write_file
from lpot_lightning.machine.reading import open_regular
from lpot_lightning.machine.typed import check_typed
from lpot_lightning.module.compiled_names import PART, compiled_as, named_as
from lpot_lightning.module.copying import second_model
from lpot_lightning.module.fingerprint import content_hash
from lpot_lightning.module.stand_in import put
from lpot_lightning.quantization.backend import BACKENDS, check_backend
from lpot_lightning.trainer.readable import readable_part
from lpot_lightning.training_log import TrainingLog

Form = Literal["int8", "fake_quant"]
FORMS = ("int8", "fake_quant")
FILE = CHECKPOINT
_MAX_PICKLED = 64 << 20
"""Of the names and shapes in a checkpoint; a million tensors have as much."""
KEY, QAT, VALIDATIONS, SEAL = "lpot_lightning", "qat", "validations", "sha256"
_NEEDED = ("epoch", "global_step", "pytorch-lightning_version", "state_dict")
"""What Lightning loads no checkpoint without, also where a hook has taken it out."""
_QAT_FIELDS: dict[str, Any] = {
    "asked": str,
    "start": (float, type(None)),
    "first": (int, type(None)),
    "first_step": (int, type(None)),
    "training": dict,
}
_SEALED = {"configure", "weights"}
"""What of ours is in ``best_quantized.ckpt``; besides, ``SEAL``, which earlier versions had not."""

Module = TypeVar("Module", bound=LightningModule)


def read_checkpoint(path: str) -> dict[str, Any]:
    """Read a checkpoint with ``weights_only=True``, local or remote.

    Raises:
        QuantizationError: if it cannot be read that way, or is no checkpoint of Lightning.
    """
    try:
        check_file(path)
        check_sums_of(path)
    except OSError as error:
        raise QuantizationError(f"cannot read `{path}`: {error.strerror or error}") from error
    except (ValueError, zipfile.BadZipFile) as error:
        raise QuantizationError(
            f"`{path}` is damaged, or no checkpoint: {error}; take another one"
        ) from error
    try:
        found = _load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise QuantizationError(f"cannot read `{path}`: {error.strerror or error}") from error
    except Exception as error:
        raise QuantizationError(
            f"`{path}` cannot be read with `weights_only=True`: {in_short(error)}; keep"
            " hyperparameters to plain numbers, texts, lists and dicts, or quantize the weights in"
            " memory with `ckpt='current'`"
        ) from error
    if not isinstance(found, dict) or not isinstance(found.get("state_dict"), dict):
        raise QuantizationError(f"`{path}` is no Lightning checkpoint: it has no `state_dict`")
    return found


def sealed_qat(state: Mapping[str, Any]) -> dict[str, Any]:
    """Return what ``QATCallback`` puts into a checkpoint, with a hash over all of it."""
    return {**state, SEAL: content_hash(dict(state))}


def qat_state(checkpoint: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return what ``QATCallback`` put into a checkpoint, ``None`` if it did not.

    Raises:
        ArtifactError: if it is damaged.
    """
    ours = checkpoint.get(KEY)
    if not isinstance(ours, dict) or QAT not in ours:
        return None
    found = ours[QAT]
    for name, kind in _QAT_FIELDS.items():
        if not isinstance(found, dict) or not isinstance(found.get(name), kind):
            raise ArtifactError(f"`{KEY}.{QAT}.{name}` of the checkpoint is missing or damaged")
    state = {name: value for name, value in found.items() if name != SEAL}
    try:
        check_typed(state.get("came", {}), dict[str, int], "came")
        TrainingLog.from_dict(state.get("log", TrainingLog().to_dict()))
    except (TypeError, KeyError) as error:
        raise ArtifactError(f"`{KEY}.{QAT}` of the checkpoint is damaged: {error}") from error
    check_backend(
        found["training"].get("backend"),
        f"{KEY}.{QAT}.training.backend",
        "train again; the fp32 weights of the checkpoint are as good as ever, and its class's own"
        " `load_from_checkpoint` loads them",
    )
    if SEAL in found and found[SEAL] != content_hash(state):
        raise ArtifactError(
            f"`{KEY}.{QAT}` of the checkpoint is not what was written: the file is damaged, or was"
            " edited; take another checkpoint"
        )
    return state


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

    ``Cls.load_from_checkpoint`` alone gives the fp32 model, and looks at no hash: the one that
    covers hyperparameters and fp32 weights is held by ``load_from_checkpoint`` here. What could not
    be read with ``weights_only=True`` is left out, wherever ``on_save_checkpoint`` has put it, and
    ``say`` told; what is written has been read back.

    Args:
        module: a copy of the user's, to ask for hyperparameters and for what it adds itself.

    Raises:
        ArtifactError: if it cannot be written.
    """
    checkpoint: dict[str, Any] = {
        "epoch": trainer.current_epoch,
        "global_step": trainer.global_step,
        "pytorch-lightning_version": lightning.__version__,
        "state_dict": dict(fp32),
    }
    if module.hparams:
        if hasattr(module, "_hparams_name"):
            checkpoint[module.CHECKPOINT_HYPER_PARAMS_NAME] = module._hparams_name
        checkpoint[module.CHECKPOINT_HYPER_PARAMS_KEY] = _plain(module)
    checkpoint = _with_the_modules(checkpoint, module, trainer, say)
    two = f"'{folder / storage.CONFIGURE}', '{folder / storage.WEIGHTS}'"
    way = f"make the model yourself and restore int8 by `lpot_lightning.load({two}, model)`"
    readable, left_out = readable_part(checkpoint)
    if left_out:
        what = "; ".join(f"`{name}` ({why})" for name, why in left_out.items())
        say(
            f"left out of `{FILE}`, since `weights_only=True` could not read it: {what}. If"
            f" `{type(module).__name__}.load_from_checkpoint` cannot do without, {way}"
        )
    # texts that were read from a history are other objects than those of a quiet run, and a pickle
    # tells them apart: its bytes are to be the same
    plainly = json.loads(json.dumps(dict(configure)))
    ours = {"configure": plainly, "weights": dict(plain), SEAL: _seal(readable, plainly)}
    content = storage.to_bytes(readable | {KEY: ours})
    _set_aside(folder / FILE, say)
    try:
        again = storage.read_tensors(content, FILE)
        if _seal(again, plainly) != ours[SEAL]:  # something comes back as another type
            del ours[SEAL]
            content = storage.to_bytes(readable | {KEY: ours})
    except ArtifactError as error:
        remove_file(folder / FILE)  # one of an earlier trial would be another model
        say(f"{error}, so it is not written; {way}")
    else:
        write_file(folder / FILE, content)


def _with_the_modules(
    checkpoint: dict[str, Any],
    module: LightningModule,
    trainer: Trainer,
    say: Callable[[str], None],
) -> dict[str, Any]:
    """Return a checkpoint with whatever ``on_save_checkpoint`` makes of it, but for our key."""
    changed = dict(checkpoint)
    module.trainer = trainer
    try:
        module.on_save_checkpoint(changed)
    except Exception as error:  # a model that is judged is not lost for it
        say(f"`on_save_checkpoint` fails, so `{FILE}` is without it: {in_short(error)}")
        return checkpoint
    changed.pop(KEY, None)
    return {name: checkpoint[name] for name in _NEEDED} | changed


def _set_aside(path: Path, say: Callable[[str], None]) -> None:
    if os.path.lexists(path) and not _is_ours(path):
        kept = rename_aside(path)
        say(f"the `{path.name}` that was there is none of ours: kept as `{kept}`")


def _is_ours(path: Path) -> bool:
    """Whether it holds what ``write_checkpoint`` puts there; nothing of it is unpickled."""
    try:
        with os.fdopen(open_regular(path), "rb") as file, zipfile.ZipFile(file) as archive:
            (name,) = (one for one in archive.namelist() if one.endswith("/data.pkl"))
            with archive.open(name) as record:
                pickled = record.read(_MAX_PICKLED)
    except (OSError, ValueError, zipfile.BadZipFile, NotImplementedError, zlib.error):
        return False
    return all(word.encode() in pickled for word in (KEY, "configure", "weights"))


def _plain(module: LightningModule) -> dict[str, Any]:
    hparams = module.hparams
    if isinstance(hparams, DictConfig):
        return dict(OmegaConf.to_container(hparams))  # type: ignore[arg-type]
    return dict(hparams)


def load_from_checkpoint(
    cls: type[Module], path: str | os.PathLike[str], form: Form = "int8", /, **kwargs: Any
) -> Module:
    """Restore an int8 model from one file.

    That is ``best_quantized.ckpt``, or any checkpoint that was saved while ``QATCallback`` trained.
    ``cls.load_from_checkpoint`` gives the fp32 model of either. It cannot tell damage: this
    function holds all of the file, hyperparameters and fp32 weights too, against the hash in it.

    Args:
        cls: the LightningModule class that was quantized.
        path: the checkpoint, local or remote.
        form: ``"int8"``; or ``"fake_quant"``, for a checkpoint of ``QATCallback``: the fp32 weights
            with the rounding of the training, whose ranges stay as they are.
        kwargs: as for ``LightningModule.load_from_checkpoint``: hyperparameters to override.

    Returns:
        the model, in eval mode and on the CPU.

    Raises:
        ConfError: if ``form`` is something else, or ``cls`` no class of modules.
        ArtifactError: if it is no checkpoint of ours, is damaged, or is of another class.

    Example::

        model = lpot_lightning.load_from_checkpoint(LitDigits, "workspace/best_quantized.ckpt")
    """
    if form not in FORMS:
        raise ConfError(f"`form` is `{form}`; allowed: `int8`, `fake_quant`")
    _check_class(cls)
    name = checked_path(path)
    kwargs.setdefault("map_location", "cpu")
    try:
        check_file(name)
        found = _load(name, map_location="cpu", weights_only=True)
        if not _is_sealed(found):
            check_sums_of(name)
    except Exception as error:
        raise ArtifactError(f"cannot read `{name}`: {in_short(error)}") from error
    found = found if isinstance(found, dict) else {}
    try:
        trained = qat_state(found)
        if trained is None:
            return _quantized(cls, name, found, form, kwargs)
        model = _made(cls, name, found, kwargs)
        return _in_form(model, trained["training"], form, found["state_dict"])
    except ArtifactError as error:
        raise ArtifactError(f"`{name}`: {error}") from error
    except RuntimeError as error:
        reason = in_one_line(error)
        raise ArtifactError(f"`{name}` is not of `{cls.__name__}`: {reason}") from error


def fp32_from_checkpoint(cls: type[Module], path: str | os.PathLike[str], **kwargs: Any) -> Module:
    """Return the fp32 model of any checkpoint, on the CPU.

    Args:
        cls: its class.
        path: the checkpoint, local or remote.
        kwargs: as for ``LightningModule.load_from_checkpoint``.

    Raises:
        QuantizationError: if it cannot be read with ``weights_only=True``, or is no checkpoint.
        ArtifactError: if it is of another class.
    """
    _check_class(cls)
    name = checked_path(path)
    found = read_checkpoint(name)
    try:
        return _made(cls, name, found, {"map_location": "cpu", **kwargs})
    except RuntimeError as error:
        reason = in_one_line(error)
        raise ArtifactError(f"`{name}` is not of `{cls.__name__}`: {reason}") from error


def _check_class(cls: object) -> None:
    if not isinstance(cls, type) or not hasattr(cls, "load_from_checkpoint"):
        raise ConfError(f"`cls` is `{cls!r}`; allowed: the class of a LightningModule")


def _quantized(
    cls: type[Module], name: str, found: dict[str, Any], form: Form, kwargs: dict[str, Any]
) -> Module:
    ours = found.get(KEY)
    if not isinstance(ours, dict) or set(ours) - {SEAL} != _SEALED:
        raise ArtifactError(
            f"it holds no quantized model; the file to give is `{FILE}` of a workspace, or a"
            " checkpoint that was saved while `QATCallback` trained"
        )
    if form != "int8":
        raise ArtifactError(
            f"`{form}` is in checkpoints of the training only, and this is `{FILE}`"
        )
    check_configure(ours["configure"])
    if SEAL in ours and ours[SEAL] != _seal(found, ours["configure"]):
        raise ArtifactError(
            "its hyperparameters, or a tensor of the fp32 model, are not what was written: the file"
            " is damaged, or was edited"
        )
    plain = storage.plain_tensors(ours["weights"], f"{KEY}.weights")
    fp32 = _made(cls, name, found, kwargs)
    return restored(ours["configure"], plain, fp32)


def _is_sealed(found: object) -> bool:
    """Whether a hash covers all of a checkpoint."""
    ours = found.get(KEY) if isinstance(found, dict) else None
    return isinstance(ours, dict) and set(ours) == {*_SEALED, SEAL}


def _seal(checkpoint: Mapping[str, Any], configure: Mapping[str, Any]) -> str:
    """Return a hash over all of a checkpoint that is not ours, and the seal of what is."""
    others = {name: value for name, value in checkpoint.items() if name != KEY}
    return content_hash([others, configure["weights"].get("content")])


def _made(cls: type[Module], name: str, found: Mapping[str, Any], kwargs: dict[str, Any]) -> Module:
    """Return the fp32 model of a checkpoint, as Lightning makes it.

    Raises:
        ArtifactError: if it cannot, as where its own ``on_load_checkpoint`` misses something.
    """
    try:
        return cls.load_from_checkpoint(name, weights_only=True, **kwargs)
    except RuntimeError as error:  # of `load_state_dict`: of another class
        if PART not in str(error):
            raise
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Found keys that are")  # they are filled right away
            loose = cls.load_from_checkpoint(name, weights_only=True, **{**kwargs, "strict": False})
        loose.load_state_dict(named_as(loose.state_dict(), found["state_dict"]))
        return loose
    except Exception as error:  # whatever `__init__` and the hooks of a class say
        raise ArtifactError(
            f"`{cls.__name__}.load_from_checkpoint` cannot make the model ({in_short(error)}): give"
            " what it misses as keyword arguments, or make the model yourself and restore int8 by"
            f" `lpot_lightning.load('{storage.CONFIGURE}', '{storage.WEIGHTS}', model)`"
        ) from error


def _in_form(model: Module, state: Mapping[str, Any], form: Form, names: Iterable[str]) -> Module:
    """Return a second model with the rounding of a training, or converted by it.

    Args:
        model: with the trained weights.
        state: of the training.
        form: which of both.
        names: what the tensors were called when it was trained.
    """
    made: Any = compiled_as(second_model(model), names)
    second: Module = made
    try:
        backend = BACKENDS[state["backend"]]()
        if form == "int8":
            put(second, backend.int8_of(second, state))
            second.requires_grad_(False).eval()
            backend.join(second, state)
            return second
        training = backend.training_of(second_model(second), state)
    except ArtifactError:
        raise
    except Exception as error:  # whatever a damaged state makes of it
        raise ArtifactError(f"`{KEY}.{QAT}` is damaged: {in_short(error)}") from error
    training.observing = False
    training.attach(second)
    return second
