"""What exports of a workspace came to, kept beside its model."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from lpot_lightning.artifacts.earlier import EXPORT_RECORDS
from lpot_lightning.deploy.exported import Checked, Exported
from lpot_lightning.errors import ArtifactError, in_short
from lpot_lightning.machine.checksums import ChecksumError, with_checksum, without_checksum
from lpot_lightning.machine.files import read_file, write_file
from lpot_lightning.machine.typed import check_typed, look_up_hints
from lpot_lightning.timing.ratio import Ratio

look_up_hints(Exported)


def keep_exports(folder: Path, exported: Iterable[Exported]) -> None:
    """Keep what exports of the model in ``folder`` came to; the later one of a file counts.

    Args:
        folder: the workspace.
        exported: of its model.

    Raises:
        ArtifactError: if what is there is damaged, or cannot be written.
    """
    known = {str(one.path): one for one in (*read_exports(folder), *_placed(folder, exported))}
    plain = {"exports": [_plain(one) for one in known.values()]}
    write_file(folder / EXPORT_RECORDS, json.dumps(with_checksum(plain), indent=1).encode())


def _placed(folder: Path, exported: Iterable[Exported]) -> Iterable[Exported]:
    """Return them with paths as seen from the workspace, where they lie in it: it may be moved."""
    for one in exported:
        path, root = one.path.absolute(), folder.absolute()
        near = path.relative_to(root) if path.is_relative_to(root) else path
        yield Exported(**{**vars(one), "path": near})


def read_exports(folder: Path) -> tuple[Exported, ...]:
    """Return what ``keep_exports`` has kept in a workspace; nothing where it has not.

    Raises:
        ArtifactError: if the file cannot be read, or is not one of ours.
    """
    path = folder / EXPORT_RECORDS
    if not os.path.lexists(path):
        return ()
    content = read_file(path)
    try:
        plain = without_checksum(json.loads(content))
        return tuple(map(_exported, plain["exports"]))
    except ChecksumError as error:
        raise ArtifactError(
            f"`{path}` is damaged, or was edited: {error}; remove it, the exports themselves are"
            " not concerned"
        ) from error
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        reason = in_short(error)
        raise ArtifactError(
            f"`{path}` is not what lpot_lightning writes ({reason}); remove it"
        ) from error


def _plain(one: Exported) -> dict[str, Any]:
    return {**asdict(one), "path": str(one.path)}


def _exported(plain: Mapping[str, Any]) -> Exported:
    """Build from what ``_plain`` gave.

    Raises:
        TypeError: if it is anything else.
    """
    check_typed(dict(plain)["path"], str, "path")
    checked = plain["checked"]
    found = Exported(
        **{
            **plain,
            "path": Path(plain["path"]),
            "inputs": {name: tuple(shape) for name, shape in plain["inputs"].items()},
            "outputs": _texts(plain["outputs"]),
            "notes": _texts(plain["notes"]),
            "checked": None if checked is None else _checked(checked),
        }
    )
    check_typed(found, Exported, "exports")
    return found


def _checked(plain: Mapping[str, Any]) -> Checked:
    speed = plain["speedup"]
    return Checked(**{**plain, "speedup": None if speed is None else _ratio(speed)})


def _ratio(plain: Mapping[str, Any]) -> Ratio:
    spread = plain["spread"]
    return Ratio(plain["middle"], None if spread is None else (spread[0], spread[1]))


def _texts(plain: object) -> tuple[str, ...]:
    check_typed(plain, list[str], "a list of texts")
    assert isinstance(plain, list)
    return tuple(plain)
