"""The command ``lpot-lightning``."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from typing import NoReturn

from lpot_lightning.commands.answer import (
    CommandAnswer,
    Interrupted,
    WrongArguments,
    json_text,
    plain_error,
)
from lpot_lightning.errors import LpotError, as_lines
from lpot_lightning.machine.kept_stdout import kept_stdout
from lpot_lightning.machine.signals import told_when_stopped
from lpot_lightning.version import VERSION

FAILED, WRONG = 1, 2
_JSON = "--json"
Write = Callable[[str], object]
_CHECK = "Check an LPOT YAML, and print what it comes to with every default filled in."
_SHOW = (
    "Print what a quantization has left in its workspace: the result, the trials, and the precision"
    " of each op. Nothing in it is changed; a run may still be going on."
)
_REPORT = (
    "Write the report of a workspace, one page for a browser, and print where it is. Runs write it"
    " themselves after each trial; this makes it of what is there, also after a run was killed."
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


class CommandParser(argparse.ArgumentParser):
    """Says what is wrong by raising it, so that programs can be told as well as people."""

    def error(self, message: str) -> NoReturn:
        """Raise it."""
        raise WrongArguments(message, f"{self.format_usage()}{self.prog}: error: {message}\n")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    given = sys.argv[1:] if arguments is None else arguments
    if not any(one.partition("=")[0] == _JSON for one in given):
        return _run(given, as_json=False, write=_write)
    with kept_stdout() as write:
        return _run(given, as_json=True, write=write)


def _run(given: Sequence[str], *, as_json: bool, write: Write) -> int:
    tell = write if as_json else None
    try:
        _check_json(given)
        asked = _parser().parse_args(given)
    except WrongArguments as error:
        sys.stderr.write(error.usage)
        _tell(error, None, tell)
        raise SystemExit(WRONG) from None
    with told_when_stopped(lambda: _tell_of_stop(asked, tell)):
        return _answered(asked, write, tell)


def _check_json(given: Sequence[str]) -> None:
    """Refuse a file behind `--json`, which would be taken for what is looked at or written."""
    for one, behind in zip(given, [*given, ""][1:], strict=True):
        name, equals, value = one.partition("=")
        file = value if equals else behind
        if name == _JSON and (equals or _is_for_json(file, given)):
            where = f"`--json > {file or 'out.json'}`"
            message = f"`--json` takes no file, it prints to stdout: {where}"
            raise WrongArguments(message, f"lpot-lightning: error: {message}\n")


def _is_for_json(behind: str, given: Sequence[str]) -> bool:
    """Whether what stands behind `--json` seems to be meant as the file to write."""
    if not behind.endswith(".json") or os.path.isdir(behind):
        return False
    looked_at = [one for one in given[1:] if not one.startswith("-")]
    return given[0] != "check" or looked_at != [behind]  # JSON is YAML, too


def _write(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()


def _tell(error: BaseException, where: str | None, tell: Write | None) -> None:
    """Tell a program of an error, if one has asked."""
    if tell is not None:
        tell(json_text(plain_error(error, where)))


def _tell_of_stop(asked: argparse.Namespace, tell: Write | None) -> None:
    left = ""
    if asked.command == "export":
        left = f": `{asked.path}` is as it was, or written as a whole; go on with the same command"
    sys.stderr.write(f"interrupted{left}\n")
    _tell(Interrupted(f"interrupted{left}"), _where(asked), tell)


def _answered(asked: argparse.Namespace, write: Write, tell: Write | None) -> int:
    try:
        answer = _COMMANDS[asked.command](asked)
        write(answer.as_text() if tell is None else answer.as_json(_where(asked)))
    except LpotError as error:
        sys.stderr.write(as_lines(error))
        _tell(error, _where(asked), tell)
        return FAILED
    except BrokenPipeError:  # `| head` has seen enough; Python would say so once more at its end
        if tell is None:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:  # of the user's code, or a fault of ours: both are to be seen
        _tell(error, _where(asked), tell)
        raise
    if answer.error is not None:
        sys.stderr.write(as_lines(answer.error))
        return FAILED
    return 0


def _where(asked: argparse.Namespace) -> str | None:
    """Return what the command was given to look at, if anything."""
    given = (getattr(asked, one) for one in _SUBJECTS if hasattr(asked, one))
    return next(map(str, given), None)


def _check(asked: argparse.Namespace) -> CommandAnswer:
    from lpot_lightning.commands.check import check

    return check(asked.conf)


def _show(asked: argparse.Namespace) -> CommandAnswer:
    from lpot_lightning.commands.show import show  # which needs torch, and `check` does not

    return show(asked.workspace)


def _report(asked: argparse.Namespace) -> CommandAnswer:
    from lpot_lightning.commands.report import report_of  # which needs torch

    return report_of(asked.workspace, asked.output)


def _export(asked: argparse.Namespace) -> CommandAnswer:
    from lpot_lightning.commands.export_command import export_for  # which needs Lightning, too

    return export_for(asked)


def _selftest(asked: argparse.Namespace) -> CommandAnswer:
    from lpot_lightning.commands.selftest import selftest

    return selftest(asked)


def _skill(asked: argparse.Namespace) -> CommandAnswer:
    from lpot_lightning.commands.skill import skill

    return CommandAnswer(
        lambda: skill(path=asked.path), lambda: {"path": skill(path=True), "page": skill()}
    )


_COMMANDS = {
    "check": _check,
    "show": _show,
    "report": _report,
    "export": _export,
    "selftest": _selftest,
    "skill": _skill,
}
_SUBJECTS = ("conf", "workspace", "folder")
"""Arguments of the commands that say what is looked at."""


def _parser() -> argparse.ArgumentParser:
    parser = CommandParser(
        prog="lpot-lightning",
        description="Look at the YAML files and at the workspaces of lpot_lightning, and export.",
        epilog=f"{_CODES} Models are quantized and timed by your own program: see `LPOTCLI`.",
    )
    parser.add_argument("--version", action="version", version=f"lpot-lightning {VERSION}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def added(name: str, text: str) -> argparse.ArgumentParser:
        own = commands.add_parser(
            name, help=text, description=text, epilog=_CODES, allow_abbrev=False
        )  # `--js` would be taken for `--json` by argparse alone
        own.add_argument(_JSON, action="store_true", help="print one JSON object, for programs")
        return own

    added("check", _CHECK).add_argument("conf", metavar="conf.yaml", help="the file")
    added("show", _SHOW).add_argument(
        "workspace",
        metavar="WORKSPACE",
        help="its folder, such as lpot_workspace/pytorch_fx/my_model",
    )
    _add_report(added("report", _REPORT))
    _add_export(added("export", _EXPORT))
    _add_selftest(added("selftest", _SELFTEST))
    added("skill", _SKILL).add_argument(
        "--path", action="store_true", help="print its folder, to be copied to your assistant's"
    )
    return parser


def _add_report(report: argparse.ArgumentParser) -> None:
    report.add_argument("workspace", metavar="WORKSPACE", help="its folder")
    report.add_argument(
        "--output",
        metavar="FILE",
        help="what to write, by default `report.html` in the workspace",
    )


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
    add(
        "--example",
        metavar="FILE",
        help="what it is called with, where the workspace does not have it: a tensor, a tuple of"
        " arguments or a dict of keyword arguments, as `torch.save` writes them",
    )
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
