"""The command ``lpot-lightning``."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from lpot_lightning.errors import LpotError, as_lines
from lpot_lightning.version import VERSION

FAILED = 1
_CHECK = "Check an LPOT YAML, and print what it comes to with every default filled in."
_SHOW = (
    "Print what a quantization has left in its workspace: the result, the trials, and the precision"
    " of each op. Nothing in it is changed; a run may still be going on."
)
_CODES = (
    "Exit codes: 0 all is well, 1 an error, said on stderr, one line for each fault, 2 wrong"
    " arguments."
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    asked = _parser().parse_args(arguments)
    try:
        text = _check(asked) if asked.command == "check" else _show(asked)
        sys.stdout.write(f"{text.rstrip()}\n")
        sys.stdout.flush()
    except LpotError as error:
        sys.stderr.write(as_lines(error))
        return FAILED
    except BrokenPipeError:  # `| head` has seen enough; Python would say so once more at its end
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


def _check(asked: argparse.Namespace) -> str:
    from lpot_lightning.commands.check import check

    return check(asked.conf)


def _show(asked: argparse.Namespace) -> str:
    from lpot_lightning.commands.show import look, page  # which need torch, and `check` does not

    found = look(asked.workspace)
    return found.to_json() if asked.json else page(found)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="lpot-lightning",
        description="Look at the YAML files and at the workspaces of lpot_lightning.",
        epilog=f"{_CODES} Models are quantized and timed by your own program: see `LPOTCLI`.",
    )
    parser.add_argument("--version", action="version", version=f"lpot-lightning {VERSION}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    check = commands.add_parser("check", help=_CHECK, description=_CHECK, epilog=_CODES)
    check.add_argument("conf", metavar="conf.yaml", help="the file")
    show = commands.add_parser("show", help=_SHOW, description=_SHOW, epilog=_CODES)
    show.add_argument(
        "workspace",
        metavar="WORKSPACE",
        help="its folder, such as lpot_workspace/pytorch_fx/my_model",
    )
    show.add_argument("--json", action="store_true", help="print it as JSON, for programs")
    return parser
