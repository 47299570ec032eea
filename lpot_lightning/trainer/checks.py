"""Whether models can be judged by a trainer, and by which batches."""

from __future__ import annotations

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.loops.evaluation_loop import _EvaluationLoop
from lightning.pytorch.plugins.precision import (
    BitsandbytesPrecision,
    TransformerEnginePrecision,
)
from lightning.pytorch.strategies import (
    DDPStrategy,
    DeepSpeedStrategy,
    SingleDeviceStrategy,
)
from lightning.pytorch.strategies.single_xla import SingleDeviceXLAStrategy
from lightning.pytorch.strategies.xla import XLAStrategy
from lightning.pytorch.trainer.states import RunningStage, TrainerFn
from lightning.pytorch.utilities import CombinedLoader
from lightning.pytorch.utilities.model_helpers import is_overridden

from lpot_lightning.errors import DataError, EvaluationError, QuantizationError
from lpot_lightning.machine.random_numbers import seeded
from lpot_lightning.trainer.package import either, of

_WHOLE = (SingleDeviceStrategy, DDPStrategy)
_IN_PIECES = (DeepSpeedStrategy, XLAStrategy, SingleDeviceXLAStrategy)  # though of those kinds
_OWN_LAYERS = (BitsandbytesPrecision, TransformerEnginePrecision)
NO_VALIDATION_DATA = (
    "there is no validation data: pass `val_dataloaders`, define `val_dataloader()`, and leave"
    " `limit_val_batches` above 0"
)


Loaders = tuple[CombinedLoader, list[int | float]]
"""Validation loaders, and how many batches of each a pass takes."""


def check_step(module: LightningModule) -> None:
    """Raise an ``EvaluationError`` if ``module`` cannot be validated."""
    if not isinstance(module, either(LightningModule)):
        raise EvaluationError(
            f"a `{type(module).__name__}` is no LightningModule: wrap it in one with a"
            " `validation_step`"
        )
    if not of(module, is_overridden)("validation_step", module):
        raise EvaluationError(
            f"`{type(module).__name__}` has no `validation_step`: the validation loop is what int8"
            " models are judged by"
        )


def find_loaders(trainer: Trainer, most: int, seed: int) -> Loaders:
    """Return the user's validation loaders and how many batches of each a pass takes.

    Args:
        most: of each loader; -1 for all that ``limit_val_batches`` allows.
        seed: for loaders that are asked for now.

    Raises:
        EvaluationError: if there are none.
        DataError: if they are empty.
    """
    loop = _set_up_loop(trainer, seed)
    if loop._combined_loader is None:
        raise EvaluationError(NO_VALIDATION_DATA)
    limits = [n if most < 0 else min(n, most) for n in loop._max_batches]
    if not sum(limits):
        raise DataError("the validation dataloader is empty: there is no batch to judge by")
    return loop._combined_loader, limits


def _set_up_loop(trainer: Trainer, seed: int) -> _EvaluationLoop:
    """Return a loop with the loaders of the trainer's own, or newly asked for ones."""
    users, fn = trainer._evaluation_loop, trainer.state.fn
    if fn == TrainerFn.FITTING and users._combined_loader is not None and users._max_batches:
        return users
    assert fn is not None
    loop = of(trainer, _EvaluationLoop)(
        trainer, fn, RunningStage.VALIDATING, verbose=False, inference_mode=False
    )
    loop._data_source = users._data_source
    if loop._data_source.is_defined():
        with seeded(seed):
            loop.setup_data()
    return loop


def has_command_line() -> bool:
    """Return whether Lightning has the packages that its command line needs."""
    from lightning.pytorch.cli import _JSONARGPARSE_SIGNATURES_AVAILABLE

    return bool(_JSONARGPARSE_SIGNATURES_AVAILABLE)


def keeps_whole(trainer: Trainer) -> bool:
    """Return whether each process of a trainer has the whole model."""
    kind = type(trainer.strategy)
    return issubclass(kind, either(*_WHOLE)) and not issubclass(kind, either(*_IN_PIECES))


def check_logging(trainer: Trainer) -> None:
    """Raise an ``EvaluationError`` if the trainer logs nothing to judge by."""
    if trainer.barebones:
        raise EvaluationError(
            "`Trainer(barebones=True)` logs nothing, so there is no accuracy to tune by; leave it"
            " out"
        )


def check_trainer(trainer: Trainer) -> None:
    """Raise a ``QuantizationError`` if int8 models cannot be judged by this trainer."""
    check_logging(trainer)
    kind = type(trainer.strategy)
    if not keeps_whole(trainer):
        raise QuantizationError(
            f"`{kind.__name__}` keeps the weights in pieces, or elsewhere, and"
            " int8 models are made from all of them on the CPU: train with it, then quantize the"
            " checkpoint with `lpot_lightning.quantize` and `Trainer(devices=1)`"
        )
    if isinstance(trainer.precision_plugin, either(*_OWN_LAYERS)):
        raise QuantizationError(
            f"`{type(trainer.precision_plugin).__name__}` puts layers of its own in place of the"
            " model's, which cannot be int8; train with another precision"
        )
