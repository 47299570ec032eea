"""How the end of a fit that does not come to its end leaves what was trained."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from time import sleep
from typing import Any

import torch
from lightning.fabric.utilities.cloud_io import _is_local_file_protocol
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities import rank_zero_info
from lightning.pytorch.utilities.exceptions import SIGTERMException
from torch import Tensor

from lpot_lightning.artifacts.storage import to_bytes
from lpot_lightning.errors import ArtifactError, QuantizationError, in_short
from lpot_lightning.machine.files import write_file
from lpot_lightning.machine.signals import Stopped, check, exit_codes, received, uninterrupted
from lpot_lightning.runs.pruned_files import UNJUDGED, unused
from lpot_lightning.trainer.checkpoint import read_checkpoint
from lpot_lightning.trainer.package import either

NOT_BEGUN = "the training has not begun, and nothing was written; go on with the same call of `fit`"
REQUEUED_WITHIN = 60.0
"""Seconds that the others leave the first process to save and requeue, which ends them all."""


@contextmanager
def ending_well(left: Callable[[], str], trainer: Trainer | None = None) -> Iterator[None]:
    """End with exit code 130 on Ctrl-C, 143 on SIGTERM, 129 on SIGHUP, and say what is on disk.

    Lightning 2.6 ends with 1 on Ctrl-C, and with 0 on SIGTERM in a ``validate``. Inside another
    ``with`` of this kind nothing is said.

    In a job of SLURM the signal by which Lightning has it requeued, SIGUSR1 if nothing else was
    given to ``SLURMEnvironment``, ends the run, too, and has the job requeued: here Lightning's own
    handler is at work no more, or not yet.

    Args:
        left: says what is on disk, and what goes on with it.
        trainer: whose job it is; ``None`` for none that is requeued.
    """
    requeues = None if trainer is None else _requeue_signal(trainer)
    with exit_codes(*filter(None, [requeues])) as outermost:
        try:
            yield
            check()
        except (KeyboardInterrupt, SystemExit) as error:
            code = _code(error)
            if code is None:
                raise
            if outermost:
                with uninterrupted():  # a second signal would end it before it has said a word
                    _tell(left, trainer)
            raise Stopped(code) from error


def _tell(left: Callable[[], str], trainer: Trainer | None) -> None:
    parts = [left()]
    if trainer is not None and _is_requeued(trainer):
        if not trainer.is_global_zero:
            sleep(REQUEUED_WITHIN)  # `srun` may end the job when the first of its processes has
            return
        parts.append(_for_the_next_job(trainer))
    rank_zero_info(f"\ninterrupted: {'; '.join(parts)}")


def _requeue_signal(trainer: Trainer) -> signal.Signals | None:
    """Return the signal by which SLURM has this job requeued, if Lightning was to do that."""
    environment: Any = trainer._accelerator_connector.cluster_environment
    if not any(one.__name__ == "SLURMEnvironment" for one in type(environment).__mro__):
        return None  # the class has two homes, one for each package
    return environment.requeue_signal if environment.auto_requeue else None


def _is_requeued(trainer: Trainer) -> bool:
    """Whether it is this signal that ends the run."""
    number = received()
    return number is not None and number == _requeue_signal(trainer)


def _for_the_next_job(trainer: Trainer) -> str:
    """Save what Lightning's ``fit`` looks for in a job, have it requeued, and say so.

    Nothing is exchanged with other processes, for which Lightning's own handler waits.
    """
    try:
        kept = _kept_for_hpc(trainer)
    except Exception as error:  # without it the next job would train anew
        return f"the training could not be saved ({in_short(error)}): the job is not requeued"
    return kept + _requeued(_job())


def _requeued(job: str) -> str:
    command = ["scontrol", "requeue", job]
    try:
        subprocess.run(command, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        said = (getattr(error, "stderr", None) or str(error)).strip()
        return f"`{' '.join(command)}` failed ({said}): start the same program again"
    return f"job {job} is requeued, and goes on there"


def _job() -> str:
    array = os.environ.get("SLURM_ARRAY_JOB_ID")
    if array is None:
        return os.environ["SLURM_JOB_ID"]
    return f"{array}_{os.environ['SLURM_ARRAY_TASK_ID']}"


def _kept_for_hpc(trainer: Trainer) -> str:
    if trainer.state.fn != TrainerFn.FITTING or not trainer.global_step:
        return ""
    path = trainer._checkpoint_connector.hpc_save_path(trainer.default_root_dir)
    checkpoint = trainer._checkpoint_connector.dump_checkpoint(weights_only=False)
    if _is_local_file_protocol(path):
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        write_file(Path(path), to_bytes(checkpoint))
    else:
        trainer.strategy.checkpoint_io.save_checkpoint(checkpoint, path)
    return f"the training is in `{path}`; "


def _code(error: BaseException) -> int | None:
    if isinstance(error, Stopped):
        return int(str(error.code))
    if isinstance(error, either(SIGTERMException)):
        return 143
    if isinstance(error.__context__, KeyboardInterrupt) or isinstance(error, KeyboardInterrupt):
        return 130
    return None


def trained_left(trainer: Trainer, module: LightningModule, workspace: Path | None) -> str:
    """Save the trained weights, if no checkpoint holds them, and say what goes on with them.

    Nothing is exchanged with other processes, which may be gone.
    """
    if workspace is None or not trainer.global_step:  # a `fast_dev_run`, or nothing was trained
        return "go on with the same call of `fit`"
    if not trainer.is_global_zero:
        return ""  # it is the first process that writes and says it
    if _is_requeued(trainer):
        return "the same program goes on with the trained weights"
    try:
        path = _held(trainer, module) or _saved(trainer, workspace)
    except Exception as error:  # the run ends as it is, whatever a hook of the user's says
        return (
            f"the trained weights could not be saved ({in_short(error)}); go on with the same call"
            " of `fit`, which trains anew"
        )
    return f"the trained weights are in `{path}`; go on with `fit({_arguments(path)})`"


def _arguments(path: str | Path) -> str:
    """Return what ``fit`` needs to go on from a checkpoint, which may hold objects of a class."""
    try:
        read_checkpoint(str(path))
    except QuantizationError:
        return f"ckpt_path='{path}', weights_only=False"
    return f"ckpt_path='{path}'"


def not_timed(trainer: Trainer, module: LightningModule) -> str:
    """Say where the trained weights are that a benchmark was to time."""
    path = _held(trainer, module)
    if _is_requeued(trainer):
        return "the benchmark is not finished; the same program goes on with the trained weights"
    if not path:
        return (
            "the benchmark is not finished, and no checkpoint has the trained weights; go on with"
            " the same call of `fit`, which trains anew"
        )
    return (
        f"the benchmark is not finished; the trained weights are in `{path}`; go on with"
        f" `fit(ckpt_path='{path}')`, which times them"
    )


def _held(trainer: Trainer, module: LightningModule) -> str:
    """Return the path of a checkpoint that a fit can go on from with these weights, if any."""
    found = [os.fspath(trainer.ckpt_path)] if trainer.ckpt_path else []
    for one in trainer.checkpoint_callbacks:
        if isinstance(one, either(ModelCheckpoint)):
            found += [one.last_model_path, one.best_model_path]
    state = module.state_dict()
    return next((path for path in filter(None, found) if _holds(path, trainer, state)), "")


def _holds(path: str, trainer: Trainer, state: dict[str, Tensor]) -> bool:
    try:
        found = read_checkpoint(path)
    except QuantizationError:  # so that it is saved once more
        return False
    saved = found["state_dict"]
    at_the_end = found.get("global_step") == trainer.global_step
    return (
        at_the_end
        and "optimizer_states" in found  # `save_weights_only` has neither these nor masks
        and saved.keys() == state.keys()
        and all(_equal(saved[name], value) for name, value in state.items())
    )


def _equal(saved: object, value: object) -> bool:
    if isinstance(saved, Tensor) and isinstance(value, Tensor):
        return torch.equal(saved, value.detach().cpu())
    return saved is value is None


def _saved(trainer: Trainer, workspace: Path) -> Path:
    if any(hasattr(one, "consolidate_state_dict") for one in trainer.optimizers):
        raise ArtifactError("the state of the optimizer is spread over the processes")
    path = unused(workspace / f"{UNJUDGED}.ckpt")
    checkpoint = trainer._checkpoint_connector.dump_checkpoint(weights_only=False)
    write_file(path, to_bytes(checkpoint))
    return path
