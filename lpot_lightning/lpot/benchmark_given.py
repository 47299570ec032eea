"""What the user gives to a benchmark besides its conf."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any

from torch import nn

from lpot_lightning.artifacts.storage import CONFIGURE
from lpot_lightning.data.meter import Meter
from lpot_lightning.deploy.options import FORMS
from lpot_lightning.deploy.running.file_model import FileModel
from lpot_lightning.errors import ConfError, did_you_mean, quoted
from lpot_lightning.lpot.given import check_callable, check_kind, check_loader, check_model
from lpot_lightning.machine.files import expanded
from lpot_lightning.runs.preparation import int8_in

MODES = ("performance", "accuracy")
MODULE_OR_FOLDER = (
    "an `nn.Module`, an exported file, or the folder of a workspace together with `fp32`"
)
FILES = "the path of an exported file, a list of them, or a mapping of names to them"


@dataclass(frozen=True, kw_only=True)
class BenchmarkGiven:
    """Models, data and function of one call, as they came; ``checked`` says what is wrong.

    Args:
        model: what is timed.
        fp32: what it is compared with.
        files: take turns with them.
        b_dataloader: shows the models data.
        b_func: is timed in their place.
        mode: of ``MODES``.
        metric: judges models, in place of that of the conf.
        origin: what ``b_dataloader`` is called, for people.
    """

    model: Any
    fp32: Any
    b_dataloader: Any
    b_func: Any
    mode: Any
    metric: Meter | None = None
    files: Any = None
    origin: str = "`b_dataloader`"

    def checked(self) -> BenchmarkGiven:
        """Return itself, with exported files as models; the path of a folder is a ``Path``.

        Raises:
            ConfError: if something is missing or of the wrong kind.
            ArtifactError: if a file is not there.
            ExportError: if what runs a file is not installed.
        """
        _check_mode(self.mode)
        model = self._opened() if isinstance(self.model, str | os.PathLike) else self.model
        check_model(model, "benchmark", nn.Module | Path, MODULE_OR_FOLDER)
        fp32 = _file(self.fp32) if _is_exported(self.fp32) else self.fp32
        if fp32 is not None:
            _check_fp32(fp32)
        for name, one in (("model", model), ("fp32", fp32)):
            if isinstance(one, nn.Module):
                _check_on_cpu(name, one)
        _check_measured(self.b_dataloader, self.b_func)
        return replace(self, model=model, fp32=fp32, files=_files(self.files))

    @property
    def data(self) -> str | None:
        """What gives the data, for people; ``None`` leaves it to the conf."""
        if self.b_func is not None:
            return "the `b_func`"
        return None if self.b_dataloader is None else "the `b_dataloader`"

    @property
    def names(self) -> frozenset[str]:
        """Which of ``b_dataloader``, ``b_func`` and ``metric`` are given."""
        return frozenset(
            name for name in ("b_dataloader", "b_func", "metric") if getattr(self, name) is not None
        )

    @property
    def is_int8(self) -> bool:
        """Whether the model is an int8 one."""
        return isinstance(self.model, Path) or int8_in(self.model) is not None

    @property
    def label(self) -> str:
        """What the model is called in a table."""
        if isinstance(self.model, FileModel):
            return self.model.path.name
        return "int8" if self.is_int8 else "model"

    def _opened(self) -> FileModel | Path:
        folder = expanded(self.model)
        return _file(folder) if _is_exported(folder) and not folder.is_dir() else self._folder()

    def _folder(self) -> Path:
        folder = expanded(self.model)
        if not (folder / CONFIGURE).is_file():
            raise ConfError(
                f"`model` is `{self.model}`; allowed: a model, an exported file, which ends in"
                f" {quoted(FORMS)}, or the folder of a workspace, with `{CONFIGURE}` in it"
            )
        if self.fp32 is None or _is_exported(self.fp32):
            raise ConfError(
                f"`model` is the folder `{self.model}`, whose int8 model is built from the fp32"
                " one: give that too, `benchmark(folder, loader, fp32=model)`"
            )
        return folder


def _is_exported(given: object) -> bool:
    """Whether it is the path of an exported file, by its ending."""
    return isinstance(given, str | os.PathLike) and os.fspath(given).endswith(tuple(FORMS))


def _file(path: str | os.PathLike[str]) -> FileModel:
    found = FileModel(path)
    found.check()
    return found


def _files(given: Any) -> dict[str, FileModel]:
    """Return files by what they are called: their names where these tell them apart."""
    if given is None:
        return {}
    listed = [given] if isinstance(given, str | os.PathLike) else given
    check_kind(isinstance(listed, Mapping | list | tuple), "files", given, FILES)
    for one in (paths := list(listed.values() if isinstance(listed, Mapping) else listed)):
        if not _is_exported(one):
            raise ConfError(
                f"`files` has `{one}`; allowed: paths that end in one of {quoted(FORMS)}"
            )
    short = {Path(one).name for one in paths}
    names = [Path(one).name if len(short) == len(paths) else os.fspath(one) for one in paths]
    labels = map(str, listed) if isinstance(listed, Mapping) else names
    return dict(zip(labels, map(_file, paths), strict=True))


def _check_mode(mode: object) -> None:
    if mode not in MODES:
        raise ConfError(
            f"`mode` is `{mode}`; allowed: {quoted(MODES)}.{did_you_mean(str(mode), MODES)}"
        )


def _check_fp32(fp32: Any) -> None:
    check_kind(isinstance(fp32, nn.Module), "fp32", fp32, "the fp32 model, an `nn.Module`")
    if int8_in(fp32) is not None:
        raise ConfError(
            "`fp32` is an int8 model: give the int8 one as `model`, the fp32 one as `fp32`"
        )


def _check_on_cpu(name: str, model: nn.Module) -> None:
    for key, value in chain(model.named_parameters(), model.named_buffers()):
        if value.device.type != "cpu":
            raise ConfError(
                f"`{key}` of `{name}` is on `{value.device}`; int8 runs on the CPU, and so does a"
                " benchmark: give `model.cpu()`"
            )


def _check_measured(loader: object, func: object) -> None:
    if loader is not None and func is not None:
        raise ConfError(
            "there are a `b_dataloader` and a `b_func`; allowed: one of them, a `b_func(model)`"
            " brings its own data"
        )
    check_loader("b_dataloader", loader)
    if func is not None:
        check_callable("b_func", func, "runs what is to be timed")
