"""What an export is asked for, as people write it; no torch is needed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from lpot_lightning.deploy.options import FORMS, ExportOptions
from lpot_lightning.errors import ConfError, did_you_mean, quoted

_NAMES = {form: ending for ending, form in FORMS.items()}


def options_of(given: Mapping[str, Any]) -> ExportOptions:
    """Return the options that are given by name.

    Raises:
        ConfError: if there is no such one, or no such value of it.

    Example::

        options_of({"target": "openvino"})
    """
    known = [one.name for one in fields(ExportOptions)]
    for name in given:
        if name not in known:
            near = did_you_mean(name, known)
            raise ConfError(f"`{name}` is no option of an export; allowed: {quoted(known)}.{near}")
    return ExportOptions(**given)


def file_names(formats: object) -> tuple[str, ...]:
    """Return the names of the files that ``formats`` mean: forms, endings, or names of files.

    Raises:
        ConfError: if there is none, one that is no form of a model, or one twice.

    Example::

        file_names(["onnx", ".pt2", "net.xml"])  # ("model.onnx", "model.pt2", "net.xml")
    """
    if not isinstance(formats, list | tuple) or not formats:
        raise ConfError(
            f"`formats` is `{formats}`; allowed: a list of {quoted(_NAMES)}, or of names of files"
            f" that end in {quoted(FORMS)}"
        )
    names = tuple(map(_file_name, formats))
    if twice := next((one for one in names if names.count(one) > 1), None):
        raise ConfError(f"`formats` asks for `{twice}` twice: give each file a name of its own")
    return names


def _file_name(asked: object) -> str:
    if not isinstance(asked, str):
        raise ConfError(f"`formats` has `{asked}`; allowed: texts, such as {quoted(_NAMES)}")
    if asked in _NAMES:
        return f"model{_NAMES[asked]}"
    ending = f".{asked.removeprefix('.')}"
    if ending in FORMS:
        return f"model{ending}"
    if not any(asked.endswith(one) for one in FORMS):
        near = did_you_mean(asked, (*_NAMES, *FORMS))
        raise ConfError(
            f"`formats` has `{asked}`; allowed: {quoted(_NAMES)}, or names of files that end in"
            f" {quoted(FORMS)}.{near}"
        )
    return asked
