"""Lightning's command line, with quantize and benchmark."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any, Literal, Self

from lightning.pytorch import LightningDataModule, LightningModule
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI
from typing_extensions import override

from lpot_lightning.commands import benchmark as offline_benchmark
from lpot_lightning.commands import quantize as offline
from lpot_lightning.commands.answer import Interrupted, json_text, plain_error
from lpot_lightning.commands.json_option import (
    STDOUT,
    is_first,
    stands_alone,
    takes_no_value,
    tell_programs_what_is_wrong,
)
from lpot_lightning.errors import ArtifactError, ConfError, LpotError, as_lines, in_short
from lpot_lightning.machine.files import expanded, write_file
from lpot_lightning.machine.kept_stdout import kept_stdout
from lpot_lightning.machine.signals import Stopped
from lpot_lightning.runs.tuning_result import TuningResult
from lpot_lightning.timing.result import BenchmarkResult
from lpot_lightning.trainer.checks import has_command_line
from lpot_lightning.trainer.package import derived, of

if not has_command_line():
    raise ConfError(
        "`LPOTCLI` reads its arguments by `jsonargparse[signatures]`, which is not installed, or"
        " too old: `pip install 'lpot-lightning[cli]'`"
    )

FAILED, NOT_MET = 1, 3
"""Exit codes; argparse's own for wrong arguments is 2."""
_HELP = {
    "quantize": "Make a trained model int8, tuned to an accuracy goal. Exit codes: 0 the goal is"
    " met, 3 the best int8 model misses it, 1 an error, 2 wrong arguments.",
    "benchmark": "Time a trained model; where a quantization has left an int8 one, against that."
    " Exit codes: 0 measured, 1 an error, 2 wrong arguments.",
}


if TYPE_CHECKING:
    _CommandLine = LightningCLI
else:  # it comes from the package of the model
    _CommandLine = object


