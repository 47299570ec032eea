"""YAML that pages show: confs, pieces of them, and configs of a LightningCLI."""

from __future__ import annotations

import textwrap
from pathlib import Path

from lightning.pytorch.cli import LightningCLI
from shown_code import Block
from users_digits import DigitsData, LitDigits

from lpot_lightning import LPOTCLI
from lpot_lightning.conf.reader import read_conf
from lpot_lightning.conf.schema import Conf

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


def read(block: Block) -> Conf | LightningCLI:
    """Read a block by what would read it."""
    path = Path(block.name or "shown.yaml")
    keys = [line.partition(":")[0] for line in block.code.splitlines() if line[:1].isalpha()]
    path.write_text(_whole(block.code, keys))
    if not {"trainer", "data", "seed_everything", "conf"} & set(keys):
        return read_conf(path)
    command = "quantize" if "conf" in keys else "fit"
    how = {"save_config_callback": None, "seed_everything_default": False}
    return ReadOnly(LitDigits, DigitsData, args=[command, "--config", str(path)], **how)


def _whole(code: str, keys: list[str]) -> str:
    for begin, above in PIECES.items():
        if code.lstrip().startswith(begin):
            indent = " " * (len(above.splitlines()[-1]) - len(above.splitlines()[-1].lstrip()) + 2)
            return MODEL + above + textwrap.indent(code, indent)
    of_conf = {"trainer", "data", "conf", "model"}.isdisjoint(keys)
    return MODEL * of_conf + code
