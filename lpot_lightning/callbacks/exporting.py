"""The model of a fit as files for other runtimes, when the fit is over."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_info
from torch import nn
from typing_extensions import override

from lpot_lightning.callbacks.judged import JudgedCallback, add_to, callbacks_of
from lpot_lightning.callbacks.later_judge import judged_in
from lpot_lightning.callbacks.lost_process import end_the_lost
from lpot_lightning.callbacks.pruning import PruningCallback
from lpot_lightning.callbacks.tuned import TunedCallback
from lpot_lightning.conf.schema import Conf, ModelConf
from lpot_lightning.deploy.asking import check_files, export_each
from lpot_lightning.deploy.exported import Exported
from lpot_lightning.deploy.names import file_names
from lpot_lightning.deploy.options import ExportOptions
from lpot_lightning.deploy.origin import Origin
from lpot_lightning.deploy.recording import MOST_SAMPLES, CallRecorder
from lpot_lightning.errors import ConfError, EvaluationError, LpotError
from lpot_lightning.module.copying import check_copyable
from lpot_lightning.runs.result import Result
from lpot_lightning.trainer.checks import NO_VALIDATION_DATA, check_step, check_trainer
from lpot_lightning.trainer.ending import ending_well, trained_left
from lpot_lightning.trainer.package import EitherCallback, check_packages
from lpot_lightning.trainer.precision import judging_precision
from lpot_lightning.trainer.session import Session, SessionWork, in_one_process, ranks_of, root_of
from lpot_lightning.trainer.shown.printing import print_result
from lpot_lightning.trainer.shown.progress import end_live_bar

EXPORTS = "exports"
"""The folder of the files, in the workspace of the run."""


class ExportCallback(EitherCallback):
    """Export the model when the fit is over, and check each file.

    At ``on_fit_end`` the int8 model of the ``QuantizationCallback`` or ``QATCallback`` before this
    one is written, else the pruned one of a ``PruningCallback``, else a copy of your module, in
    fp32. The files go to ``exports`` in the workspace of that callback, or below the trainer's
    ``default_root_dir``. Your module, its metrics and your trainer are as they were afterwards.

    In a trainer of several processes the first one exports, and the others wait. A ``fast_dev_run``
    writes nothing.

    Args:
        formats: forms (``"onnx"``, ``"openvino"``, ``"pt2"``, ``"aoti"``, ``"torchscript"``),
            endings, or names of files; a form is called ``model`` and its ending.
        method: of all files, as the others: what is exported, see ``ExportOptions``.
        example: what it is called with.
        dynamic: which sizes may be any.
        input_names: of the files.
        output_names: of the files.
        opset: of ONNX.
        target: of ONNX, ``"onnxruntime"`` or ``"openvino"``.
        check: whether each file is run and compared right after writing.
        judge: whether your own metric is taken of each file, over the whole validation data.

    Raises:
        ConfError: when created, for a form or an option that is none; when a fit begins, if a
            callback that quantizes or prunes stands after this one.
        ExportError: when a fit begins, if packages are missing; when it is over, if the model
            cannot be exported. Nothing of the run is lost then.
        ArtifactError: when a fit begins, if the folder cannot be written.
        SystemExit: with 130 for Ctrl-C and 143 for SIGTERM while it exports.

    Example::

        export = ExportCallback(formats=["onnx", "pt2"], judge=True)
        trainer = Trainer(max_epochs=5, callbacks=[QuantizationCallback("ptq.yaml"), export])
        trainer.fit(model, datamodule=data)
        print(export.exported[0].table())
    """

    def __init__(
        self,
        formats: list[str],
        *,
        method: str | None = None,
        example: Any = None,
        dynamic: bool | dict[str, dict[int, str]] = True,
        input_names: list[str] | None = None,
        output_names: list[str] | None = None,
        opset: int | None = None,
        target: str | None = None,
        check: bool = True,
        judge: bool = False,
    ) -> None:
        self._names = file_names(formats)
        self.options = ExportOptions(
            method=method,
            example=example,
            dynamic=dynamic,
            input_names=input_names,
            output_names=output_names,
            opset=opset,
            target=target,
            check=check,
            judge=judge,
        )
        self._exported: tuple[Exported, ...] = ()

    @property
    def exported(self) -> tuple[Exported, ...]:
        """What was written, in the order of ``formats``; empty before the fit is over.

        So it is in the main process of a fit that runs in processes of its own.
        """
        return self._exported

    @override
    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Refuse what cannot work, before any training."""
        if stage != "fit":
            return
        self._exported = ()
        check_packages(trainer)
        check_trainer(trainer)
        check_step(pl_module)
        self._check_order(callbacks_of(trainer))
        self._check_judge(trainer)
        if not trainer.enable_validation:
            raise EvaluationError(NO_VALIDATION_DATA)
        in_one_process(trainer, partial(self._check_files, self._folder(trainer)))

    def check(self, trainer: Trainer, workspace: Path | None) -> None:
        """Raise an ``LpotError`` if a run of ``trainer`` without a fit cannot be exported.

        Args:
            trainer: as for ``quantize``.
            workspace: of the run.
        """
        self._check_judge(trainer)
        self._check_files(None if workspace is None else workspace / EXPORTS)

    def of(self, trainer: Trainer, result: Result) -> None:
        """Export the model of a run without a fit; all processes of ``trainer`` call it.

        Raises:
            LpotError: if it cannot be exported; it says what is there.
        """
        if result.workspace is None:
            return
        paths = [result.workspace / EXPORTS / name for name in self._names]
        write = partial(self._written, trainer, result.model, paths, result.origin, result)
        try:
            with (
                ending_well(partial(self._left_by, result), trainer),
                closing(ranks_of(trainer)) as ranks,
            ):
                self._exported = ranks.on_zero(write)
        except LpotError as error:
            add_to(error, _sentence(self._left_by(result)))
            raise

    def _check_judge(self, trainer: Trainer) -> None:
        if self.options.judge and trainer.world_size > 1:
            raise ConfError(
                f"`judge` is given to `ExportCallback`, and the trainer has {trainer.world_size}"
                " processes, of which one exports and cannot judge alone: leave it out, or train"
                " with `Trainer(devices=1)`"
            )

    def _check_files(self, folder: Path | None) -> None:
        if folder is not None:
            check_files(self._names, self.options, folder)

    @override
    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Refuse a model that cannot be copied."""
        check_copyable(pl_module)

    def _check_order(self, callbacks: Sequence[Callback]) -> None:
        after = callbacks[callbacks.index(self) + 1 :]
        if late := [type(one).__name__ for one in after if isinstance(one, JudgedCallback)]:
            raise ConfError(
                f"`{late[0]}` stands after `ExportCallback`, which would find no model of it:"
                f" `callbacks=[{late[0]}(…), ExportCallback(…)]`"
            )

    @override
    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Export."""
        source = _source(callbacks_of(trainer))
        with self._ending_well(trainer, pl_module, source):
            end_live_bar(trainer)
            folder = self._folder(trainer)
            if folder is None:
                rank_zero_info("nothing is exported in a `fast_dev_run`")
                return
            self._exported = self._all_of_it(trainer, pl_module, source, folder)

    @override
    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        """End processes that nobody waits for any more."""
        end_the_lost(trainer, self, exception)

    def _all_of_it(
        self,
        trainer: Trainer,
        module: LightningModule,
        source: JudgedCallback[Any] | None,
        folder: Path,
    ) -> tuple[Exported, ...]:
        """Export in the first process what all of them look at together."""
        conf = _NO_CONF if source is None else source.conf
        precision = judging_precision(trainer, module, _unsaid)
        session = Session(trainer, module, callbacks_of(trainer), precision)
        with closing(session), session.at_work(conf) as work:
            result: Result | None = None if source is None else source.result
            if source is None:
                model, origin = _of_the_fit(work, judges=self.options.judge)
            else:
                assert result is not None  # else it has raised
                model, origin = result.model, result.origin
                judge = partial(judged_in, session, conf, result.monitor)
                origin = replace(origin, judge=judge)
            paths = [folder / name for name in self._names]
            write = partial(self._written, trainer, model, paths, origin, result)
            return work.ranks.on_zero(write)

    def _written(
        self,
        trainer: Trainer,
        model: nn.Module,
        paths: Sequence[Path],
        origin: Origin,
        result: Result | None,
    ) -> tuple[Exported, ...]:
        """Export, and let the report of the run tell of it."""
        asked = model, paths, self.options, origin, rank_zero_info
        found = export_each(*asked, show=partial(print_result, trainer))
        return found if result is None else result.note_exports(found)

    def _folder(self, trainer: Trainer) -> Path | None:
        """Return where the files go, ``None`` in a ``fast_dev_run``."""
        source = _source(callbacks_of(trainer))
        if source is not None:
            return None if source.folder is None else source.folder / EXPORTS
        if trainer.fast_dev_run:  # type: ignore[attr-defined]
            return None
        return root_of(trainer).absolute() / EXPORTS

    @contextmanager
    def _ending_well(
        self, trainer: Trainer, module: LightningModule, source: JudgedCallback[Any] | None
    ) -> Iterator[None]:
        """Say what is there when an export fails, or is ended by a signal."""
        left = partial(self._left, trainer, module, source)
        with ending_well(left, trainer):
            try:
                yield
            except Exception as error:
                if said := left():
                    add_to(error, _sentence(said))
                raise

    def _left(
        self, trainer: Trainer, module: LightningModule, source: JudgedCallback[Any] | None
    ) -> str:
        if source is None:
            return trained_left(trainer, module, self._folder(trainer))
        result: Result | None = source.result
        return "nothing is exported yet" if result is None else self._left_by(result)

    def _left_by(self, result: Result) -> str:
        again = f"lpot_lightning.export('{result.workspace}', '{self._names[0]}', model)"
        return (
            f"the run is over, and its {result.kind} model is in `{result.workspace}`; export it"
            f" from there by `{again}`"
        )


