"""What programs are told."""

import json
import math
import signal

import pytest

from lpot_lightning.commands.answer import CommandAnswer, json_text, plain_error
from lpot_lightning.commands.main import main
from lpot_lightning.errors import ArtifactError, ConfError


def test_an_error_tells_its_kind_its_words_and_the_place():
    assert plain_error(ArtifactError("there is none"), "ws") == {
        "error": {
            "kind": "ArtifactError",
            "message": "there is none",
            "where": "ws",
            "faults": [{"message": "there is none", "where": "ws"}],
        }
    }


def test_each_fault_has_its_line():
    error = plain_error(ConfError("a.yaml:3: `x` is wrong", "`y` is, too"), "a.yaml")["error"]
    assert [one["where"] for one in error["faults"]] == ["a.yaml:3", "a.yaml"]


def test_numbers_that_json_has_not_are_null():
    assert json.loads(json_text({"a": [math.nan, 1.5], "b": {1: math.inf}})) == {
        "a": [None, 1.5],
        "b": {"1": None},
    }


def test_what_is_wrong_all_the_same_stands_beside_what_was_found():
    answer = CommandAnswer(lambda: "text", lambda: {"a": 1}, ArtifactError("bad"))
    found = json.loads(answer.as_json("x"))
    assert (found["a"], found["error"]["message"]) == (1, "bad")


@pytest.mark.parametrize("given", [["check", "--json"], ["nothing", "--json"]])
def test_wrong_arguments_are_told_in_json_too(given, capsys):
    with pytest.raises(SystemExit) as ended:
        main(given)
    out, err = capsys.readouterr()
    assert ended.value.code == 2
    assert json.loads(out)["error"]["kind"] == "WrongArguments"
    assert err.startswith("usage: lpot-lightning")


@pytest.mark.parametrize(
    "given",
    [
        ["show", "ws", "--json", "out.json"],
        ["show", "--json", "out.json"],
        ["check", "--json", "out.json", "ptq.yaml"],
        ["show", "ws", "--json=out.json"],
    ],
)
def test_a_file_behind_json_is_not_taken_for_what_is_looked_at(given, capsys):
    with pytest.raises(SystemExit) as ended:
        main(given)
    out, err = capsys.readouterr()
    said = "`--json` takes no file, it prints to stdout: `--json > out.json`"
    assert (ended.value.code, json.loads(out)["error"]["message"]) == (2, said)
    assert err == f"lpot-lightning: error: {said}\n"


def test_a_conf_in_json_may_stand_behind_the_option(tmp_path, capsys):
    path = tmp_path / "ptq.json"
    path.write_text('{"model": {"name": "net", "framework": "pytorch"}}')
    assert main(["check", "--json", str(path)]) == 0
    assert json.loads(capsys.readouterr().out)["conf"]["model"]["name"] == "net"


def test_an_option_is_written_out(capsys):
    with pytest.raises(SystemExit):
        main(["show", "nowhere", "--js"])  # to take it would print text where JSON was meant
    assert "unrecognized arguments: --js" in capsys.readouterr().err


def test_a_workspace_that_is_not_there(capsys):
    assert main(["show", "nowhere", "--json"]) == 1
    error = json.loads(capsys.readouterr().out)["error"]
    assert (error["kind"], error["where"]) == ("ArtifactError", "nowhere")


def test_a_fault_of_others_is_told_and_raised(monkeypatch, capsys):
    def fails(path):
        raise ZeroDivisionError("of the user")

    monkeypatch.setattr("lpot_lightning.commands.check.check", fails)
    with pytest.raises(ZeroDivisionError):
        main(["check", "a.yaml", "--json"])
    assert json.loads(capsys.readouterr().out)["error"]["message"] == "of the user"


def test_a_signal_is_told(monkeypatch, capsys):
    stops = "lpot_lightning.commands.check.check"
    monkeypatch.setattr(stops, lambda _: signal.raise_signal(signal.SIGTERM))
    with pytest.raises(SystemExit) as ended:
        main(["check", "a.yaml", "--json"])
    assert ended.value.code == 143
    assert json.loads(capsys.readouterr().out)["error"]["kind"] == "Interrupted"
