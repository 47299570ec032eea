"""`lpot-lightning export`: the model of a workspace as a file."""

from __future__ import annotations

import signal
import sys
from pathlib import Path

import pytest
import torch
from export_scenes import made_up
from lit_scenes import fitted

from lpot_lightning.commands.main import main

PROGRAM = """
import torch
from lit_scenes import Lit
from torch import nn


class Own(Lit):
    def __init__(self, lr, width=16):
        super().__init__(lr)
        self.width = width


class Plain(nn.Module):
    def __init__(self, width):
        super().__init__()


number = 3
"""


@pytest.fixture
def exports(monkeypatch):
    return made_up(monkeypatch)


@pytest.fixture
def program(monkeypatch):
    """Let there be a module of the user's in the current folder, and quantize its model."""
    Path("digits_program.py").write_text(PROGRAM)
    monkeypatch.setattr(sys, "path", [one for one in sys.path if one])
    yield
    sys.modules.pop("digits_program", None)


@pytest.fixture
def result(program, callback, monkeypatch):
    monkeypatch.syspath_prepend(str(Path.cwd()))
    from digits_program import Own

    callback = callback()
    fitted(callback, Own(0.0))
    return callback.result


def run(capsys, workspace, *given, kind="digits_program:Own", path="a.onnx"):
    """Return the exit code, what went to stdout and what to stderr."""
    code = main(["export", str(workspace), path, "--class", kind, *given])
    return code, *capsys.readouterr()


def test_the_model_is_made_as_its_checkpoint_says_and_the_table_is_printed(
    exports, result, workspace, capsys
):
    code, out, err = run(capsys, workspace)
    (one,) = exports.asked
    assert (code, err) == (0, "")
    assert out.startswith("file     a.onnx (onnx for onnxruntime)\n")
    x = torch.ones(2, 8)
    assert torch.equal(one.model(x), result.model(x))
    assert (one.options.dynamic, one.options.check, one.options.target) == (True, True, None)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_it_with_its_code(result, workspace, capsys, monkeypatch, number):
    loading = "lpot_lightning.commands.export.load"
    monkeypatch.setattr(loading, lambda *_: signal.raise_signal(number))
    with pytest.raises(SystemExit) as ended:
        run(capsys, workspace)
    assert ended.value.code == 128 + number
    assert capsys.readouterr().err == (
        "interrupted: `a.onnx` is as it was, or written as a whole; go on with the same command\n"
    )


def test_the_options(exports, result, workspace, capsys):
    given = ["--target", "openvino", "--no-check", "--opset", "20", "--method", "net", "--static"]
    names = ["--input-names", "x", "--output-names", "a", "b"]
    assert run(capsys, workspace, *given, *names)[0] == 0
    asked = exports.asked[0].options
    assert (asked.target, asked.check, asked.opset, asked.method) == ("openvino", False, 20, "net")
    assert (asked.dynamic, asked.input_names, asked.output_names) == (False, ["x"], ["a", "b"])


X = torch.ones(2, 8)
BY_NAME = {"x": X, "scale": 2.0}


@pytest.mark.parametrize("given", [X, (X, 2), [X], BY_NAME], ids=["one", "tuple", "list", "dict"])
def test_an_example_is_read_from_a_file(exports, result, workspace, capsys, given):
    torch.save(given, "example.pt")
    assert run(capsys, workspace, "--example", "example.pt")[0] == 0
    assert str(exports.asked[0].options.example) == str(given)


ROUND = [X]
ROUND.append(ROUND)


class Runs:
    def __reduce__(self):
        return Path.touch, (Path("was_run"),)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (3, "`--example example.pt` holds a `int`; allowed: a tensor, a tuple of"),
        ({1: X}, "holds a `dict`; allowed: a tensor, a tuple of arguments or a dict of"),
        (torch.ones(1).expand(2**30), "numbers, which its tensors show as 4 GiB"),
        (ROUND, "`--example example.pt` holds something that holds itself"),
        (Runs(), "`--example example.pt` cannot be read: it holds a"),
    ],
    ids=["number", "by number", "expanded", "round", "code"],
)
def test_a_file_that_is_no_example_is_one_line(exports, result, workspace, capsys, given, said):
    torch.save(given, "example.pt")
    code, _, err = run(capsys, workspace, "--example", "example.pt")
    assert (code, said in err, err.count("\n"), exports.asked) == (1, True, 1, [])
    assert not Path("was_run").exists()