class LPOTCLI(_CommandLine):
    """A ``LightningCLI`` with the subcommands ``quantize`` and ``benchmark``.

    It is one, and takes its arguments. An error of lpot_lightning, whatever the subcommand,
    is said in one line on stderr, and the exit code is 1; that of a quantization which misses its
    goal is 3.

    Attributes:
        result: the ``TuningResult`` or ``BenchmarkResult``; ``None`` for other subcommands.

    Raises:
        SystemExit: with the exit code, where that is not 0.

    Example::

        if __name__ == "__main__":  # python main.py quantize --config run.yaml
            LPOTCLI(LitDigits, DigitsData)
    """

    result: TuningResult | BenchmarkResult | None = None
    _write: Callable[[str], object] | None = None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        with ExitStack() as self._open:
            try:
                super().__init__(*args, **kwargs)
            except BaseException as error:
                self._tell_program(error)
                raise

    def __new__(
        cls, model_class: Any = None, datamodule_class: Any = None, *_: Any, **__: Any
    ) -> Self:
        """Return a ``LightningCLI`` of the package of the model, else of that of the data."""
        return super().__new__(derived(cls, of(model_class or datamodule_class, LightningCLI)))

    @staticmethod
    @override
    def subcommands() -> dict[str, set[str]]:
        """Return the subcommands, with the arguments that are no options of each."""
        ours = {name: {"model", "datamodule"} for name in _HELP}
        return {**LightningCLI.subcommands(), **ours}

    def quantize(
        self,
        model: LightningModule,
        datamodule: LightningDataModule | None = None,
        *,
        conf: str | dict[str, Any],
        monitor: str | None = None,
        modules: list[str] | None = None,
        calib: Literal["train", "val"] = "train",
        ckpt_path: str | None = None,
        json: str | None = None,
    ) -> TuningResult:
        """Quantize the model with the trainer's validation loop as the judge.

        Args:
            model: the trained model.
            datamodule: gives data to calibrate and to judge on.
            conf: LPOT's user YAML: the name of a file, or its content inline.
            monitor: The logged metric that is the accuracy; by default what a ``ModelCheckpoint``
                or ``EarlyStopping`` monitors, else the only one that the validation logs.
            modules: Names or globs of the submodules to quantize; by default everything that can
                be.
            calib: Which data to calibrate on.
            ckpt_path: The checkpoint with the trained weights.
            json: Print the result as one JSON object, and nothing else on stdout; with the name of
                a file, write it there.
        """
        result = offline.quantize(
            self.trainer,
            model,
            datamodule=datamodule,
            conf=conf,
            monitor=monitor,
            modules=modules,
            calib=calib,
            ckpt_path=ckpt_path,
        )
        self._answer_with(result.to_json(), json)
        return result

    def benchmark(
        self,
        model: LightningModule,
        datamodule: LightningDataModule | None = None,
        *,
        conf: str | dict[str, Any],
        workspace: str | None = None,
        ckpt_path: str | None = None,
        files: list[str] | None = None,
        json: str | None = None,
    ) -> BenchmarkResult:
        """Time the model's ``forward`` over the validation data.

        Args:
            model: the trained model.
            datamodule: gives the data.
            conf: LPOT's user YAML, such as the ``deploy.yaml`` of a workspace: the name of a file,
                or its content inline.
            workspace: The folder of a quantization, whose int8 model is timed against fp32; by
                default that of ``conf``, where one is there.
            ckpt_path: The checkpoint with the trained weights.
            files: Exported files, such as int8.onnx, which are timed in turns with the models.
            json: Print the result as one JSON object, and nothing else on stdout; with the name of
                a file, write it there.
        """
        result = offline_benchmark.benchmark(
            self.trainer,
            model,
            datamodule,
            conf=conf,
            workspace=workspace,
            ckpt_path=ckpt_path,
            files=files,
        )
        self._answer_with(result.to_json(), json)
        return result

    @override
    def _add_subcommands(self, parser: LightningArgumentParser, **kwargs: Any) -> None:
        """Add ours beside those of the trainer, which has no methods for them."""
        every = self.subcommands()
        theirs = {name: skipped for name, skipped in every.items() if name not in _HELP}
        self.subcommands = lambda: theirs  # type: ignore[method-assign]
        try:
            super()._add_subcommands(parser, **kwargs)
        finally:
            del vars(self)["subcommands"]
        added_ones = parser._subcommands_action
        assert added_ones is not None
        for name, text in _HELP.items():
            given = {"description": text, **kwargs.get(name, {})}
            own = self.init_parser(**given)
            self._add_arguments(own)
            added = own.add_method_arguments(type(self), name, skip=set(every[name]))
            takes_no_value(own, "--json")
            self._subcommand_method_arguments[name] = added
            self._subcommand_parsers[name] = own
            added_ones.add_subcommand(name, own, help=text)

    @override
    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        """Parse arguments, and keep stdout for the JSON that they ask for."""
        if stands_alone("--json", args if isinstance(args, list) else sys.argv[1:]):
            for one in (parser, *getattr(self, "_subcommand_parsers", {}).values()):
                tell_programs_what_is_wrong(one)
        super().parse_arguments(parser, args)
        given = self.config.get(self.config.get("subcommand") or "")
        if given is not None and given.get("json") == STDOUT:
            self._write = self._open.enter_context(kept_stdout())

    def _answer_with(self, content: bytes, where: str | None) -> None:
        """Give a result to a program, from one process of those that have it."""
        if where is None or not is_first():
            return
        if where == STDOUT:
            self._say(json_text(json.loads(content)))
        else:
            write_file(expanded(where), content)

    def _say(self, text: str) -> None:
        if self._write is not None and is_first():
            self._write(text)
            self._write = None

    def _tell_program(self, error: BaseException) -> None:
        """Tell a program of an error, if it asked for JSON and has been told nothing yet."""
        if isinstance(error, KeyboardInterrupt | Stopped):
            error = Interrupted("ended by Ctrl-C, SIGTERM or SIGHUP")
        self._say(json_text(plain_error(error)))

    @contextmanager
    def _told(self) -> Iterator[None]:
        """Say an error of ours, one line for each fault, and end with its exit code."""
        try:
            yield
        except LpotError as error:
            sys.stderr.write(as_lines(error))
            self._tell_program(error)
            raise SystemExit(FAILED) from error

    @override
    def _parse_ckpt_path(self) -> None:
        """Take hyperparameters from the checkpoint; one that cannot be read is said in one line."""
        with self._told():
            try:
                super()._parse_ckpt_path()
            except Exception as error:  # torch gives ten kinds of them for damaged files
                raise ArtifactError(f"`ckpt_path` cannot be read: {in_short(error)}") from error

    @override
    def instantiate_classes(self) -> None:
        """Instantiate classes; what is wrong with a conf is said in one line."""
        with self._told():
            try:
                super().instantiate_classes()
            except ValueError as error:  # jsonargparse's, about a callback that refuses its conf
                ours = _ours(error)
                if ours is None:
                    raise
                raise ours from None

    @override
    def _run_subcommand(self, subcommand: str) -> None:
        with self._told():
            if subcommand not in _HELP:
                super()._run_subcommand(subcommand)
                return
            self._around(f"before_{subcommand}")
            given = self._prepare_subcommand_kwargs(subcommand)
            self.result = getattr(self, subcommand)(**given)
            self._around(f"after_{subcommand}")
        if isinstance(self.result, TuningResult) and self.result.status != "met":
            raise SystemExit(NOT_MET)

    def _around(self, name: str) -> None:
        hook = getattr(self, name, None)
        if callable(hook):
            hook()


def _ours(error: BaseException | None) -> LpotError | None:
    """Return the error of ours that another one follows from."""
    while error is not None and not isinstance(error, LpotError):
        error = error.__cause__
    return error
