"""Checkpoints and early stopping, made to forget the best model so far."""

from __future__ import annotations

import torch
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint
from lightning.pytorch.utilities import rank_zero_info

from lpot_lightning.trainer.package import either


def forget_best(trainer: Trainer, why: str) -> None:
    """Let checkpoints and early stopping compare with nothing that was before.

    The files of before stay where they are.

    Args:
        why: what changed, for people.
    """
    looking = [
        one
        for one in trainer.callbacks  # type: ignore[attr-defined]
        if isinstance(one, either(ModelCheckpoint, EarlyStopping)) and one.monitor is not None
    ]
    for one in looking:
        if isinstance(one, either(ModelCheckpoint)):
            before = f"; before, it was `{one.best_model_path}`" if one.best_model_path else ""
            _forget_checkpoints(one)
        else:
            before = ""
            one.wait_count = 0
            one.best_score = torch.tensor(torch.inf if one.mode == "min" else -torch.inf)
        rank_zero_info(f"{why}: `{type(one).__name__}` looks for the best from here on{before}")


def _forget_checkpoints(one: ModelCheckpoint) -> None:
    one.best_k_models = {}
    one.best_model_path = one.kth_best_model_path = ""
    one.best_model_score = one.current_score = None
    one.kth_value = torch.tensor(torch.inf if one.mode == "min" else -torch.inf)
