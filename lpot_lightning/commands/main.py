"""The command ``lpot-lightning``."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from lpot_lightning.errors import LpotError, as_lines
from lpot_lightning.machine.signals import told_when_stopped
from lpot_lightning.version import VERSION

FAILED = 1
_CHECK = "Check an LPOT YAML, and print what it comes to with every default filled in."
_SHOW = (
    "Print what a quantization has left in its workspace: the result, the trials, and the precision"
    " of each op. Nothing in it is changed; a run may still be going on."
)
_EXPORT = (
    "Write the int8 model of a workspace to a file that other runtimes run, and check the file."
)
_SELFTEST = (
    "Kill tiny tuning runs, let their disk fail and damage their files, in a folder of yours, and"
    " print what was lost: nothing, where the file system keeps what it is given. Nothing is left"
    " there."
)
_SKILL = "Print the page that tells a coding assistant how to quantize a LightningModule."
_CODES = (
    "Exit codes: 0 all is well, 1 an error, said on stderr, one line for each fault, 2 wrong"
    " arguments, 130, 143 and 129 ended by Ctrl-C, SIGTERM or SIGHUP."
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    asked = _parser().parse_args(arguments)
    with told_when_stopped(lambda: _tell_of_stop(asked)):
        return _answered(asked)


def _tell_of_stop(asked: argparse.Namespace) -> None:
    left = ""
    if asked.command == "export":
        left = f": `{asked.path}` is as it was, or written as a whole; go on with the same command"
    sys.stderr.write(f"interrupted{left}\n")


def _answered(asked: argparse.Namespace) -> int:
    try:
        text = _COMMANDS[asked.command](asked)
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


def _export(asked: argparse.Namespace) -> str:
    from lpot_lightning.commands.export_command import export_for  # which needs Lightning, too

    return export_for(asked)


def _selftest(asked: argparse.Namespace) -> str:
    from lpot_lightning.commands.selftest import selftest

    return selftest(asked)


def _skill(asked: argparse.Namespace) -> str:
    from lpot_lightning.commands.skill import skill

    return skill(path=asked.path)


_COMMANDS = {
    "check": _check,
    "show": _show,
    "export": _export,
    "selftest": _selftest,
    "skill": _skill,
}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="lpot-lightning",
        description="Look at the YAML files and at the workspaces of lpot_lightning, and export.",
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
    _add_export(commands.add_parser("export", help=_EXPORT, description=_EXPORT, epilog=_CODES))
    _add_selftest(
        commands.add_parser("selftest", help=_SELFTEST, description=_SELFTEST, epilog=_CODES)
    )
    skill = commands.add_parser("skill", help=_SKILL, description=_SKILL, epilog=_CODES)
    skill.add_argument(
        "--path", action="store_true", help="print its folder, to be copied to your assistant's"
    )
    return parser


def _add_selftest(selftest: argparse.ArgumentParser) -> None:
    add = selftest.add_argument
    add(
        "--kills",
        type=int,
        default=20,
        metavar="N",
        help="how many kills, and how many faults of the disk, to try; by default 20",
    )
    add("--seed", type=int, default=0, metavar="S", help="of the random moments")
    add(
        "--folder",
        default=".",
        metavar="FOLDER",
        help="on the file system to try, by default the current one",
    )


def _add_export(export: argparse.ArgumentParser) -> None:
    add = export.add_argument
    add("workspace", metavar="WORKSPACE", help="its folder")
    add(
        "path",
        metavar="FILE",
        help="what to write; its ending says the form: .onnx, .xml (OpenVINO), .pt2 (torch.export),"
        " .aoti.pt2 (AOTInductor), .ts (TorchScript)",
    )
    add(
        "--class",
        dest="kind",
        required=True,
        metavar="PACKAGE.MODULE:CLASS",
        help="of the model that was quantized; the code of its module is run",
    )
    add("--init-args", metavar="YAML", help="what the class is made with: '{channels: 24}'")
    add(
        "--checkpoint",
        metavar="CKPT",
        help="of a LightningModule, whose hyperparameters are taken; by default that of the"
        " workspace",
    )
    add("--target", metavar="RUNTIME", help="onnxruntime or openvino, for ONNX")
    add("--method", help="of the model, or a module of it, by its path; by default what was called")
    add("--opset", type=int, metavar="N", help="of ONNX, 18 to 25")
    add("--input-names", nargs="+", metavar="NAME", help="of the file")
    add("--output-names", nargs="+", metavar="NAME", help="of the file")
    sizes = export.add_mutually_exclusive_group()
    sizes.add_argument("--static", action="store_true", help="no size may be another one")
    sizes.add_argument(
        "--dynamic",
        metavar="YAML",
        help="sizes that may be any: '{tokens: {0: batch, 1: length}}'; by default the first"
        " dimension of all inputs",
    )
    add("--no-check", action="store_true", help="do not run the file, and compare nothing")
