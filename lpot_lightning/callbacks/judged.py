"""What callbacks have in common that judge a model when a fit is over."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from math import isfinite
from multiprocessing import parent_process
from pathlib import Path
from typing import Generic, TypeVar

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities import rank_zero_info
from typing_extensions import override

from lpot_lightning.callbacks.lost_process import end_the_lost
from lpot_lightning.callbacks.postbox import Postbox
from lpot_lightning.conf.schema import Conf
from lpot_lightning.errors import ConfError, EvaluationError, LpotError, did_you_mean, quoted
from lpot_lightning.judging.protocols import Monitor
from lpot_lightning.machine.lock import WorkspaceLock
from lpot_lightning.runs.entering import enter
from lpot_lightning.runs.op_selection import checked_modules
from lpot_lightning.runs.workspace import Workspace
from lpot_lightning.trainer.borrowed_loop import directions_in
from lpot_lightning.trainer.checks import NO_VALIDATION_DATA, check_step
from lpot_lightning.trainer.ending import ending_well, trained_left
from lpot_lightning.trainer.monitor import find_monitor, named_by
from lpot_lightning.trainer.package import EitherCallback, check_packages
from lpot_lightning.trainer.session import Session, in_one_process, workspace_in
from lpot_lightning.trainer.shown.progress import end_live_bar

Result = TypeVar("Result")


class JudgedCallback(EitherCallback, Generic[Result]):
    """Ends a fit with a result that the validation loop has a say in.

    Args:
        conf: checked.
        monitor: the logged metric that is the accuracy, if the user named it.
        modules: names or globs of what it is about, if the user named it.

    Raises:
        ConfError: if an argument is none of what is allowed.
    """

    def __init__(self, conf: Conf, monitor: str | None, modules: list[str] | None) -> None:
        self.conf = conf
        if monitor is not None and not isinstance(monitor, str):
            raise ConfError(f"`monitor` is `{monitor!r}`; allowed: the name of a logged metric")
        self.monitor = monitor
        self.modules = checked_modules(modules)
        self._result: Result | None = None
        self._postbox, self._left, self._fits = Postbox(), "", 0
        self._found_monitor: Monitor | None = None
        self._asked_workspace = self._workspace = Workspace()
        self._lock: WorkspaceLock | None = None
        self._is_inside = False
        self._weights_left: str | None = None
        self._session: Session | None = None

    @property
    def result(self) -> Result | None:
        """What the run came to; ``None`` before the fit is over.

        Where the fit runs in processes of its own (``ddp_spawn``, ``ddp_notebook``) it is read back
        from the workspace, without the model; a ``fast_dev_run`` of that kind leaves none.
        """
        if self._result is None or parent_process() is None:
            self._look_for_another()
        return self._result

    def _look_for_another(self) -> None:
        """Take what processes left that were started after the last fit in this one."""
        left = self._postbox.take()
        if left != self._left:
            number, _, workspace = left.partition("\n")
            self._left, self._fits = left, int(number or self._fits)
            self._result = self._read_result(Path(workspace)) if left else None

    def _read_result(self, workspace: Path) -> Result:
        """Return the result that another process left."""
        raise NotImplementedError

    @override
    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Refuse what cannot be judged, and keep others out of the workspace."""
        if stage != "fit":
            return
        self._result, self._left = None, ""
        self._fits += 1
        self._postbox.put("")
        self._found_monitor = None
        check_packages(trainer)
        check_step(pl_module)
        if not trainer.enable_validation:
            raise EvaluationError(NO_VALIDATION_DATA)
        self._release()
        self._asked_workspace = workspace_in(trainer, self.conf)
        self._workspace = self._shared(trainer) or in_one_process(trainer, self._entered)
        self._is_inside = True

    @override
    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Find the metric to judge by at the first validation, not after the last."""
        if self._found_monitor is not None or trainer.state.fn != TrainerFn.FITTING:
            return
        found = in_one_process(trainer, partial(self._seek_monitor, trainer))
        if not trainer.sanity_checking:  # where less may be logged than later
            self._found_monitor = found

    @property
    def folder(self) -> Path | None:
        """Where this fit writes its files; ``None`` where it writes none."""
        return self._workspace.folder

    @property
    def _monitor(self) -> str | None:
        """The metric that was found at the first validation, else the one that was asked for."""
        return self.monitor if self._found_monitor is None else self._found_monitor.name

    def _seek_monitor(self, trainer: Trainer) -> Monitor | None:
        """Return the metric to judge by; ``None`` in a sanity check that does not tell."""
        logged = directions_in(trainer.fit_loop.epoch_loop.val_loop)
        callbacks = callbacks_of(trainer)
        asked = self.conf.tuning.accuracy_criterion.higher_is_better
        try:
            return find_monitor(self.monitor, asked, callbacks, logged, logged)
        except (EvaluationError, ConfError):
            sought = {self.monitor} if self.monitor else named_by(callbacks)
            if trainer.sanity_checking and (not logged or sought - set(logged)):
                return None
            raise

    @override
    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        """Let others into the workspace, and end processes that nobody waits for any more."""
        end_the_lost(trainer, self, exception)
        self._release()

    @override
    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Let others into the workspace, also where the fit was ended from outside."""
        if stage == "fit":
            self._release()

    @contextmanager
    def _ending_well(self, trainer: Trainer, module: LightningModule) -> Iterator[None]:
        """Lose no training in the end of a fit, by an error or by a signal.

        Where no checkpoint has the trained weights they are saved; what goes on with them is told.
        """
        self._weights_left = None
        with ending_well(partial(self._what_is_left, trainer, module), trainer):
            end_live_bar(trainer)
            try:
                yield
            except Exception as error:
                if trainer.global_step and (left := self._trained_left(trainer, module)):
                    add_to(error, f"{left[0].upper()}{left[1:]}, once this is mended.")
                raise

    def _what_is_left(self, trainer: Trainer, module: LightningModule) -> str:
        """Say what is on disk, and what goes on with it."""
        return self._trained_left(trainer, module)

    def _trained_left(self, trainer: Trainer, module: LightningModule) -> str:
        """Keep the trained weights, and say what goes on with them; only once."""
        if self._weights_left is None:
            self._weights_left = trained_left(trainer, module, self._workspace.folder)
        return self._weights_left

    def _opened(self, trainer: Trainer, module: LightningModule) -> Session:
        """Return the session of the fit, which all callbacks of ours share."""
        if self._session is None:
            callbacks = callbacks_of(trainer)
            others = (one._session for one in callbacks if isinstance(one, JudgedCallback))
            self._session = next(
                (one for one in others if one is not None), Session(trainer, module, callbacks)
            )
        return self._session

    def give_module_back(self) -> None:
        """Let the module compute by itself again, where it does not: it is about to be copied."""

    def _leave(self, result: Result, workspace: Path | None) -> None:
        """Keep the result, for the process that started this one, too."""
        self._result = result
        if workspace is not None:
            self._left = f"{self._fits}\n{workspace.resolve()}"
            self._postbox.put(self._left)

    def _shared(self, trainer: Trainer) -> Workspace | None:
        """Return the workspace of another callback of the same fit that asked for the same.

        All processes know it, though the first alone has the lock.
        """
        ours = (one for one in callbacks_of(trainer) if isinstance(one, JudgedCallback))
        inside = (one for one in ours if one._is_inside)
        same = (one for one in inside if one._asked_workspace == self._asked_workspace)
        return next((one._workspace for one in same), None)

    def _entered(self) -> Workspace:
        """Keep others out of the workspace; where another run is in it, take one of one's own."""
        if self._asked_workspace.folder is None:
            return self._asked_workspace
        own, self._lock = enter(self._asked_workspace, rank_zero_info)
        return own

    def _release(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            session.close()
        if self._lock is not None:
            self._lock.release()
        self._lock, self._is_inside = None, False


def add_to(error: Exception, text: str) -> None:
    """Let an error say more: one of ours in its message, one of others in a note."""
    if isinstance(error, LpotError):
        said = str(error)
        error.args = (f"{said}{'' if said.endswith(('.', '?')) else '.'} {text}",)
    else:
        error.add_note(text)


def callbacks_of(trainer: Trainer) -> list[Callback]:
    """Return the callbacks of a trainer."""
    return list(trainer.callbacks)  # type: ignore[attr-defined]


def check_choice(name: str, value: object, allowed: tuple[str, ...]) -> None:
    """Raise a ``ConfError`` if the argument ``name`` is none of what is ``allowed``."""
    if value not in allowed:
        hint = did_you_mean(str(value), allowed)
        raise ConfError(f"`{name}` is `{value}`; allowed: {quoted(allowed)}.{hint}")


def checked_baseline(value: object) -> float | None:
    """Return the argument ``baseline``; a ``ConfError`` if it is no finite number."""
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not isfinite(value):
        raise ConfError(f"`baseline` is `{value!r}`; allowed: a number, in the unit of the metric")
    return float(value)
