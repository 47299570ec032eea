"""`lpot-lightning check`: an LPOT YAML, resolved."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

import lpot_lightning
from lpot_lightning.commands.for_whom import READERS
from lpot_lightning.commands.main import main
from lpot_lightning.conf.reader import read_conf

TEMPLATES = Path(lpot_lightning.__file__).parent / "conf/templates"
PTQ = "model: {name: net, framework: pytorch}\ntuning: {accuracy_criterion: {relative: 1%}}\n"


def check(tmp_path, text, capsys):
    """Return the exit code, what went to stdout and what to stderr."""
    path = tmp_path / "conf.yaml"
    path.write_text(text)
    code = main(["check", str(path)])
    return code, *capsys.readouterr()


def test_every_default_is_filled_in(tmp_path, capsys):
    code, out, err = check(tmp_path, PTQ, capsys)
    assert (code, err) == (0, "")
    assert out.splitlines()[0] == "# valid; for QuantizationCallback, Quantization, Benchmark"
    found = yaml.safe_load(out)
    assert found["tuning"]["accuracy_criterion"] == {"relative": 0.01}
    assert found["quantization"]["calibration"] == {"sampling_size": 100}
    assert "{}" not in out


@pytest.mark.parametrize("name", ["ptq", "qat", "pruning"])
def test_what_is_printed_is_read_as_the_same(name, tmp_path, capsys):
    assert main(["check", str(TEMPLATES / f"{name}.yaml")]) == 0
    path = tmp_path / "printed.yaml"
    path.write_text(capsys.readouterr().out)
    assert read_conf(path) == read_conf(TEMPLATES / f"{name}.yaml")


@pytest.mark.parametrize(
    ("section", "readers"),
    [
        ("quantization: {approach: quant_aware_training}", "QATCallback, Quantization, Benchmark"),
        (
            "pruning: {approach: {weight_compression: {pruners: [{}]}}}",
            "PruningCallback, Pruning, Benchmark",
        ),
    ],
)
def test_who_can_be_given_it(tmp_path, capsys, section, readers):
    _, out, _ = check(tmp_path, f"model: {{name: a, framework: pytorch}}\n{section}", capsys)
    assert out.splitlines()[0] == f"# valid; for {readers}"
    for other in set(READERS) - set(readers.split(", ")):
        assert f"\n# not for {other}: " in out


def test_why_it_is_not_for_others(tmp_path, capsys):
    text = f"{PTQ}quantization: {{train: {{end_epoch: 1}}}}\n"
    _, out, _ = check(tmp_path, text, capsys)
    comments = [line for line in out.splitlines() if line.startswith("#")]
    assert max(map(len, comments)) <= 80
    assert " ".join(line.lstrip("# ") for line in comments) == (
        "valid; for Benchmark"
        " not for QuantizationCallback: `quantization.train` is given, and"
        " `post_training_static_quant` does not train; leave it out, or set"
        " `quantization.approach` to `quant_aware_training`."
        " not for QATCallback: `quantization.approach` is `post_training_static_quant`, which is"
        " not what `QATCallback` does; use `QuantizationCallback`."
        " not for PruningCallback: there is no `pruning` for `PruningCallback`; use"
        " `QuantizationCallback`."
        " not for Quantization: `quantization.train` is given, and `post_training_static_quant`"
        " does not train; leave it out, or set `quantization.approach` to `quant_aware_training`."
        " not for Pruning: there is no `pruning` for `Pruning`; use `Quantization`."
    )


def test_programs_get_one_json_object(tmp_path, capsys):
    path = tmp_path / "conf.yaml"
    path.write_text(PTQ)
    assert main(["check", str(path), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["conf"]["tuning"]["accuracy_criterion"] == {"relative": 0.01}
    assert found["readers"][0] == {
        "reader": "QuantizationCallback",
        "accepts": True,
        "reasons": [],
    }
    assert {one["reader"] for one in found["readers"]} == set(READERS)
    assert found["warnings"] == []


def test_programs_get_all_faults_each_with_its_line(tmp_path, capsys):
    path = tmp_path / "conf.yaml"
    path.write_text(
        "model: {name: a, framework: pytorch}\ntunning:\n  random_seed: x\ndevice: tpu\n"
    )
    assert main(["check", "--json", str(path)]) == 1
    out, err = capsys.readouterr()
    error = json.loads(out)["error"]
    assert error["kind"] == "ConfError"
    assert error["where"] == f"{path}:2"
    assert [one["where"] for one in error["faults"]] == [f"{path}:{line}" for line in (2, 4, 3)]
    assert error["message"] == "\n".join(one["message"] for one in error["faults"])
    assert err.count("error: ") == 3


def test_what_nobody_can_be_given_is_an_error(tmp_path, capsys):
    data = "{dataloader: {dataset: {COCORaw: {root: a}}}}"
    train = "quantization: {train: {end_epoch: 1}}\n"
    code, out, err = check(tmp_path, f"{PTQ}{train}evaluation: {{performance: {data}}}", capsys)
    assert (code, out) == (1, "")
    assert err.count("error: ") == len(READERS) == err.count("conf.yaml: not for ")


def test_what_has_no_effect_is_a_warning(tmp_path, capsys):
    text = f"{PTQ}evaluation: {{accuracy: {{postprocess: {{transform: {{Reshape: [1]}}}}}}}}"
    code, out, err = check(tmp_path, text, capsys)
    assert (code, bool(out)) == (0, True)
    first, second = err.splitlines()
    assert first.startswith(f"warning: {tmp_path}/conf.yaml: `evaluation.accuracy.postprocess.")
    assert "`QuantizationCallback` leaves this to others: `evaluation.accuracy.post" in second


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("model: {name: a}", "conf.yaml:1: `model.framework` is missing; allowed: `pyt"),
        ("modle: {}", "`modle` is not a known key; allowed in the file: `version`, `model`,"),
        ("a: [", "conf.yaml:1: not valid YAML:"),
        ("", "conf.yaml is empty; it needs `model`"),
    ],
)
def test_an_error_is_one_line_and_exit_code_1(tmp_path, capsys, text, told):
    code, out, err = check(tmp_path, text, capsys)
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert err.startswith("error: ")
    assert told in err


def test_all_faults_are_told_in_one_run(tmp_path, capsys):
    text = "model: {name: a, framework: pytorch}\ntunning:\n  random_seed: x\ndevice: tpu\n"
    code, out, err = check(tmp_path, text, capsys)
    assert (code, out) == (1, "")
    places = [line.split("conf.yaml:")[1].split(" is ")[0] for line in err.splitlines()]
    assert places == ["2: `tunning`", "4: `device`", "3: `tunning.random_seed`"]


def test_a_file_that_is_not_there(capsys):
    assert main(["check", "no.yaml"]) == 1
    assert capsys.readouterr().err == (
        f"error: no such file: `no.yaml`, looked for in `{Path.cwd()}`.\n"
    )


def test_it_does_not_wait_for_torch(tmp_path):
    path = tmp_path / "conf.yaml"
    path.write_text(PTQ)
    code = (
        "import sys; from lpot_lightning.commands.main import main; main(['check', sys.argv[1]]);"
        "sys.exit('torch' in sys.modules or 'lightning' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True)
    assert done.returncode == 0, done.stderr


def test_a_reader_that_has_seen_enough(tmp_path):
    path = tmp_path / "conf.yaml"
    path.write_text(PTQ)
    command = (
        f"{sys.executable} -m lpot_lightning.commands check {path} | true; echo ${{PIPESTATUS}}"
    )
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True)
    assert done.stderr == ""
    assert done.stdout == "0\n"


@pytest.mark.parametrize("arguments", [[], ["chek"], ["check"], ["show", "a", "b"]])
def test_wrong_arguments_are_exit_code_2(arguments, capsys):
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    assert "usage: lpot-lightning" in capsys.readouterr().err


def test_help_tells_a_newcomer(capsys):
    with pytest.raises(SystemExit) as caught:
        main(["--help"])
    assert caught.value.code == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "check Check an LPOT YAML, and print what it comes to" in said
    assert "Exit codes: 0 all is well, 1 an error, said on stderr, one line for each" in said
