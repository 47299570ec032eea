"""What an LPOT YAML comes to, and for whom it is."""

from __future__ import annotations

import sys
import warnings
from typing import Any

import yaml

from lpot_lightning.commands.for_whom import ReaderVerdict, verdicts
from lpot_lightning.conf.reader import read_conf
from lpot_lightning.conf.schema import Conf
from lpot_lightning.errors import ConfError


def check(path: str) -> str:
    """Return the configuration in ``path`` as YAML, with every default, and for whom it is.

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
    for said in [*(str(one.message) for one in caught), *(s for one in good for s in one.remarks)]:
        sys.stderr.write(f"warning: {said}\n")
    lines = [f"valid; for {', '.join(one.reader for one in good)}"]
    lines += [line for one in found for line in _why(one, conf)]
    text = yaml.safe_dump(_filled(conf.to_dict()), sort_keys=False, allow_unicode=True)
    return "".join(f"# {line}\n" for line in lines) + text


def _why(one: ReaderVerdict, conf: Conf) -> list[str]:
    """Return why a reader cannot be given the conf."""
    return [f"not for {one.reader}: {why.removeprefix(f'{conf.source}: ')}" for why in one.reasons]


def _filled(plain: Any) -> Any:
    """Leave out sections that hold nothing."""
    if not isinstance(plain, dict):
        return plain
    inner = {key: _filled(value) for key, value in plain.items()}
    return {key: value for key, value in inner.items() if value != {}}
