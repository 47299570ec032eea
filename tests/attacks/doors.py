"""The calls by which files of others come in, and good files for each."""

from __future__ import annotations

import contextlib
import io
import shutil
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from make import KINDS
from museum_models import Exhibit, shown

from lpot_lightning import load, load_from_checkpoint
from lpot_lightning.artifacts.tune_config import read_configure
from lpot_lightning.commands.report import facts_in
from lpot_lightning.commands.show import as_text, look
from lpot_lightning.conf.reader import read_conf
from lpot_lightning.data.datasets import DATASETS
from lpot_lightning.deploy.export_records import read_exports
from lpot_lightning.deploy.running.runtimes import open_file
from lpot_lightning.errors import LpotError
from lpot_lightning.machine.lock import WorkspaceLock
from lpot_lightning.report.page import page
from lpot_lightning.runs.pruning_result import read_pruning_result
from lpot_lightning.runs.tuning_result import read_result
from lpot_lightning.trainer.checkpoint import fp32_from_checkpoint
from lpot_lightning.tuning.history import History, look_at


@dataclass(frozen=True)
class Door:
    """A call that reads files.

    Args:
        open: reads what is in a folder, as far as somebody who uses it would.
        files: that it needs, each with the kind of workspace that has it.
        writes: whether it may write into that folder.
        late: whether it is opened on good files in the process of each attack first: what it
            imports may not be forked.
    """

    open: Callable[[Path], object]
    files: tuple[tuple[str, str], ...] = ()
    writes: bool = False
    late: bool = False


def _of(kind: str, *names: str) -> tuple[tuple[str, str], ...]:
    return tuple((kind, name) for name in names)


def _pair(kind: str) -> Callable[[Path], object]:
    def opened(folder: Path) -> object:
        files = folder / f"{kind}_configure.yaml", folder / f"{kind}_model_weights.pt"
        return load(*files, Exhibit())

    return opened


def _history(folder: Path) -> object:
    path = folder / "history.jsonl"
    seen = look_at(path)
    with contextlib.suppress(LpotError):
        look(str(folder)).to_dict(), as_text(look(str(folder))), page(facts_in(folder))
    history = History.open(path, {"config": "x"})
    history.check_baseline(0.5)
    return seen, history.trials


def _result(folder: Path) -> object:
    found = read_result(folder / "result.json")
    with contextlib.suppress(LpotError):
        as_text(look(str(folder))), page(facts_in(folder))
    return found


def _pruning_result(folder: Path) -> object:
    found = read_pruning_result(folder / "pruning_result.json")
    with contextlib.suppress(LpotError):
        as_text(look(str(folder))), page(facts_in(folder))
    return found


def _lock(folder: Path) -> object:
    with WorkspaceLock(folder):
        return None


def _conf(name: str) -> Callable[[Path], object]:
    def opened(folder: Path) -> object:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return read_conf(folder / name)

    return opened


def _dataset(name: str, **given: Any) -> Callable[[Path], object]:
    def opened(folder: Path) -> object:
        source = DATASETS[name](root=str(folder / "data"), **given)
        return [source.sample(number, ()) for number in range(min(source.count or 0, 8))]

    return opened


def _exported(name: str, runtime: str | None = None) -> Callable[[Path], object]:
    def opened(folder: Path) -> object:
        with contextlib.redirect_stderr(io.StringIO()):
            return open_file(folder / name, runtime=runtime)(shown())

    return opened


def name_in(folder: Path) -> str:
    """Return the name that an attack has noted."""
    return (folder / "name").read_bytes().decode("utf-8", "surrogateescape")


def _named(read: Callable[[str], object]) -> Door:
    return Door(lambda folder: read(name_in(folder)))


BEST = "best_configure.yaml", "best_model_weights.pt"
PRUNED = "pruned_configure.yaml", "pruned_model_weights.pt"
DOORS: dict[str, Door] = {
    "pair": Door(_pair("best"), _of("ptq", *BEST)),
    "pruned pair": Door(_pair("pruned"), _of("pruned", *PRUNED)),
    "tune config": Door(lambda folder: read_configure(folder / BEST[0]), _of("ptq", BEST[0])),
    "checkpoint": Door(
        lambda folder: load_from_checkpoint(Exhibit, folder / "best_quantized.ckpt"),
        _of("ptq", "best_quantized.ckpt"),
    ),
    "qat checkpoint": Door(
        lambda folder: load_from_checkpoint(Exhibit, folder / "qat.ckpt"),
        _of("qat", "qat.ckpt"),
    ),
    "fp32 checkpoint": Door(
        lambda folder: fp32_from_checkpoint(Exhibit, folder / "some.ckpt"),
        _of("fit", "some.ckpt"),
    ),
    "conf": Door(_conf("conf.yaml"), _of("fit", "conf.yaml")),
    "deploy": Door(_conf("deploy.yaml"), _of("ptq", "deploy.yaml")),
    "history": Door(_history, _of("ptq", "history.jsonl"), writes=True),
    "result": Door(_result, _of("ptq", "result.json")),
    "pruning result": Door(_pruning_result, _of("pruned", "pruning_result.json")),
    "export records": Door(read_exports),
    "lock": Door(_lock, writes=True),
    "pair name": _named(lambda name: load(name, name, Exhibit())),
    "checkpoint name": _named(lambda name: load_from_checkpoint(Exhibit, name)),
    "conf name": _named(read_conf),
    "show name": _named(look),
    "data set name": _named(lambda name: DATASETS["MNIST"](root=name)),
    "MNIST": Door(_dataset("MNIST"), _of("data", "data")),
    "CIFAR10": Door(_dataset("CIFAR10"), _of("data", "data")),
    "ImageFolder": Door(_dataset("ImageFolder"), _of("data", "data")),
    "bert": Door(_dataset("bert", label_file="dev.tsv"), _of("data", "data")),
    "ONNX Runtime": Door(_exported("model.onnx"), _of("exports", "model.onnx"), late=True),
    "OpenVINO": Door(_exported("model.onnx", "openvino"), _of("exports", "model.onnx"), late=True),
    "XML": Door(_exported("model.xml"), _of("exports", "model.xml", "model.bin"), late=True),
    "program": Door(_exported("model.pt2"), _of("exports", "model.pt2"), late=True),
    "TorchScript": Door(_exported("model.ts"), _of("exports", "model.ts"), late=True),
    "compiled": Door(_exported("model.aoti.pt2"), late=True),
}


def good_files(root: Path, kept: Path | None = None) -> None:
    """Make a workspace of each kind, and what else the doors need, in folders of these names.

    Args:
        root: where.
        kept: a folder of such workspaces that are copied instead.
    """
    for kind in ("ptq", "qat", "pruned"):
        if kept is None:
            KINDS[kind](root / kind)
        else:
            shutil.copytree(kept / kind, root / kind)
    from good_data import data, exports, fit

    fit(root / "fit")
    data(root / "data" / "data")
    exports(root / "exports")