def test_an_example_that_is_not_there_is_one_line(exports, result, workspace, capsys):
    code, _, err = run(capsys, workspace, "--example", "no.pt")
    assert (code, err) == (1, "error: cannot read `no.pt`: No such file or directory\n")


def test_sizes_that_may_be_any(exports, result, workspace, capsys):
    assert run(capsys, workspace, "--dynamic", "{x: {0: batch, 1: width}}")[0] == 0
    assert exports.asked[0].options.dynamic == {"x": {0: "batch", 1: "width"}}


def test_the_model_is_made_with_what_is_given(exports, result, workspace, capsys):
    assert run(capsys, workspace, "--init-args", "{lr: 0.1, width: 4}")[0] == 0
    assert (exports.asked[0].model.width, exports.asked[0].model.hparams.lr) == (4, 0.1)


def test_the_model_is_made_as_another_checkpoint_says(exports, result, workspace, capsys):
    moved = (workspace / "best_quantized.ckpt").rename("other.ckpt")
    assert run(capsys, workspace, "--checkpoint", str(moved))[0] == 0
    code, _, err = run(capsys, workspace)
    assert code == 1
    assert err.startswith("error: `Own` cannot be made (TypeError: ")
    assert "`--init-args '{channels: 24}'`" in err


WRONG = {
    "no workspace": ("nowhere", [], "`nowhere` is not there; allowed: the folder of a workspace"),
    "no colon": (".", ["--class", "digits_program"], "`--class` is `digits_program`; allowed: `pa"),
    "no module": (".", ["--class", "no_such:Own"], "`--class`: cannot import `no_such` (ModuleNo"),
    "no class": (
        ".",
        ["--class", "digits_program:Owm"],
        "`--class`: there is no `Owm` in `digits_program`. Did you mean `Own`?",
    ),
    "no model": (".", ["--class", "digits_program:number"], "which is no class of an `nn.Module`"),
    "no mapping": (".", ["--init-args", "[1]"], "`--init-args` is `[1]`; allowed: a mapping, such"),
    "no YAML": (".", ["--init-args", "{a"], "`--init-args` is no YAML"),
    "no files": (".", ["--init-args", "{lr: 0}"], "holds none of `best_configure.yaml`"),
    "no checkpoint": (".", ["--checkpoint", "a.ckpt"], "cannot read `a.ckpt`"),
    "plain": (
        ".",
        ["--class", "digits_program:Plain", "--checkpoint", "a.ckpt"],
        "`--checkpoint` is for a LightningModule, and `Plain` is none",
    ),
    "another form": (".", ["--target", "tensorrt"], "`target` is `tensorrt`; allowed: `onnxrun"),
}


@pytest.mark.parametrize(("folder", "given", "said"), WRONG.values(), ids=WRONG)
@pytest.mark.usefixtures("program")
def test_what_is_wrong_is_one_line_and_an_exit_code(exports, capsys, folder, given, said):
    code, out, err = run(capsys, folder, *given, *_made(given))
    assert (code, out) == (1, "")
    assert said in err
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert exports.asked == []


def _made(given):
    """Let the model be made where that is not what is wrong."""
    alone = {"--init-args", "--checkpoint"} & {*given}
    return [] if alone else ["--init-args", "{lr: 0}"]


def test_a_failing_export_is_one_line(exports, result, workspace, capsys):
    exports.fails = RuntimeError("no\nsuch op")
    code, _, err = run(capsys, workspace)
    assert (code, err) == (1, "error: `a.onnx` cannot be written (RuntimeError: no)\n")


def test_the_class_is_needed(capsys):
    with pytest.raises(SystemExit) as caught:
        main(["export", "ws", "a.onnx"])
    assert caught.value.code == 2
    assert "--class" in capsys.readouterr().err
