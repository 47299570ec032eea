"""Which weights are taken after a training for int8, and which ranges belong to them."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from lightning.pytorch import LightningModule
from lightning.pytorch.utilities import rank_zero_info, rank_zero_warn

from lpot_lightning.callbacks.qat_fit import has_ranges
from lpot_lightning.errors import QuantizationError, in_short, quoted
from lpot_lightning.trainer.checkpoint import qat_state
from lpot_lightning.trainer.weights import Weights


def goes_on_with(saved: Mapping[str, Any], asked: str) -> bool:
    """Return whether a fit goes on with the ranges of a checkpoint, and warn if it does not.

    Args:
        saved: what the checkpoint has of its own fit.
        asked: what this fit is asked for, as ``QATFit.state`` keeps it.
    """
    if saved["asked"] == asked:
        return True
    rank_zero_warn(
        "the checkpoint was trained for int8 with another `quantization` section or other"
        " `modules`: the ranges of activations are learned anew"
    )
    return False


def fitting(weights: Weights, module: LightningModule, exchanged: Collection[str]) -> Weights:
    """Return ``weights``, or the current ones where those are of other layers.

    Args:
        weights: that were chosen.
        module: that was trained.
        exchanged: paths of what was exchanged while it trained.
    """
    if not exchanged or weights.checkpoint is None:
        return weights
    try:
        weights.model_of(module)
    except QuantizationError as error:
        names = quoted(sorted(exchanged), 1)
        rank_zero_warn(
            f"`{weights.path}` is from before {names} was exchanged: quantizing the current"
            f" weights ({in_short(error.__cause__ or error)})"
        )
        return Weights()
    return weights


def ranges_of(weights: Weights, live: Mapping[str, Any], asked: str) -> Mapping[str, Any]:
    """Return the ranges that belong to ``weights``.

    Args:
        weights: that are taken.
        live: the ranges of the end of the training.
        asked: see ``goes_on_with``.
    """
    if weights.checkpoint is None:
        return live
    saved = qat_state(weights.checkpoint)
    ours = saved is not None and saved["asked"] == asked
    if saved is not None and ours and has_ranges(saved["training"]):
        return dict(saved["training"])
    rank_zero_info(
        f"`{weights.path}` has no ranges of activations, as with `save_weights_only=True`:"
        " taking those of the end of the training"
    )
    return live
