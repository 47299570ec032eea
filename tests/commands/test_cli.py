"""`LPOTCLI`: quantize and benchmark beside fit, validate, test and predict."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys

import pytest
import torch
import yaml
from export_scenes import made_up
from file_scenes import scripted
from lit_scenes import Lit, Points, conf, trainer, val_loader
from torch.utils.data import DataLoader
from warm_python import python

pytest.importorskip("jsonargparse")
import lightning.pytorch as pl

from lpot_lightning import LPOTCLI
from lpot_lightning.commands.benchmark import benchmark
from lpot_lightning.errors import DataError

# Lightning 2.6 calls jsonargparse in ways that this warns of
pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:.*`evaluation.performance` is for `Benchmark`:UserWarning"),
    pytest.mark.filterwarnings("ignore:.*all are used:UserWarning"),
]
QUIET = {
    "accelerator": "cpu", "logger": False, "enable_progress_bar": False, "max_epochs": 1,
    "enable_model_summary": False, "enable_checkpointing": False,
}  # fmt: skip


@pytest.fixture(autouse=True)
def _no_arguments(monkeypatch):
    monkeypatch.setattr("sys.argv", ["main.py"])


def cli(*arguments, kind=LPOTCLI, module=Lit):
    return kind(
        module, Points, args=[*arguments], save_config_callback=None, seed_everything_default=False
    )


def run(command, tmp_path, *arguments, module=Lit, **asked):
    """Run a subcommand with one YAML file, and return the CLI."""
    path = tmp_path / "run.yaml"
    path.write_text(yaml.safe_dump({"trainer": {**QUIET}, **asked}))
    return cli(command, "--config", str(path), *arguments, module=module)


def checkpoint(tmp_path, kind=Lit):
    path = tmp_path / "best.ckpt"
    one = trainer()
    one.strategy.connect(kind())
    one.save_checkpoint(path)
    return str(path)


class Untrained(Lit):
    """Knows nothing before its checkpoint is loaded."""

    def __init__(self, lr: float = 0.0) -> None:
        super().__init__(lr)
        torch.nn.init.zeros_(self.net[2].weight)


def test_quantize_the_weights_of_a_checkpoint(tmp_path, workspace):
    ptq = tmp_path / "ptq.yaml"
    ptq.write_text(yaml.safe_dump(conf(workspace)))
    path = checkpoint(tmp_path)
    done = run("quantize", tmp_path, "--ckpt_path", path, module=Untrained, conf=str(ptq))
    result = done.result
    assert (result.status, result.accuracy, len(result.int8_ops)) == ("met", 1.0, 2)
    assert trainer().test(result.model, val_loader(), verbose=False) == [{"val_acc": 1.0}]


def test_all_options_of_quantize_from_the_command_line(tmp_path, workspace):
    asked = {"conf": conf(workspace)}
    done = run(
        "quantize", tmp_path, "--monitor=val_acc", '--modules=["net.0"]', "--calib=val", **asked
    )
    assert done.result.int8_ops == ("net.0",)


def test_a_goal_that_is_missed(tmp_path, workspace, monkeypatch):
    monkeypatch.setattr("lpot_lightning.tuning.score.Criterion.accepts", lambda *_: False)
    with pytest.raises(SystemExit) as caught:
        run("quantize", tmp_path, conf=conf(workspace))
    assert caught.value.code == 3
    assert (workspace / "best_configure.yaml").exists()


ERRORS = {
    "conf": ({"conf": "no.yaml"}, "error: no such file: `no.yaml`, looked for in `"),
    "monitor": (
        {"conf": conf("here"), "monitor": "acc"},
        "error: `monitor` is `acc`, which the validation loop does not log; it logs `val_acc`.",
    ),
    "modules": (
        {"conf": conf("here"), "modules": ["encoder"]},
        "error: `modules` has `encoder`, which matches",
    ),
    "ckpt_path": (
        {"conf": conf("here"), "ckpt_path": "no.ckpt"},
        "error: cannot read `no.ckpt`: No such file or directory\n",
    ),
}


@pytest.mark.parametrize(("asked", "text"), ERRORS.values(), ids=ERRORS)
def test_an_error_is_one_line_and_exit_code_1(tmp_path, capsys, asked, text):
    with pytest.raises(SystemExit) as caught:
        run("quantize", tmp_path, **asked)
    assert caught.value.code == 1
    said = [line for line in capsys.readouterr().err.splitlines(True) if line.startswith("error")]
    assert len(said) == 1
    assert said[0].startswith(text)


def test_an_error_of_a_callback_in_fit_is_one_line_too(tmp_path, capsys):
    callback = {"class_path": "lpot_lightning.QuantizationCallback", "init_args": {"conf": "no"}}
    with pytest.raises(SystemExit) as caught:
        run("fit", tmp_path, trainer={**QUIET, "callbacks": [callback]})
    assert caught.value.code == 1
    told = capsys.readouterr().err.splitlines()[-1]
    assert told.startswith("error: no such file: `no`, looked for in `")


def test_a_benchmark_callback_in_the_yaml(tmp_path, workspace):
    given = {"conf": conf(workspace, evaluation={"performance": {"warmup": 0, "iteration": 2}})}
    names = "lpot_lightning.QuantizationCallback", "lpot_lightning.BenchmarkCallback"
    callbacks = [{"class_path": name, "init_args": given} for name in names]
    done = run("fit", tmp_path, trainer={**QUIET, "callbacks": callbacks})
    (result,) = [one.result for one in done.trainer.callbacks if "Bench" in type(one).__name__]
    assert (result.label, result.speed.iterations) == ("int8", 2)


def test_an_error_that_is_not_ours_stays_what_it_is(tmp_path, workspace):
    class Stubborn(Lit):
        def __init__(self):
            super().__init__()
            raise ValueError("no such size")

    with pytest.raises(ValueError, match="no such size"):
        run("quantize", tmp_path, module=Stubborn, conf=conf(workspace))


@pytest.mark.parametrize(
    "arguments", [["quantize"], ["quantise"], ["quantize", "--conf=a.yaml", "--calib=test"]]
)
def test_wrong_arguments_are_exit_code_2(arguments):
    with pytest.raises(SystemExit) as caught:
        cli(*arguments)
    assert caught.value.code == 2


def test_benchmark_int8_against_fp32(tmp_path, workspace):
    asked = conf(workspace, evaluation={"performance": {"warmup": 1, "iteration": 3}})
    path = checkpoint(tmp_path)
    run("quantize", tmp_path, conf=asked)
    done = run("benchmark", tmp_path, f"--ckpt_path={path}", f"--json={tmp_path}/it", conf=asked)
    assert (done.result.label, done.result.speed.batch_size) == ("int8", 16)
    assert json.loads((tmp_path / "it").read_bytes())["speedup"] == done.result.speedup
    deploy = str(workspace / "deploy.yaml")  # beside which the int8 model lies
    assert run("benchmark", tmp_path, f"--conf={deploy}").result.label == "int8"


def test_benchmark_without_an_int8_model(tmp_path, workspace):
    asked = conf(workspace, evaluation={"performance": {"warmup": 0}})
    done = run("benchmark", tmp_path, conf=asked)
    assert (done.result.label, done.result.speed.iterations) == ("model", 3)


def test_benchmark_with_exported_files(tmp_path, workspace):
    asked = conf(workspace, evaluation={"performance": {"warmup": 0, "iteration": 2}})
    path = scripted(tmp_path / "fp32.ts", torch.nn.Linear(8, 3), torch.ones(16, 8))
    done = run("benchmark", tmp_path, f"--files=[{path}]", conf=asked)
    assert [(one.label, one.speed.iterations) for one in done.result.files] == [("fp32.ts", 2)]


class OwnData(Lit):
    """Has its validation data itself, and asks the trainer about them."""

    def val_dataloader(self):
        return [val_loader(batch_size=self.trainer.num_devices * 8), val_loader()]


class Named(Lit):
    """Has batches that its steps take, and `forward` does not."""

    def val_dataloader(self):
        return DataLoader([{"images": torch.ones(8), "labels": 1}])


def test_benchmark_of_batches_that_forward_cannot_take_says_what_can(workspace):
    asked = conf(workspace, evaluation={"performance": {"warmup": 0}})
    with pytest.raises(DataError) as caught:
        benchmark(trainer(), Named(), conf=asked)
    assert str(caught.value).startswith("`Named` cannot take a batch of the validation data (Type")
    assert str(caught.value).endswith(
        "a dict by name; `BenchmarkCallback` times `validation_step`, which takes a batch as it is"
    )


def test_benchmark_of_a_module_that_has_its_data_itself(tmp_path, workspace):
    path = tmp_path / "run.yaml"
    asked = conf(workspace, evaluation={"performance": {"warmup": 0}})
    path.write_text(yaml.safe_dump({"trainer": QUIET, "conf": asked}))
    done = LPOTCLI(
        OwnData,
        args=["benchmark", f"--config={path}"],
        save_config_callback=None,
        seed_everything_default=False,
    )
    assert (done.result.speed.batch_size, done.result.speed.iterations) == (8, 6)
    assert done.model._trainer is None


def test_a_checkpoint_that_is_damaged(tmp_path, workspace, capsys):
    (tmp_path / "best.ckpt").write_bytes(b"PK\3\4 no more")
    with pytest.raises(SystemExit) as caught:
        run("benchmark", tmp_path, "--ckpt_path", f"{tmp_path}/best.ckpt", conf=conf(workspace))
    assert caught.value.code == 1
    assert "error: `ckpt_path` cannot be read: RuntimeError: " in capsys.readouterr().err


class NoForward(pl.LightningModule):
    def validation_step(self, batch, batch_idx):
        pass


BENCHMARK_ERRORS = {
    "workspace": (
        {"workspace": "nowhere"},
        Lit,
        "error: `workspace` is `nowhere`, and there is no `best_configure.yaml` in it; allowed: the"
        " folder of a quantization\n",
    ),
    "forward": (
        {},
        NoForward,
        "error: `NoForward` has no `forward`, which is what is timed: define it, or use"
        " `BenchmarkCallback`, which times `validation_step`\n",
    ),
    "json": (
        {"json": "no/such/folder.json"},
        Lit,
        "error: cannot write `no/such/folder.json`: No such file or directory\n",
    ),
}


@pytest.mark.parametrize(
    ("asked", "module", "text"), BENCHMARK_ERRORS.values(), ids=BENCHMARK_ERRORS
)
def test_errors_of_benchmark(tmp_path, workspace, capsys, asked, module, text):
    with pytest.raises(SystemExit) as caught:
        run("benchmark", tmp_path, module=module, conf=conf(workspace), **asked)
    assert caught.value.code == 1
    assert text in capsys.readouterr().err


def test_the_other_subcommands_are_those_of_lightning(tmp_path):
    done = run("validate", tmp_path)
    assert done.result is None
    assert done.trainer.callback_metrics["val_acc"] == 1


def test_subcommands_and_hooks_of_the_users_own(tmp_path, workspace):
    class Own(LPOTCLI):
        heard = ()

        @staticmethod
        def subcommands():
            return {**LPOTCLI.subcommands(), "validate": {"model", "dataloaders", "datamodule"}}

        def before_quantize(self):
            self.heard += ("before",)

        def after_quantize(self):
            self.heard += (self.result.status,)

    path = tmp_path / "run.yaml"
    path.write_text(yaml.safe_dump({"trainer": QUIET, "conf": conf(workspace)}))
    assert cli("quantize", f"--config={path}", kind=Own).heard == ("before", "met")


def test_help_tells_a_newcomer(capsys):
    with pytest.raises(SystemExit) as caught:
        cli("--help")
    assert caught.value.code == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "quantize Make a trained model int8, tuned to an accuracy goal. Exit codes: 0" in said
    with pytest.raises(SystemExit):
        cli("quantize", "--help")
    said = " ".join(capsys.readouterr().out.split())
    assert "--conf CONF LPOT's user YAML: the name of a file, or its content inline." in said
    assert "--ckpt_path CKPT_PATH The checkpoint with the trained weights." in said


def test_without_jsonargparse_the_face_works_and_says_what_is_missing():
    code = (
        "import sys\n"
        "for name in [one for one in sys.modules if one.startswith('lpot_lightning')]:\n"
        "    del sys.modules[name]  # as in an interpreter that has just started\n"
        "import lightning.pytorch.cli as cli; cli._JSONARGPARSE_SIGNATURES_AVAILABLE = False\n"
        "import lpot_lightning; lpot_lightning.QuantizationCallback\n"
        "try: from lpot_lightning import LPOTCLI\n"
        "except lpot_lightning.ConfError as error: print(error)"
    )
    done = subprocess.run(
        [python(), "-c", code], capture_output=True, text=True, env=dict(os.environ)
    )
    assert done.stdout == (
        "`LPOTCLI` reads its arguments by `jsonargparse[signatures]`, which is not installed, or"
        " too old: `pip install 'lpot-lightning[cli]'`\n"
    ), done.stderr


def test_quantize_exports_what_the_yaml_asks_for(tmp_path, workspace, monkeypatch):
    exports, asked = made_up(monkeypatch), conf(workspace, export={"formats": ["onnx", "pt2"]})
    found = run("quantize", tmp_path, conf=asked)
    assert all(one.model is found.result.model for one in exports.asked)
    assert sorted(path.name for path in (workspace / "exports").iterdir()) == [
        "model.onnx",
        "model.pt2",
    ]


def test_an_export_that_fails_is_one_line_and_an_exit_code(
    tmp_path, workspace, monkeypatch, capsys
):
    made_up(monkeypatch, fails="no such op")
    with pytest.raises(SystemExit) as caught:
        run("quantize", tmp_path, conf=conf(workspace, export={"formats": ["onnx"]}))
    said = capsys.readouterr().err.splitlines()[-1]
    assert (caught.value.code, said[:48]) == (1, "error: no such op. The run is over, and its int8")


@pytest.mark.parametrize("command", ["quantize", "benchmark"])
def test_programs_get_one_json_object_on_stdout(tmp_path, workspace, capsys, command):
    class Loud(Lit):
        def __init__(self):
            super().__init__()
            sys.stdout.write("of the user\n")

    run(command, tmp_path, "--json", module=Loud, conf=conf(workspace))
    out, err = capsys.readouterr()
    found = json.loads(out)
    assert found.get("status") == "met" or found["speed"]["iterations"] > 0
    assert "of the user" in err


def test_programs_get_errors_as_json(tmp_path, capsys):
    with pytest.raises(SystemExit) as caught:
        run("quantize", tmp_path, "--json", conf="no.yaml")
    out, err = capsys.readouterr()
    assert caught.value.code == 1
    assert json.loads(out)["error"]["kind"] == "ConfError"
    assert "error: no such file" in err


def test_programs_hear_of_a_goal_that_is_missed(tmp_path, workspace, monkeypatch, capsys):
    monkeypatch.setattr("lpot_lightning.tuning.score.Criterion.accepts", lambda *_: False)
    with pytest.raises(SystemExit) as caught:
        run("quantize", tmp_path, "--json", conf=conf(workspace))
    assert caught.value.code == 3
    assert json.loads(capsys.readouterr().out)["status"] == "not_met"


def test_programs_hear_of_an_error_of_the_users(tmp_path, workspace, capsys):
    class Broken(Lit):
        def __init__(self):
            raise ZeroDivisionError("of the user")

    with pytest.raises(ZeroDivisionError):
        run("quantize", tmp_path, "--json", module=Broken, conf=conf(workspace))
    assert json.loads(capsys.readouterr().out)["error"]["message"] == "of the user"


def test_a_file_for_the_json_leaves_stdout_as_it_is(tmp_path, workspace):
    path = tmp_path / "result.json"
    run("quantize", tmp_path, f"--json={path}", conf=conf(workspace))
    assert json.loads(path.read_text())["status"] == "met"


@pytest.mark.parametrize("asked", [("--json", "out.json"), ("--json=out.json",)])
def test_where_the_json_goes_to_a_file_faults_are_on_stderr_alone(tmp_path, asked, capsys):
    with pytest.raises(SystemExit):
        run("quantize", tmp_path, *asked, "--nonsense=1", conf="no.yaml")
    out, err = capsys.readouterr()
    assert out == ""
    assert "nonsense" in err


def test_programs_hear_of_wrong_arguments(tmp_path, capsys):
    with pytest.raises(SystemExit) as caught:
        run("quantize", tmp_path, "--json", "--nonsense=1", conf="no.yaml")
    out, err = capsys.readouterr()
    assert caught.value.code == 2
    assert json.loads(out)["error"]["kind"] == "WrongArguments"
    assert "nonsense" in err


def test_programs_hear_of_a_signal(tmp_path, workspace, capsys):
    class Stopping(Lit):
        def validation_step(self, batch, batch_idx):
            signal.raise_signal(signal.SIGTERM)

    with pytest.raises(SystemExit) as caught:
        run("quantize", tmp_path, "--json", module=Stopping, conf=conf(workspace))
    assert caught.value.code == 143
    assert json.loads(capsys.readouterr().out)["error"]["kind"] == "Interrupted"
