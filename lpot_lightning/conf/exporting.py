"""The `export` section."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from lpot_lightning.conf.blocks import FrozenOptions
from lpot_lightning.conf.cursor import Field, read_into, suggest
from lpot_lightning.conf.plain import keys_of
from lpot_lightning.conf.schema import ExportConf
from lpot_lightning.errors import quoted

FORMS = ("onnx", "openvino", "pt2", "aoti", "torchscript")
ENDINGS = (".onnx", ".xml", ".pt2", ".aoti.pt2", ".ts")
_ALLOWED = f"{quoted(FORMS)}, or names of files that end in {quoted(ENDINGS)}"
_DYNAMIC = (
    "`true` (the first dimension, as `batch`), `false`, or dimensions by the name of an input:"
    " `{tokens: {0: batch, 1: length}}`"
)
_DIMENSION = re.compile(r"\d{1,2}", re.ASCII)


def read_export(field: Field) -> ExportConf | None:
    """Read ``export``; of it only ``formats`` has no default."""
    if not field.given:
        return None
    names = {"input_names": _names, "output_names": _names}
    return read_into(ExportConf, field, formats=_formats, dynamic=_dynamic, **names)


def _formats(field: Field) -> tuple[str, ...]:
    formats = field.words(())
    for name in formats:
        if not _is_form(name):
            hint = suggest(name, (*FORMS, *ENDINGS))
            raise field.error(f"has `{name}`; allowed: {_ALLOWED}.{hint}")
    return _each_another(field, formats)


def _is_form(name: str) -> bool:
    return name in FORMS or f".{name}" in ENDINGS or name.endswith(ENDINGS)


def _names(field: Field) -> tuple[str, ...]:
    return _each_another(field, field.words(()))


def _each_another(field: Field, names: tuple[str, ...]) -> tuple[str, ...]:
    if len(set(names)) < len(names):
        raise field.error("has a name twice; allowed: each another one.")
    return names


def _dynamic(field: Field) -> bool | FrozenOptions:
    if isinstance(field.value, bool):
        return field.value
    if not isinstance(field.value, dict) or not field.value:
        raise field.wrong(_DYNAMIC)
    return FrozenOptions(tuple((name, _dims(one)) for name, one in field.entries().items()))


def _dims(field: Field) -> FrozenOptions:
    if not isinstance(field.value, dict) or not field.value:
        raise field.wrong("numbers of dimensions, each with a name: `{0: batch}`")
    for number, one in field.entries().items():
        if not _DIMENSION.fullmatch(number):
            raise one.error("is no number of a dimension; allowed: whole numbers from 0 on.")
        one.required().text("")
    return FrozenOptions(tuple(field.value.items()))


def arguments_of(conf: ExportConf) -> dict[str, Any]:
    """Return a section as the arguments of an ``ExportCallback``; what is not given is left out.

    Example::

        ExportCallback(**arguments_of(conf.export))
    """
    found = {name: getattr(conf, name) for name in keys_of(conf)}
    given = {name: value for name, value in found.items() if value not in (None, ())}
    if isinstance(conf.dynamic, Mapping):
        given["dynamic"] = {
            name: {int(number): called for number, called in dims.items()}
            for name, dims in conf.dynamic.items()
        }
    return given
