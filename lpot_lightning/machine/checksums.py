"""Hashes that a text of ours holds over the rest of itself."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from typing import Any

FIELD = "sha256"
_MARK = re.compile(rb"# written by lpot_lightning, sha256 ([^;\n]*);[^\n]*\n")
_TRACE = re.compile(
    rb"\A# written by lpot|, sha256 [0-9a-f]{16}|[0-9a-f]{16}; remove"
    rb"|; remove this line if you edit"
)
_LONGEST = 200
"""Bytes in which a part of our line is looked for, such as no comment of a user has by chance."""
_BOM = b"\xef\xbb\xbf"


class ChecksumError(ValueError):
    """A text is not what was written; the message says by which hash."""


def with_checksum(plain: Mapping[str, Any]) -> dict[str, Any]:
    """Return plain values with a hash over all of them, as JSON has them.

    Example::

        with_checksum({"accuracy": 0.9})  # {"accuracy": 0.9, "sha256": "a71e…"}
    """
    return {**plain, FIELD: _hash(_canonical(plain))}


def without_checksum(found: Mapping[str, Any]) -> dict[str, Any]:
    """Return what ``with_checksum`` was given; of earlier versions, which have no hash, all.

    Raises:
        ChecksumError: if it is not what was written.
    """
    rest = {name: value for name, value in found.items() if name != FIELD}
    if FIELD in found:
        _check(_canonical(rest), found[FIELD])
    return rest


def marked(content: bytes) -> bytes:
    """Return a YAML with a first line that has its hash.

    Example::

        marked(b"device: cpu\\n")  # b"# written by lpot_lightning, sha256 0c…\\ndevice: cpu\\n"
    """
    line = (
        f"# written by lpot_lightning, sha256 {_hash(content)};"
        " remove this line if you edit the file\n"
    )
    return line.encode() + content


def unmarked(content: bytes) -> bytes:
    """Return a YAML without the line that ``marked`` adds, whether its hash is right or not."""
    line = _MARK.match(content)
    return content if line is None else content[line.end() :]


def check_mark(content: bytes) -> None:
    """Hold a YAML against the hash in its first line, where it has one.

    Ends of lines do not count: other systems, and git, change them.

    Raises:
        ChecksumError: if it is not what was written, that line included.
    """
    plain = content.removeprefix(_BOM).replace(b"\r\n", b"\n")
    line = _MARK.match(plain)
    if line is not None:
        _check(plain[line.end() :], line[1].decode(errors="replace"))
    elif _TRACE.search(plain[:_LONGEST]):
        raise ChecksumError("the line that says its SHA-256 is damaged")


def _canonical(plain: Mapping[str, Any]) -> bytes:
    return json.dumps(plain, sort_keys=True, separators=(",", ":")).encode()


def _hash(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _check(content: bytes, said: object) -> None:
    found = _hash(content)
    if found != said:
        raise ChecksumError(f"its SHA-256 is {found[:16]}…, it says `{str(said)[:16]}`")
