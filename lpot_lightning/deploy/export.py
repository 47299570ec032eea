"""One export: from a model to a file that was checked."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from threading import RLock
from typing import Any

import torch
from torch import Tensor, nn

from lpot_lightning.deploy.calls import Signature, tensors_in
from lpot_lightning.deploy.checking import checked
from lpot_lightning.deploy.comparing import Computes
from lpot_lightning.deploy.exchanged import ByFile, with_file
from lpot_lightning.deploy.exported import Checked, Exported
from lpot_lightning.deploy.options import ExportOptions, form_of
from lpot_lightning.deploy.origin import UNKNOWN, Call, Origin, check_origin
from lpot_lightning.deploy.running.runtime import Runtime
from lpot_lightning.deploy.running.runtimes import open_file
from lpot_lightning.deploy.unfinished import BEFORE, unfinished
from lpot_lightning.deploy.whole_graph import WholeGraph, method_of, whole_graph
from lpot_lightning.deploy.writing import Written, write
from lpot_lightning.errors import ArtifactError, ExportError
from lpot_lightning.machine.files import sync_file, sync_folder
from lpot_lightning.machine.signals import uninterrupted


def export_model(
    model: nn.Module,
    path: str | Path,
    options: ExportOptions,
    origin: Origin = UNKNOWN,
    say: Callable[[str], None] = lambda _: None,
) -> Exported:
    """Write ``model`` to ``path``, in the form that its ending says, and check the file.

    Args:
        model: int8 or fp32, in eval mode, on the CPU; it is left as it is.
        path: of the file; its folder is made.
        options: see there.
        origin: see there.
        say: told what takes long.

    Raises:
        ConfError: if the options do not fit the model.
        ExportError: if the model cannot be written in this form, or the file computes something
            else. Nothing is left at ``path`` then that was not there before.
    """
    check_origin(model, options, origin)
    one = _Export(model, Path(path), options, origin, say)
    with _ONE_AT_A_TIME, torch.random.fork_rng(devices=[]):  # a model may draw random numbers
        return one.go()


_ONE_AT_A_TIME = RLock()
"""Levels of loggers, filters of warnings and torch's exporters are the whole process's."""


class _Export:
    """The steps of one export, in their order."""

    def __init__(
        self,
        model: nn.Module,
        path: Path,
        options: ExportOptions,
        origin: Origin,
        say: Callable[[str], None],
    ) -> None:
        self.model, self.path, self.options, self.origin = model, path, options, origin
        self.say = say
        self.form = form_of(path)
        self.method = _method(options, origin)
        self.notes: list[str] = []

    def go(self) -> Exported:
        with unfinished(self.path) as place:
            self.say(f"exporting to `{self.path}`")
            whole = self._captured()
            calls = self._calls(whole)
            written = write(self.form, self.model, whole, place, self.options, calls)
            self.notes += written.notes
            found = self._checked(whole, written, place, calls) if self.options.check else None
            accuracy = self._judged(whole, written, place) if self.options.judge else None
            with uninterrupted():  # a form may be several files
                size = _into_place(place, self.path)
        return Exported(
            path=self.path,
            form=self.form,
            target=written.target,
            bytes=size,
            inputs={one.name: one.shape for one in whole.inputs},
            outputs=whole.given.names,
            int8_ops=len(whole.program.kernels),
            kept_ops=len(whole.program.kept),
            checked=found,
            monitor=self.origin.monitor,
            accuracy=accuracy,
            int8_accuracy=self.origin.accuracy,
            notes=tuple(self.notes),
        )

    def _captured(self) -> WholeGraph:
        options, example = self.options, self._example()

        def signature_of(function: Callable[..., Any]) -> Signature:
            name = self.method or "forward"
            return Signature.of(name, function, example, options.dynamic, options.input_names)

        whole = whole_graph(self.model, self.method, signature_of, options.output_names)
        left = [one.name for one in whole.signature.inputs if one not in whole.inputs]
        if left:
            self.notes.append(f"the model does nothing with `{'`, `'.join(left)}`")
        return whole

    def _example(self) -> Call:
        asked = self.options.example
        if asked is not None:
            return _as_call(asked)
        calls = self._known_calls()
        if not calls:
            method_of(self.model, self.method)  # of a name that is none, no example helps
            raise ExportError(
                f"nobody knows how `{self.method or 'forward'}` is called: give an `example`, a"
                " tensor, a tuple of arguments or a mapping of keyword arguments, in Python by"
                " `export(…, example=…)`, or as a file by `lpot-lightning export --example FILE`"
            )
        return calls[0]

    def _known_calls(self) -> tuple[Call, ...]:
        """Return the calls of the calibration, if they are of what is exported."""
        root = self.origin.root
        same = root is not None and self.method in (root, f"{root}.forward".lstrip("."))
        return self.origin.calls if same else ()

    def _calls(self, whole: WholeGraph) -> list[tuple[Tensor, ...]]:
        """Return calls of the calibration as inputs of the file, at least the example.

        Those that have another form than an example are none of the file's.
        """
        asked, known = self.options.example, self._known_calls()
        calls = known if asked is None else (_as_call(asked), *filter(whole.signature.takes, known))
        found = [whole.signature.tensors_of(call) for call in calls]
        return [whole.fed(one) for one in found if _fits(whole, one)] or [
            tuple(one.value for one in whole.inputs)
        ]

    def _checked(
        self, whole: WholeGraph, written: Written, place: Path, calls: Sequence[Sequence[Tensor]]
    ) -> Checked:
        self.say(f"checking `{self.path.name}`")
        model = self._torch_way(whole)
        found, notes = checked(
            self._opened(written, place),
            written,
            place,
            model,
            [calls[0], whole.one_sample(calls[0]), *_half_sized(whole, calls[0], model)],
            ops=len(whole.program.kernels),
        )
        self.notes += notes
        return found

    def _opened(self, written: Written, place: Path) -> Runtime:
        """Open the file.

        Raises:
            ExportError: if the runtime cannot read what the exporter wrote.
        """
        try:
            return open_file(place, runtime=written.runtime)
        except ArtifactError as error:
            raise ExportError(
                f"`{self.path.name}` was written, and {error}; nothing was left: export it for"
                " another runtime by `target`, or to another form"
            ) from error

    def _torch_way(self, whole: WholeGraph) -> Callable[..., Sequence[Tensor]]:
        """Return the model as it is in torch, for inputs of the file."""
        function = method_of(self.model, self.method)
        example = [one.value for one in whole.signature.inputs]

        def compute(*tensors: Tensor) -> Sequence[Tensor]:
            given = list(example)
            for number, tensor in zip(whole.used, tensors, strict=True):
                given[number] = tensor.clone()  # a model may write into its input
            call = whole.signature.call_of(given)
            with torch.no_grad():
                return tensors_in(function(*call.args, **call.kwargs))

        return compute

    def _judged(self, whole: WholeGraph, written: Written, place: Path) -> float:
        assert self.origin.judge is not None  # `check_origin` has looked
        self.say(f"judging `{self.path.name}` by `{self.origin.monitor}`")
        by_file = ByFile(whole, self._opened(written, place))
        accuracy = self.origin.judge(with_file(self.model, self.method, by_file))
        by_file.check_called()
        return accuracy


def _half_sized(
    whole: WholeGraph, call: Sequence[Tensor], model: Computes
) -> Iterator[tuple[Tensor, ...]]:
    """Yield a call of other sizes, if sizes besides the batch may be any, and the model takes it:
    a size that the file fixes is seen in no other way."""
    half = whole.halved(call)
    if all(one.shape == other.shape for one, other in zip(half, call, strict=True)):
        return
    with suppress(Exception):  # whatever the user's code says
        model(*half)
        yield half


def _method(options: ExportOptions, origin: Origin) -> str:
    """Return what is exported: what is asked for, or what the validation step calls."""
    if options.method is not None:
        return "" if options.method == "forward" else options.method
    return origin.root or ""


def _as_call(example: Any) -> Call:
    if isinstance(example, Call):
        return example
    if isinstance(example, Mapping):
        return Call((), dict(example))
    return Call(tuple(example) if isinstance(example, tuple | list) else (example,))


def _fits(whole: WholeGraph, tensors: Sequence[Tensor]) -> bool:
    """Whether the sizes that are no names are those of the example."""
    return all(
        tensor.dim() == len(one.shape)
        and all(isinstance(b, str) or a == b for a, b in zip(tensor.shape, one.shape, strict=True))
        for tensor, one in zip(tensors, whole.signature.inputs, strict=True)
    )


def _into_place(written: Path, path: Path) -> int:
    """Move a finished file, and what lies beside it, to its place; return the bytes of all.

    Two files cannot be exchanged at once: those from before are moved into the unfinished folder,
    where a kill leaves them until the next export. So no file is ever beside one of another model.
    """
    files = [one for one in written.parent.iterdir() if one.is_file()]
    files.sort(key=lambda one: one == written)
    size = sum(one.stat().st_size for one in files)
    before = written.parent / BEFORE
    try:
        if len(files) > 1:
            before.mkdir()
            _move([path.with_name(one.name) for one in reversed(files)], before)
        for one in files:
            sync_file(one)  # a runtime's own writer has not
        _move(files, path.parent)
    except OSError as error:
        with suppress(OSError):  # the first one is told
            _move(sorted(before.iterdir()) if before.is_dir() else [], path.parent)
        raise ExportError(f"cannot write `{path}`: {error.strerror or error}") from error
    sync_folder(path.parent)
    return size


def _move(files: Sequence[Path], folder: Path) -> None:
    for one in files:
        if one.exists():
            os.replace(one, folder / one.name)
