"""From the two files of a model to the model."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from torch import Tensor, nn

from lpot_lightning.artifacts import storage
from lpot_lightning.artifacts.believable import check_believable
from lpot_lightning.artifacts.constants import (
    Difference,
    differences,
    other_classes,
    set_constants,
)
from lpot_lightning.artifacts.earlier import PRUNED
from lpot_lightning.artifacts.probe import PREFIX, Answer, ask
from lpot_lightning.artifacts.tune_config import PRUNING, check_hash, read_configure
from lpot_lightning.errors import ArtifactError, ConfError, in_one_line, in_short
from lpot_lightning.machine.files import expanded
from lpot_lightning.machine.random_numbers import seeded
from lpot_lightning.module.compiled_names import compiled_as, named_as
from lpot_lightning.module.copying import second_model
from lpot_lightning.module.fingerprint import check_fingerprint, fingerprint
from lpot_lightning.pruning.channels.cut import cut
from lpot_lightning.pruning.channels.plan import ChannelPlan
from lpot_lightning.quantization.backend import BACKENDS
from lpot_lightning.quantization.kernels.embedding import Int8Embedding
from lpot_lightning.quantization.kernels.layers import Int8Layer

_LOG = logging.getLogger(__name__)
Model = TypeVar("Model", bound=nn.Module)
_SHOWN = 6
_CONFIGURES, _WEIGHTS = (storage.CONFIGURE, PRUNED[0]), (storage.WEIGHTS, PRUNED[1])


def load(
    tune_cfg_file: str | os.PathLike[str], weights_file: str | os.PathLike[str], model: Model
) -> Model:
    """Restore a quantized or pruned model from the two files of a workspace.

    Everything is checked before anything is built: the hash of the weights file, names, shapes
    and dtypes, scales, and that ``model`` is of the structure that was quantized. Nothing is
    recomputed: int8 weights, biases and fallback layers are those of the file. Where channels were
    cut out, they are cut out of a copy of ``model``, without the library that found them.

    The restored model is asked what the quantized one was asked, and has to answer the same. Plain
    attributes, as a ``temperature`` that was set after training, are set where it takes them.

    Args:
        tune_cfg_file: ``best_configure.yaml``, or ``pruned_configure.yaml``.
        weights_file: ``best_model_weights.pt``, or ``pruned_model_weights.pt``.
        model: the fp32 model as its class makes it, with whatever weights; it is left as it is.
            What a LightningModule makes in ``configure_model`` is made here where it is missing;
            whether parts of it are compiled is no matter.

    Returns:
        a second model of the same class, in eval mode and on the CPU.

    Raises:
        ConfError: if ``model`` is none.
        ArtifactError: naming the file and the first thing that is missing, damaged or foreign.

    Example::

        fp32 = LitDigits.load_from_checkpoint("best.ckpt")
        int8 = lpot_lightning.load(f"{ws}/best_configure.yaml", f"{ws}/best_model_weights.pt", fp32)
        Trainer(accelerator="cpu").test(int8, datamodule=data)
    """
    if not isinstance(model, nn.Module):
        came = getattr(model, "__name__", type(model).__name__)
        raise ConfError(f"`model` is `{came}`; allowed: the fp32 model, an `nn.Module`")
    configure_path, weights_path = expanded(tune_cfg_file), expanded(weights_file)
    _check_place("tune_cfg_file", configure_path, _CONFIGURES)
    _check_place("weights_file", weights_path, _WEIGHTS)
    configure = read_configure(configure_path)
    wanted = configure["weights"]["sha256"], configure["fp32_model"]
    with ThreadPoolExecutor(1) as other, _told_of(configure_path):  # hashed while Python copies
        reading = other.submit(storage.read_checked, weights_path, *wanted)
        made = _copied(configure, model)
        content = reading.result()
    del reading  # it holds the file: a large one is to be there once
    plain = storage.read_weights(content, weights_path)
    del content
    with _told_of(configure_path):
        return _restored(configure, plain, model, made, of_file=True)


def _check_place(argument: str, path: Path, names: Sequence[str]) -> None:
    """Say which file is meant, to who gives a folder or has mistaken a name."""
    meant = " or ".join(f"`{name}`" for name in names)
    if path.is_dir():
        raise ArtifactError(f"`{argument}` is the folder `{path}`; allowed: the file {meant} in it")
    if not path.exists():
        raise ArtifactError(
            f"`{argument}` is `{path.absolute()}`, which is not there; a run leaves"
            f" {meant} in its workspace, which `result.workspace` names"
        )


@contextmanager
def _told_of(path: Path) -> Iterator[None]:
    try:
        yield
    except ArtifactError as error:
        raise ArtifactError(f"`{path}`: {error}") from error


def restored(
    configure: Mapping[str, Any],
    plain: Mapping[str, Tensor],
    model: Model,
) -> Model:
    """Return a second model as ``configure`` describes it, filled with ``plain``.

    Args:
        configure: checked.
        plain: the tensors of the model that was saved.
        model: as its class makes it; it is left as it is.

    Raises:
        ArtifactError: if the model is of another structure, computes something else, or the tensors
            do not fit it.
    """
    return _restored(configure, plain, model, _copied(configure, model), of_file=False)


def _restored(
    configure: Mapping[str, Any],
    plain: Mapping[str, Tensor],
    model: Model,
    made: Model,
    *,
    of_file: bool,
) -> Model:
    """Return ``made``, a copy of ``model``, filled with ``plain``.

    Args:
        configure: checked.
        plain: the tensors of the model that was saved.
        model: left as it is.
        made: to be changed.
        of_file: whether ``plain`` was read from a file of the hash that ``configure`` names.
    """
    check_fingerprint(configure["fp32_model"], fingerprint(made))
    check_hash(configure, plain, of_file=of_file)
    check_believable(configure, plain, whole=configure.get("approach") == PRUNING)
    if configure.get("approach") == PRUNING:
        known = "probe" in configure  # earlier versions asked nothing
        return _proved(configure, plain, model, made) if known else _pruned(plain, made)
    int8 = _proved(configure, plain, model, made)
    BACKENDS[configure["backend"]]().join(int8, configure)
    return int8


def _copied(configure: Mapping[str, Any], model: Model) -> Model:
    # those of the files come into it; FX looks at values when it makes what they are put into
    values = configure.get("backend", "onednn") != "onednn"
    names = configure["fp32_model"]
    made: Any = compiled_as(_configured(second_model(model, values=values), names), names)
    if "channels" in configure:
        cut(made, ChannelPlan.from_dict(configure["channels"]))
    copied: Model = made
    return copied


def _configured(made: nn.Module, names: Iterable[str]) -> nn.Module:
    """Return a copy with what a LightningModule makes in ``configure_model``, if it has not yet."""
    configure = getattr(made, "configure_model", None)
    known = nn.Module.state_dict(made)
    if not callable(configure) or set(named_as(known, dict.fromkeys(names))) <= known.keys():
        return made
    try:
        with seeded(0):
            configure()
    except Exception as error:  # whatever it needs
        raise ArtifactError(
            f"`{type(made).__name__}.configure_model` cannot make the model ({in_short(error)}):"
            " call it yourself before"
        ) from error
    return second_model(made)


@dataclass(frozen=True)
class _Attempt(Generic[Model]):
    """A model that was restored, or why it could not be.

    Args:
        made: the model.
        error: what is wrong with it; ``None`` where it answers as the one that was quantized.
        off: how far its answers are from those of the files, infinite without a model.
        given: the attributes of the files that were set on it.
    """

    made: Model | None
    error: ArtifactError | None
    off: float
    given: Sequence[Difference] = ()


def _proved(
    configure: Mapping[str, Any], plain: Mapping[str, Tensor], model: Model, made: Model
) -> Model:
    """Return the model that answers as the files say.

    Plain attributes that are not as they were when the model was saved are set where it is
    nearer to that one with them, or where no answer could be stored; texts where numbers are not
    enough.

    Args:
        configure: checked.
        plain: all tensors of the files.
        model: left as it is.
        made: a copy of it, which may be changed.
    """
    probe = configure["probe"]
    silent = [root for root, held in probe.items() if isinstance(held, str)]
    unlike = differences(made, configure["modules"])
    always = [one for one in unlike if _is_in(one.path, silent)]
    asked = [one for one in unlike if _is_in(one.path, probe)]
    best = _attempt(configure, plain, made, always)
    for some in ([one for one in asked if one in always or not one.is_text], asked):
        if best.off and len(some) > len(best.given):
            other = _attempt(configure, plain, _copied(configure, model), some)
            best = other if other.off < best.off / 2 else best  # threads, too, move last bits
    if best.made is None or best.error is not None:
        raise best.error or ArtifactError("no model was made")
    _tell(best.given, [one for one in unlike if not _is_in(one.path, probe)])
    return best.made


def _is_in(path: str, roots: Iterable[str]) -> bool:
    return any(not root or f"{path}.".startswith(f"{root}.") for root in roots)


def _tell(given: Sequence[Difference], left: Sequence[Difference]) -> None:
    if given:
        what = ", ".join(map(str, given))
        _LOG.warning("set on the restored model, as when it was saved: %s", what)
    if left:
        what = ", ".join(map(str, left))
        _LOG.info("not as when the model was saved, and left as it is: %s", what)


def _attempt(
    configure: Mapping[str, Any],
    plain: Mapping[str, Tensor],
    made: Model,
    unlike: Sequence[Difference],
) -> _Attempt[Model]:
    set_constants(made, unlike)
    try:
        made = _filled(configure, plain, made)
        kept = [one for one in made.modules() if isinstance(one, Int8Layer | Int8Embedding)]
        answers = ask(second_model(made, kept=kept), configure["probe"], plain)
    except ArtifactError as error:
        return _Attempt(None, error, float("inf"))
    worst = max(answers, key=lambda one: one.off, default=None)
    if worst is None or worst.off <= 1:
        return _Attempt(made, None, 0.0 if worst is None else worst.off, unlike)
    return _Attempt(made, _another(worst, made, configure), worst.off, unlike)


def _filled(configure: Mapping[str, Any], plain: Mapping[str, Tensor], made: Model) -> Model:
    if configure.get("approach") == PRUNING:
        return _pruned(plain, made)
    return storage.rebuild(configure, plain, made)


def _another(worst: Answer, made: nn.Module, configure: Mapping[str, Any]) -> ArtifactError:
    modules = configure["modules"]
    done = "pruned" if configure.get("approach") == PRUNING else "quantized"
    unlike = [str(one) for one in differences(made, modules)] + other_classes(made, modules)
    what = f": {', '.join(unlike[:_SHOWN])}" if unlike else ""
    return ArtifactError(
        f"the model computes something else than the one that was {done}: of a call that the"
        f" files hold, {worst.told}{what}; make the model as it was made then"
    )


def _pruned(plain: Mapping[str, Tensor], made: Model) -> Model:
    try:
        own = {name: one for name, one in plain.items() if not name.startswith(PREFIX)}
        made.load_state_dict(own)
    except RuntimeError as error:
        reason = in_one_line(error)
        raise ArtifactError(f"the weights do not fit the model: {reason}") from error
    return made.eval()
