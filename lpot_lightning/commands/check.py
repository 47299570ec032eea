"""What an LPOT YAML comes to, and for whom it is."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Sequence
from typing import Any

import yaml

from lpot_lightning.commands.answer import CommandAnswer
from lpot_lightning.commands.for_whom import ReaderVerdict, verdicts
from lpot_lightning.conf.reader import read_conf
from lpot_lightning.conf.schema import Conf
from lpot_lightning.errors import ConfError
from lpot_lightning.machine.columns import hanging


def check(path: str) -> CommandAnswer:
    """Return what the configuration in ``path`` comes to, with every default, and for whom it is.

    What has no effect is a warning on stderr.

    Raises:
        ConfError: if something in it cannot be done, or nobody can be given it.
    """
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        conf = read_conf(path)
    found = verdicts(conf)
    good = [one for one in found if not one.reasons]
    if not good:
        raise ConfError(*(f"{conf.source}: {line}" for one in found for line in _why(one, conf)))
    idle = [*(str(one.message) for one in caught), *(said for one in good for said in one.remarks)]
    for said in idle:
        sys.stderr.write(f"warning: {said}\n")
    return CommandAnswer(lambda: _as_yaml(conf, found), lambda: _plain(conf, found, idle))


def _as_yaml(conf: Conf, found: Sequence[ReaderVerdict]) -> str:
    """Return the file with every default; who can be given it, and who not, stands before."""
    good = [one.reader for one in found if not one.reasons]
    lines = [f"valid; for {', '.join(good)}"]
    lines += [line for one in found for line in _why(one, conf)]
    comments = "".join(f"{hanging(line, '# ', '#   ')}\n" for line in lines)
    text = yaml.safe_dump(_filled(conf.to_dict()), sort_keys=False, allow_unicode=True)
    return f"{comments}{text}"


def _plain(conf: Conf, found: Sequence[ReaderVerdict], idle: Sequence[str]) -> dict[str, Any]:
    readers = [
        {"reader": one.reader, "accepts": not one.reasons, "reasons": [*one.reasons]}
        for one in found
    ]
    return {"readers": readers, "warnings": [*idle], "conf": _filled(conf.to_dict())}


def _why(one: ReaderVerdict, conf: Conf) -> list[str]:
    """Return why a reader cannot be given the conf."""
    return [f"not for {one.reader}: {why.removeprefix(f'{conf.source}: ')}" for why in one.reasons]


def _filled(plain: Any) -> Any:
    """Leave out sections that hold nothing."""
    if not isinstance(plain, dict):
        return plain
    inner = {key: _filled(value) for key, value in plain.items()}
    return {key: value for key, value in inner.items() if value != {}}
