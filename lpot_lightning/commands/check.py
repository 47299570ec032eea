"""What an LPOT YAML comes to."""

from __future__ import annotations

import sys
import warnings
from typing import Any

import yaml

from lpot_lightning.conf.ownership import CALLBACKS
from lpot_lightning.conf.reader import read_conf
from lpot_lightning.conf.schema import Conf


def check(path: str) -> str:
    """Return the configuration in ``path`` as YAML, with every default; warnings go to stderr.

    Raises:
        ConfError: if something in it cannot be done.
    """
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        conf = read_conf(path)
    for one in caught:
        sys.stderr.write(f"warning: {one.message}\n")
    text = yaml.safe_dump(_filled(conf.to_dict()), sort_keys=False, allow_unicode=True)
    return f"# valid; for {_readers(conf)}\n{text}"


def _readers(conf: Conf) -> str:
    """Return who can be given this conf."""
    quantizer = CALLBACKS[conf.quantization.approach]
    names = [f"{quantizer}, Quantization"] if conf.quantizes else []
    names += [CALLBACKS["pruning"]] if conf.pruning is not None else []
    return ", ".join([*names, "Benchmark"])


def _filled(plain: Any) -> Any:
    """Leave out sections that hold nothing."""
    if not isinstance(plain, dict):
        return plain
    inner = {key: _filled(value) for key, value in plain.items()}
    return {key: value for key, value in inner.items() if value != {}}