def _sentence(said: str) -> str:
    return f"{said[0].upper()}{said[1:]}."


_NO_CONF = Conf(model=ModelConf("model", "pytorch_fx"))


def _source(callbacks: Sequence[Callback]) -> JudgedCallback[Any] | None:
    """Return the callback whose model is exported: one that quantizes, else one that prunes."""
    for kind in (TunedCallback, PruningCallback):
        if found := [one for one in callbacks if isinstance(one, kind)]:
            return found[-1]
    return None


def _of_the_fit(work: SessionWork, *, judges: bool) -> tuple[nn.Module, Origin]:
    """Return a copy of the user's module, what its validation calls it with, and who judges."""
    shown, recorder = work.model(), CallRecorder()
    with recorder.on(shown):
        work.feed(calib="val", samples=MOST_SAMPLES, tells=False).calibrate(shown)
    origin, model = Origin(root=recorder.root, calls=recorder.calls), work.model().eval()
    if not judges:
        return model, origin
    judge = work.judge(None)
    found = judge.evaluate(work.model(), "the model")

    def judged(model: nn.Module) -> float:
        return judge.evaluate(model, "the exported file").accuracy

    name, accuracy = found.monitor.name, found.accuracy
    return model, replace(origin, monitor=name, accuracy=accuracy, judge=judged)


def _unsaid(_: str) -> None:
    """Weights of another type are no news here."""
