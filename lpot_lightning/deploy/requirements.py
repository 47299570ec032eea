"""What an export needs that is not installed with this package."""

from __future__ import annotations

import os
import shutil
from importlib.util import find_spec

from lpot_lightning.deploy.options import ONNXRUNTIME, OPENVINO, ExportOptions
from lpot_lightning.errors import ExportError, quoted

_WRITING = {
    "onnx": ("onnx", "onnxscript"),
    "openvino": ("openvino", "onnx", "onnxscript"),
}
_EXTRAS = {"onnx": "onnx", "onnxscript": "onnx", "onnxruntime": "onnx", "openvino": "openvino"}
_COMPILERS = ("g++", "clang++", "c++")


def check_installed(form: str, options: ExportOptions) -> None:
    """Check that everything is there to write a form, and to check the file; nothing is imported.

    Args:
        form: one of ``FORMS``.
        options: see there.

    Raises:
        ExportError: if something is missing; it says how to get it.

    Example::

        check_installed("onnx", ExportOptions(check=False))
    """
    missing = [name for name in _needed(form, options) if not _is_there(name)]
    if missing:
        extras = ",".join(dict.fromkeys(_EXTRAS[name] for name in missing))
        raise ExportError(
            f"an export to {form} needs {quoted(missing)}, which {_are(missing)} not installed:"
            f" `pip install 'lpot-lightning[{extras}]'`"
        )
    if form == "aoti" and compiler() is None:
        raise ExportError(
            "an export to aoti compiles C++, and there is no compiler: install"
            f" {quoted(_COMPILERS)}, or say in `CXX` where one is"
        )


def compiler() -> str | None:
    """Return the path of the C++ compiler that ``aoti`` would use, ``None`` if there is none."""
    asked = os.environ.get("CXX")
    names = (asked,) if asked else _COMPILERS
    return next(filter(None, map(shutil.which, names)), None)


def _needed(form: str, options: ExportOptions) -> tuple[str, ...]:
    """Return the packages for a form; ONNX is checked in the runtime that it is for."""
    writing = _WRITING.get(form, ())
    if form != "onnx" or not options.check:
        return writing
    if options.target is not None:
        return (*writing, options.target)
    either_there = any(map(_is_there, (ONNXRUNTIME, OPENVINO)))
    return writing if either_there else (*writing, ONNXRUNTIME)


def _is_there(name: str) -> bool:
    return find_spec(name) is not None


def _are(names: list[str]) -> str:
    return "is" if len(names) == 1 else "are"
