"""Time a trained LightningModule without a fit."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lightning.pytorch import LightningDataModule, LightningModule, Trainer
from lightning.pytorch.utilities import CombinedLoader, rank_zero_info
from lightning.pytorch.utilities.model_helpers import is_overridden

from lpot_lightning.artifacts.storage import CONFIGURE
from lpot_lightning.conf.reader import read_conf
from lpot_lightning.errors import ArtifactError, ConfError, DataError
from lpot_lightning.lpot.benchmark import NOTHING_WRITTEN, Benchmark
from lpot_lightning.machine.files import expanded
from lpot_lightning.module.copying import second_model
from lpot_lightning.timing.result import BenchmarkResult
from lpot_lightning.trainer.ending import ending_well
from lpot_lightning.trainer.package import of
from lpot_lightning.trainer.session import workspace_in
from lpot_lightning.trainer.weights import Weights


def benchmark(
    trainer: Trainer,
    model: LightningModule,
    datamodule: LightningDataModule | None = None,
    *,
    conf: Any,
    workspace: str | None = None,
    ckpt_path: str | None = None,
    files: Sequence[str] | None = None,
) -> BenchmarkResult:
    """Time ``model(input)`` over the validation data, int8 against fp32 where there is an int8 one.

    Args:
        trainer: below whose ``default_root_dir`` a relative workspace lies.
        model: the trained model; it is left as it is.
        datamodule: gives the validation data; without it the model does.
        conf: LPOT's user YAML, such as ``deploy.yaml``.
        workspace: the folder of a quantization, whose int8 model takes turns with the fp32 one; by
            default that of ``conf``, where one is there.
        ckpt_path: a checkpoint with the weights.
        files: exported ones, which take turns with the models.

    Raises:
        LpotError: of the kind that says what is wrong.
        SystemExit: with 130 for Ctrl-C and 143 for SIGTERM.
    """
    timer = _OnValidationData(conf)
    _check_forward(model)
    again = f"{NOTHING_WRITTEN}; go on with the same call of `benchmark`"
    with ending_well(lambda: again, trainer):
        fp32 = _with_weights(model, ckpt_path)
        folder = _int8_folder(trainer, conf, workspace)
        with _validation_loader(trainer, fp32, datamodule) as loader:
            if folder is None:
                return timer(fp32, loader, files=files)
            return timer(folder, loader, fp32=fp32, files=files)


class _OnValidationData(Benchmark):
    """Speaks of the data by the name that its user knows."""

    _data = "the validation data"


def _check_forward(model: LightningModule) -> None:
    if not of(model, is_overridden)("forward", model):
        raise ConfError(
            f"`{type(model).__name__}` has no `forward`, which is what is timed: define it, or use"
            " `BenchmarkCallback`, which times `validation_step`"
        )


def _with_weights(model: LightningModule, ckpt_path: str | None) -> LightningModule:
    copied = second_model(model)
    copied.configure_model()
    return Weights.of(ckpt_path or "").model_of(copied)


def _int8_folder(trainer: Trainer, conf: Any, asked: str | None) -> Path | None:
    """Return the folder that is asked for, else one where an int8 model is found."""
    if asked is not None:
        folder = expanded(asked)
        if not (folder / CONFIGURE).is_file():
            raise ArtifactError(
                f"`workspace` is `{asked}`, and there is no `{CONFIGURE}` in it; allowed: the"
                " folder of a quantization"
            )
        return folder
    beside = [expanded(conf).parent] if isinstance(conf, str | Path) else []
    own = workspace_in(trainer, read_conf(conf)).folder
    for folder in [*beside, *([] if own is None else [own])]:
        if (folder / CONFIGURE).is_file():
            rank_zero_info(f"timing the int8 model of `{folder}` against the fp32 one")
            return folder
    rank_zero_info("there is no workspace with an int8 model: timing the fp32 one alone")
    return None


@contextmanager
def _validation_loader(
    trainer: Trainer, model: LightningModule, data: LightningDataModule | None
) -> Iterator[Any]:
    """Give the first validation loader; a datamodule is set up for it, and torn down."""
    owner = model if data is None else data
    if not of(owner, is_overridden)("val_dataloader", owner):
        raise DataError(
            "there is no data to show the model: define `val_dataloader()` in"
            f" `{type(owner).__name__}`"
        )
    before = None if data is None else data.trainer
    try:
        owner.trainer = trainer
        owner.prepare_data()
        owner.setup("validate")
        yield _first(owner.val_dataloader())
    finally:
        owner.teardown("validate")
        owner.trainer = before


def _first(loaders: Any) -> Any:
    found = CombinedLoader(loaders, "sequential").flattened
    if not found:
        raise DataError("`val_dataloader()` gives no loader: there is no data to show the model")
    if len(found) > 1:
        rank_zero_info(f"there are {len(found)} validation loaders: the first one is shown")
    return found[0]
