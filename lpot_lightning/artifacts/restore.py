"""From the two files of a model to the model."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, TypeVar

from torch import Tensor, nn

from lpot_lightning.artifacts import storage
from lpot_lightning.artifacts.tune_config import PRUNING, check_hash, read_configure
from lpot_lightning.errors import ArtifactError
from lpot_lightning.machine.files import expanded
from lpot_lightning.module.copying import second_model
from lpot_lightning.module.fingerprint import check_fingerprint, fingerprint
from lpot_lightning.pruning.channels.cut import cut
from lpot_lightning.pruning.channels.plan import ChannelPlan

Model = TypeVar("Model", bound=nn.Module)


def load(
    tune_cfg_file: str | os.PathLike[str], weights_file: str | os.PathLike[str], model: Model
) -> Model:
    """Restore a quantized or pruned model from the two files of a workspace.

    Everything is checked before anything is built: the hash of the weights file, names, shapes
    and dtypes, scales, and that ``model`` is of the structure that was quantized. Nothing is
    recomputed: int8 weights, biases and fallback layers are those of the file. Where channels were
    cut out, they are cut out of a copy of ``model``, without the library that found them.

    Args:
        tune_cfg_file: ``best_configure.yaml``, or ``pruned_configure.yaml``.
        weights_file: ``best_model_weights.pt``, or ``pruned_model_weights.pt``.
        model: the fp32 model as its class makes it, with whatever weights; it is left as it is.

    Returns:
        a second model of the same class, in eval mode and on the CPU.

    Raises:
        ArtifactError: naming the file and the first thing that is missing, damaged or foreign.

    Example::

        fp32 = LitDigits.load_from_checkpoint("best.ckpt")
        int8 = lpot_lightning.load(f"{ws}/best_configure.yaml", f"{ws}/best_model_weights.pt", fp32)
        Trainer(accelerator="cpu").test(int8, datamodule=data)
    """
    configure_path, weights_path = expanded(tune_cfg_file), expanded(weights_file)
    configure = read_configure(configure_path)
    plain = storage.read_weights(
        weights_path, configure["weights"]["sha256"], configure["fp32_model"]
    )
    try:
        return restored(configure, plain, model)
    except ArtifactError as error:
        raise ArtifactError(f"`{configure_path}`: {error}") from error


def restored(configure: Mapping[str, Any], plain: Mapping[str, Tensor], model: Model) -> Model:
    """Return a second model as ``configure`` describes it, filled with ``plain``.

    Args:
        configure: checked.
        plain: the tensors of the model that was saved.
        model: as its class makes it; it is left as it is.

    Raises:
        ArtifactError: if the model is of another structure, or the tensors do not fit it.
    """
    made = second_model(model)
    if "channels" in configure:
        cut(made, ChannelPlan.from_dict(configure["channels"]))
    if configure.get("approach") == PRUNING:
        return _pruned(configure, plain, made)
    return storage.rebuild(configure, plain, made)


def _pruned(configure: Mapping[str, Any], plain: Mapping[str, Tensor], made: Model) -> Model:
    check_fingerprint(configure["fp32_model"], fingerprint(made))
    check_hash(configure, plain)
    try:
        made.load_state_dict(dict(plain))
    except RuntimeError as error:
        reason = " ".join(str(error).split())
        raise ArtifactError(f"the weights do not fit the model: {reason}") from error
    return made.eval()
