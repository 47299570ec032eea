"""Step one: text or mapping in, bounded plain values out."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from lpot_lightning.conf.loader import Keys, YamlLimits, YamlLoader, printable, spell
from lpot_lightning.errors import ConfError, did_you_mean
from lpot_lightning.machine.checksums import ChecksumError, check_mark
from lpot_lightning.machine.reading import regular_bytes, without_tilde

MAX_BYTES = 1 << 20


@dataclass(frozen=True)
class Document:
    """What the user wrote: plain values, and the line of every key (none for a mapping)."""

    value: Any
    source: str = "<mapping>"
    lines: Mapping[Keys, int] | None = None

    def where(self, keys: Keys) -> str:
        """Return ``"ptq.yaml:12: "`` for a key of a file, ``""`` for a key of a mapping."""
        if self.lines is None:
            return ""
        while keys and keys not in self.lines:
            keys = keys[:-1]
        return f"{self.source}:{self.lines.get(keys, 1)}: "


def read_document(conf: object) -> Document:
    """Read a path, a mapping or an OmegaConf object; nothing is evaluated in the first two.

    Raises:
        ConfError: If there is no such file, or it is no YAML, or larger than a configuration is, or
            it is a ``deploy.yaml`` of ours that is not as it was written.
    """
    if isinstance(conf, DictConfig):
        return Document(_plain(_resolved(conf), (), YamlLimits("the OmegaConf object")))
    if isinstance(conf, Mapping):
        return Document(_plain(conf, (), YamlLimits("the mapping")))
    if isinstance(conf, (str, os.PathLike)):
        return _read_file(os.fspath(conf))
    raise ConfError(
        f"conf is a `{type(conf).__name__}`; allowed: a path, a mapping or an OmegaConf DictConfig."
    )


def _read_file(name: str | bytes) -> Document:
    source = os.fsdecode(name)
    content = _bytes(source)
    _check_whole(content, source)
    text = _decoded(content, source)
    try:
        value, lines = YamlLoader(text, source).load()
    except yaml.YAMLError as error:
        raise ConfError(_not_yaml(source, error)) from error
    if value is None:
        raise ConfError(f"{source} is empty; it needs `model` with `name` and `framework`.")
    return Document(value, source, lines)


def _check_whole(content: bytes, source: str) -> None:
    try:
        check_mark(content)
    except ChecksumError as error:
        raise ConfError(
            f"{source}:1: it is not as lpot_lightning wrote it: {error}; remove its first line if"
            " you edited it, else restore it from a copy."
        ) from error


def _bytes(source: str) -> bytes:
    try:
        return regular_bytes(_existing(source), MAX_BYTES)
    except OSError as error:
        if error.errno == errno.EFBIG:
            raise ConfError(
                f"{source} is larger than 1 MiB; allowed: a YAML configuration."
            ) from error
        raise ConfError(f"{printable(source)} cannot be read: {error.strerror}.") from error


def _existing(source: str) -> Path:
    try:
        path = without_tilde(source)
        is_there, is_folder = path.exists(), path.is_dir()
    except (OSError, ValueError):
        is_there = is_folder = False
    if is_there and not is_folder:
        return path
    if is_folder and source:
        raise ConfError(f"{printable(source)} is a folder; allowed: a YAML file.")
    raise ConfError(_no_such_file(source))


def _no_such_file(source: str) -> str:
    if "\n" in source or ": " in source:
        return (
            "conf is a text that looks like YAML, and no such file exists; "
            "give the name of a file, or a mapping such as `yaml.safe_load(text)`."
        )
    return f"no such file: `{printable(source)}`{_looked_in(source)}"


def _looked_in(source: str) -> str:
    """Return ``, looked for in `/home/me`. Did you mean `ptq.yaml`?``, of what is known of it."""
    try:
        path = without_tilde(source)
        folder = path.parent.absolute()
        near = did_you_mean(path.name, sorted(os.listdir(folder))) if path.name else ""
    except (OSError, ValueError):  # there is no such folder, or no name of a file is that long
        return "."
    return f", looked for in `{folder}`.{near}" if str(folder).isprintable() else f".{near}"


def _decoded(content: bytes, source: str) -> str:
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ConfError(f"{source} is not UTF-8 text (byte {error.start}).") from error


def _not_yaml(source: str, error: yaml.YAMLError) -> str:
    mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    where = f"{source}:{mark.line + 1}" if mark else source
    parts = (getattr(error, name, None) for name in ("context", "problem", "reason"))
    said = ", ".join(part for part in parts if part)
    remedy = " Indent with blanks: YAML takes no tabs there." if r"'\t'" in said else ""
    return f"{where}: not valid YAML: {said}.{remedy}"


def _resolved(conf: DictConfig) -> Any:
    try:
        return OmegaConf.to_container(conf, resolve=True, throw_on_missing=True)
    except OmegaConfBaseException as error:
        raise ConfError(f"the OmegaConf object cannot be resolved: {error}") from error


def _plain(value: Any, keys: Keys, budget: YamlLimits) -> Any:
    with budget.level():
        return _plain_value(value, keys, budget)


def _plain_value(value: Any, keys: Keys, budget: YamlLimits) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(item, (*keys, key), budget) for key, item in _entries(value, keys)}
    if isinstance(value, (list, tuple)):
        return [_plain(item, (*keys, index), budget) for index, item in enumerate(value)]
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise ConfError(f"`{spell(keys)}` is a `{type(value).__name__}`; allowed: plain YAML values.")


def _entries(mapping: Mapping[Any, Any], keys: Keys) -> Iterator[tuple[str, Any]]:
    seen = set()
    for key, value in mapping.items():
        if isinstance(key, bool) or not isinstance(key, (str, int)):
            raise ConfError(f"`{spell(keys)}` has a key that is a `{type(key).__name__}`.")
        if str(key) in seen:
            raise ConfError(f"`{spell((*keys, str(key)))}` is given twice.")
        seen.add(str(key))
        yield str(key), value
