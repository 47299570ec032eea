"""What an export is asked for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lpot_lightning.errors import ConfError, did_you_mean, quoted

FORMS = {
    ".onnx": "onnx",
    ".xml": "openvino",
    ".pt2": "pt2",
    ".aoti.pt2": "aoti",
    ".ts": "torchscript",
}
"""What the ending of a path says."""
ONNXRUNTIME, OPENVINO = "onnxruntime", "openvino"
TARGETS = ONNXRUNTIME, OPENVINO
Dynamic = Mapping[str, Mapping[int, str]] | bool


def form_of(path: Path) -> str:
    """Return the form that the ending of ``path`` says.

    Raises:
        ConfError: for another ending.
    """
    ending = next((one for one in sorted(FORMS, key=len)[::-1] if path.name.endswith(one)), None)
    if ending is None:
        near = did_you_mean(path.suffix, FORMS)
        raise ConfError(f"`{path}` ends in no form of a model; allowed: {quoted(FORMS)}.{near}")
    return FORMS[ending]


@dataclass(frozen=True, kw_only=True)
class ExportOptions:
    """How a model is exported, checked; each has a default that suits most models.

    Args:
        method: what is exported, by its path from the model: a method (``"encode"``,
            ``"net.forward"``) or a module, whose ``forward`` is meant (``"net"``); ``""`` is the
            ``forward`` of the model. ``None``: what the validation step calls.
        example: what it is called with: a tensor, a tuple of arguments, or a mapping of keyword
            arguments. ``None``: what it was called with when the model was quantized.
        dynamic: which sizes may be any: ``True``, the first dimension of all inputs, called
            ``batch``; ``False``, none; or by the name of an input its dimensions and their names,
            ``{"tokens": {0: "batch", 1: "length"}}``.
        input_names: of the file, one for each tensor; ``None``: those of the method's arguments.
        output_names: of the file, one for each tensor; ``None``: keys of a mapping that it gives,
            else ``output``, ``output_1``, ….
        opset: of ONNX; ``None``: that of torch's exporter.
        target: of ONNX, which runtime the pairs are placed for; ``None``: the one that is
            installed, ONNX Runtime if both are.
        check: whether the file is run and compared right after writing.
        judge: whether the user's own metric is taken of the file, over the whole validation data.

    Raises:
        ConfError: if a value is none that is allowed.
    """

    method: str | None = None
    example: Any = None
    dynamic: Dynamic = True
    input_names: Sequence[str] | None = None
    output_names: Sequence[str] | None = None
    opset: int | None = None
    target: str | None = None
    check: bool = True
    judge: bool = False

    def __post_init__(self) -> None:
        if self.target is not None and self.target not in TARGETS:
            near = did_you_mean(str(self.target), TARGETS)
            raise ConfError(f"`target` is `{self.target}`; allowed: {quoted(TARGETS)}.{near}")
        if self.opset is not None and (type(self.opset) is not int or not 18 <= self.opset <= 25):
            raise ConfError(f"`opset` is `{self.opset}`; allowed: whole numbers from 18 to 25")
        for name in ("input_names", "output_names"):
            _check_names(name, getattr(self, name))
        if not isinstance(self.dynamic, bool):
            _check_dynamic(self.dynamic)


def _check_names(what: str, names: Any) -> None:
    if names is None:
        return
    texts = not isinstance(names, str) and all(isinstance(one, str) and one for one in names)
    if not texts or len(set(names)) < len(names):
        raise ConfError(f"`{what}` is `{names}`; allowed: a list of texts, each another one")


def _check_dynamic(dynamic: Any) -> None:
    fits = isinstance(dynamic, Mapping) and all(
        isinstance(name, str)
        and isinstance(dims, Mapping)
        and all(type(dim) is int and str(called).isidentifier() for dim, called in dims.items())
        for name, dims in dynamic.items()
    )
    if not fits:
        raise ConfError(
            f"`dynamic` is `{dynamic}`; allowed: `True` (the first dimension, as `batch`), `False`,"
            ' or dimensions by the name of an input: `{"tokens": {0: "batch", 1: "length"}}`, each'
            " name of letters, digits and `_`"
        )
