"""A program as a `.aoti.pt2`: compiled ahead of time by Inductor, for torch alone."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any

import torch
from torch.export import ExportedProgram

from lpot_lightning.deploy.exported_program import exported_program, quiet
from lpot_lightning.deploy.native.steps import native_program
from lpot_lightning.deploy.whole_graph import WholeGraph
from lpot_lightning.errors import ExportError, in_one_line, quoted
from lpot_lightning.machine.files import TEMPORARY, write_file

_HOW: dict[str, Any] = {
    "freezing": True,
    "compile_threads": 1,
    "cpp.dynamic_threads": True,
}
"""Weights are packed now; no process stays, and threads are those of who runs it."""


def write_aoti(whole: WholeGraph, path: Path) -> None:
    """Write what a method computes as machine code, of CPUs like the one of this machine.

    What stays in floats between kernels is fused, and rounds a little otherwise than in the model.
    It takes a compiler of C++, and as a rule more than a minute.

    Args:
        whole: what it computes.
        path: of the file, which is replaced.

    Raises:
        ExportError: if there is no compiler, or torch cannot compile it.
        ArtifactError: if the file cannot be written.

    Example::

        write_aoti(whole, Path("model.aoti.pt2"))
        torch._inductor.aoti_load_package("model.aoti.pt2")(images)
    """
    _check_compiler()
    program = exported_program(native_program(whole, writes=False), whole.inputs)
    with tempfile.TemporaryDirectory(prefix=TEMPORARY) as folder:
        content = _compiled(program, Path(folder), whole.signature.method)
    write_file(path, content)


def _check_compiler() -> None:
    from torch._inductor import config

    names = [name for name in config.cpp.cxx if name]
    if not any(map(shutil.which, names)):
        raise ExportError(
            f"`.aoti.pt2` takes a compiler of C++, and there is none: looked for {quoted(names)};"
            " install g++, name another one by the environment's `CXX`, or export to `.pt2`"
        )


def _compiled(program: ExportedProgram, folder: Path, method: str) -> bytes:
    """Return the content of the file; what torch leaves beside it goes with ``folder``, but for the
    headers that it compiles once for all."""
    from torch._inductor import aoti_compile_and_package
    from torch._inductor.runtime.cache_dir_utils import temporary_cache_dir

    package, caches = folder / "model.pt2", folder / "caches"
    try:
        with quiet(), torch.no_grad(), temporary_cache_dir(str(caches)):
            how = dict(_HOW)
            aoti_compile_and_package(program, package_path=str(package), inductor_configs=how)
    except Exception as error:  # whatever Inductor, or the compiler, says
        raise ExportError(
            f"torch cannot compile `{method}`: {in_one_line(error)}; export to `.pt2`, which is not"
            " compiled"
        ) from error
    return package.read_bytes()
