"""Exports that replace a file, and a benchmark, which are killed."""

from __future__ import annotations

import dataclasses
import functools
import json
import tempfile
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any, ClassVar

import torch
from deploy_scenes import SmallNet, images, int8_of, origin, small_int8
from int8_scenes import Batch
from kill_scenes import WithoutTrials, content_of

from lpot_lightning import Benchmark
from lpot_lightning.deploy.export import export_model
from lpot_lightning.deploy.names import options_of
from lpot_lightning.deploy.running.runtimes import open_file
from lpot_lightning.errors import ArtifactError
from lpot_lightning.selftest.forked import Forked
from lpot_lightning.selftest.little_run import LittleRun, TinyNet, inputs, unreadable_in
from lpot_lightning.selftest.scene import Note

for _name in ("onnx", "onnxruntime", "openvino"):  # no child is to wait for them
    import_module(_name)


@dataclasses.dataclass(frozen=True)
class Export(WithoutTrials):
    """An export to a path where another model's file is.

    Args:
        name: for tables.
        ending: of the file.
        first: whether it is the other model's own.
    """

    name: str
    ending: str
    first: bool = False
    begins: ClassVar[str] = "export"

    def prepare(self, folder: Path) -> None:
        """Put there what another export has left."""
        (folder / "exports").mkdir()
        for name, content in ({} if self.first else left_by(self.ending)).items():
            (folder / "exports" / name).write_bytes(content)

    def run(self, folder: Path, note: Note) -> dict[str, Any]:
        """Export."""
        model = another_int8() if self.first else small_int8()
        note("export")
        made = export_model(model, folder / "exports" / f"m{self.ending}", options_of({}), origin())
        return {"ops": [made.int8_ops, made.kept_ops], "inputs": str(made.inputs)}

    def written(self, folder: Path) -> list[Path]:
        return [folder / "exports"]

    def unreadable(self, folder: Path) -> Iterator[str]:
        """Yield what is neither the file from before nor the new one."""
        path = folder / "exports" / f"m{self.ending}"
        if not path.exists() and list(path.parent.glob(f"*/before/{path.name}")):
            return  # of two files, which the next export puts back
        try:
            found = answer_of(path)
        except ArtifactError as error:
            yield str(error)
            return
        if not any(torch.allclose(found, one, atol=0.05) for one in (answer(0), answer(1))):
            yield "it computes neither what the model does nor what the one before did"

    def end_of(self, folder: Path) -> dict[str, Any]:
        found = answer_of(folder / "exports" / f"m{self.ending}")
        return {
            "files": sorted(one.name for one in (folder / "exports").iterdir()),
            "answer": found.tolist(),
            "result": json.loads((folder / "result").read_text()),
        }


@functools.cache
def another_int8() -> torch.nn.Module:
    torch.manual_seed(7)
    return int8_of(SmallNet().eval(), Batch(images(16)))


@functools.cache
def answer(number: int) -> torch.Tensor:
    with torch.no_grad():
        return (small_int8(), another_int8())[number](images(3, 5))


def answer_of(path: Path) -> torch.Tensor:
    """Return what a file computes, in a child: the threads of a runtime do not outlive a fork."""
    with tempfile.TemporaryDirectory() as folder:
        run = Forked(Opened(path), Path(folder))
        if run.wait():
            raise ArtifactError((Path(folder) / "errors").read_text()[-300:])
        return torch.tensor(json.loads((Path(folder) / "result").read_text())["answer"])


@dataclasses.dataclass(frozen=True)
class Opened:
    """Runs a file."""

    path: Path

    def run(self, folder: Path, note: Note) -> dict[str, Any]:
        return {"answer": open_file(self.path)(images(3, 5))[0].tolist()}


@functools.cache
def left_by(ending: str) -> dict[str, bytes]:
    """Return what an export of another model leaves."""
    with tempfile.TemporaryDirectory() as folder:
        scene = Export("the export before", ending, first=True)
        scene.prepare(Path(folder))
        assert Forked(scene, Path(folder)).wait() == 0, (Path(folder) / "errors").read_text()
        return content_of(Path(folder) / "exports")


@dataclasses.dataclass(frozen=True)
class BenchmarkOf(WithoutTrials):
    """A benchmark of what is in a workspace, which it does not change."""

    name: str = "benchmark"
    begins: ClassVar[str] = "benchmark"

    def prepare(self, folder: Path) -> None:
        """Put a tuned model there."""
        (folder / "workspace").mkdir()
        for name, content in tuned().items():
            (folder / "workspace" / name).write_bytes(content)

    def run(self, folder: Path, note: Note) -> dict[str, Any]:
        """Measure."""
        asked = {"warmup": 2, "iteration": 40}
        conf = {
            "model": {"name": "tiny", "framework": "pytorch_fx"},
            "evaluation": {"performance": asked},
        }
        benchmark = Benchmark(conf)
        benchmark.b_dataloader = [inputs()]
        note("benchmark")
        result = benchmark(str(folder / "workspace"), fp32=TinyNet().eval())
        return {"label": result.label, "finite": result.speedup > 0}

    def written(self, folder: Path) -> list[Path]:
        return [folder / "workspace"]

    def unreadable(self, folder: Path) -> Iterator[str]:
        yield from unreadable_in(folder / "workspace", TinyNet(), inputs())
        if content_of(folder / "workspace") != tuned():
            yield "a file of the workspace was changed"

    def end_of(self, folder: Path) -> dict[str, Any]:
        files = content_of(folder / "workspace")
        return {**files, "result": json.loads((folder / "result").read_text())}


@functools.cache
def tuned() -> dict[str, bytes]:
    """Return what a tuning leaves."""
    with tempfile.TemporaryDirectory() as folder:
        assert Forked(LittleRun(), Path(folder)).wait() == 0
        return content_of(Path(folder) / "workspace")


EXPORTS = (
    Export("export to ONNX", ".onnx"),
    Export("export to OpenVINO", ".xml"),
    Export("export to .pt2", ".pt2"),
)
BENCHMARK = BenchmarkOf()
