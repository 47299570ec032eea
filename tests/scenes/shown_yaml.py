"""YAML that pages show: confs, pieces of them, and configs of a LightningCLI."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from shown_code import Block
from users_digits import DigitsData, LitDigits

import lpot_lightning
from lpot_lightning import LPOTCLI
from lpot_lightning.conf.reader import read_conf

MODEL = "model: {name: digits, framework: pytorch_fx}\n"
PIECES = {
    "weight_compression": "pruning:\n  approach:\n",
    "- ": "pruning:\n  approach:\n    weight_compression:\n      target_sparsity: 0.5\n"
    "      end_epoch: 2\n      pruners:\n",
}
"""What a piece of a conf stands below, by what it begins with."""


class ReadOnly(LPOTCLI):
    """Makes everything that a config names, and runs nothing."""

    def _run_subcommand(self, subcommand: str) -> None:
        return


def read(block: Block, kinds: tuple[Any, Any] = (LitDigits, DigitsData)) -> Any:
    """Read a block by what would read it: a conf, a LightningCLI of these classes, Hydra."""
    path = Path(block.name or "shown.yaml")
    if "_target_" in block.code:
        return [_made(one) for one in _targets(yaml.safe_load(block.code))]
    keys = [line.partition(":")[0] for line in block.code.splitlines() if line[:1].isalpha()]
    path.write_text(_whole(block.code, keys))
    if not {"trainer", "data", "seed_everything", "conf"} & set(keys):
        return read_conf(path)
    command = "quantize" if "conf" in keys else "fit"
    how = {"save_config_callback": None, "seed_everything_default": False}
    return ReadOnly(*kinds, args=[command, "--config", str(path)], **how)


def _targets(found: Any) -> Iterator[dict[str, Any]]:
    """Return what Hydra would make of ours, whatever it is in."""
    if isinstance(found, dict) and str(found.get("_target_")).startswith("lpot_lightning."):
        yield found
        return
    inner = found.values() if isinstance(found, dict) else found if isinstance(found, list) else ()
    for one in inner:
        yield from _targets(one)


def _made(found: dict[str, Any]) -> Any:
    kind = getattr(lpot_lightning, found.pop("_target_").removeprefix("lpot_lightning."))
    return kind(**found)


def _whole(code: str, keys: list[str]) -> str:
    for begin, above in PIECES.items():
        if code.lstrip().startswith(begin):
            indent = " " * (len(above.splitlines()[-1]) - len(above.splitlines()[-1].lstrip()) + 2)
            return MODEL + above + textwrap.indent(code, indent)
    of_conf = {"trainer", "data", "conf", "model"}.isdisjoint(keys)
    return MODEL * of_conf + code
