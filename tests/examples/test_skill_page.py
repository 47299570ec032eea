"""`SKILL.md`: its programs quantize modules that they do not know, and what it names is there."""

from __future__ import annotations

import ast
import importlib
import json
import re
import shlex
import subprocess
import threading
from collections.abc import Iterator
from http.server import HTTPServer
from pathlib import Path
from urllib.request import Request, urlopen

import onnxruntime
import pytest
import torch
import yaml
from skill_page import STRANGERS, commands, exported, programs, quantized, restored
from warm_python import python

import lpot_lightning
from lpot_lightning.commands.main import _parser
from lpot_lightning.commands.skill import SKILL, skill
from lpot_lightning.conf.reader import read_conf

ROOT = Path(lpot_lightning.__file__).parent


def run(*arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    """Run a program of the page in the current folder."""
    done = subprocess.run([python(), *arguments], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0 or not check, done.stderr
    return done


@pytest.mark.parametrize("name", STRANGERS)
def test_a_module_that_nobody_knows_is_quantized_restored_and_exported(
    name, tmp_path, monkeypatch
) -> None:
    stranger = STRANGERS[name]
    found = quantized(stranger, tmp_path, run)
    assert found["result"]["monitor"] == stranger.monitor
    assert found["result"]["int8_ops"]
    assert restored(run) == pytest.approx([found["result"]["accuracy"]] * 2, abs=1e-6)
    assert "checked in" in exported(stranger, tmp_path, run)
    session = onnxruntime.InferenceSession("model.onnx", providers=["CPUExecutionProvider"])
    assert {one.name for one in session.get_inputs()} == set(stranger.inputs)
    if name == "masks":
        found = answered(tmp_path, monkeypatch, image=torch.rand(2, 3, 16, 16).tolist())
        shapes = {name: torch.tensor(one).shape for name, one in found.items()}
        assert shapes == {"mask": (2, 1, 16, 16), "size": (2, 1)}
        assert re.search(r"^(met|not_met) [\d.]+$", run("train_for_int8.py").stdout, re.MULTILINE)


def answered(folder: Path, monkeypatch: pytest.MonkeyPatch, **inputs: object) -> dict:
    """Return what the service of the page answers."""
    monkeypatch.syspath_prepend(folder)
    service = importlib.import_module("serve_it")
    with HTTPServer(("127.0.0.1", 0), service.Answers) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        body = json.dumps(inputs).encode()
        with urlopen(Request(f"http://127.0.0.1:{server.server_port}", body)) as response:
            found = json.loads(response.read())
        server.shutdown()
    return found


def test_what_has_no_lightning() -> None:
    Path("plain_it.py").write_text(programs()["plain_it.py"])
    assert run("plain_it.py").stdout.splitlines()[-1] in ("met", "not_met")


def test_a_service_needs_neither_torch_nor_this_package() -> None:
    imports = {
        (node.module if isinstance(node, ast.ImportFrom) else node.names[0].name).split(".")[0]
        for node in ast.walk(ast.parse(programs()["serve_it.py"]))
        if isinstance(node, ast.Import | ast.ImportFrom)
    }
    assert imports == {"json", "http", "numpy", "onnxruntime"}


def test_it_has_the_form_of_an_agent_skill() -> None:
    _, front, body = skill().split("---\n", 2)
    found = yaml.safe_load(front)
    assert found["name"] == SKILL.parent.name == "lpot-lightning"
    assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", found["name"])
    assert 100 < len(found["description"]) <= 1024
    assert len(body.splitlines()) < 500


@pytest.mark.parametrize("line", [one for one in commands() if one.startswith("lpot-lightning")])
def test_every_command_and_option_is_there(line) -> None:
    arguments = shlex.split(line)[1:]
    if arguments == ["--version"]:
        with pytest.raises(SystemExit, match="0"):
            _parser().parse_args(arguments)
    else:
        assert _parser().parse_args(arguments).command == arguments[0]


def test_every_name_of_the_package_is_there() -> None:
    named = set(re.findall(r"`lpot_lightning\.(\w+)", skill()))
    assert named <= set(lpot_lightning.__all__)
    of_results = set(re.findall(r"`result\.(\w+)", skill()))
    known = {*dir(lpot_lightning.TuningResult), *fields_of(lpot_lightning.TuningResult)}
    assert of_results <= known
    assert len(of_results) > 10


def fields_of(kind: type) -> Iterator[str]:
    yield from getattr(kind, "__dataclass_fields__", ())


def test_every_message_is_said_somewhere() -> None:
    table = skill().partition("## 9.")[2].partition("## 10.")[0]
    rows = [line.split("|")[1] for line in table.splitlines() if line.startswith("| `")]
    phrases = [phrase for row in rows for phrase in re.findall(r"`([^`]+)`", row)]
    said = all_texts()
    assert len(phrases) > 15
    assert [phrase for phrase in phrases if phrase not in said] == []


def all_texts() -> str:
    """Return all texts of the package; what is filled in is left out of them."""
    found = []
    for path in ROOT.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.JoinedStr):
                parts = (getattr(one, "value", "") for one in node.values)
                found.append("".join(one if isinstance(one, str) else "`" for one in parts))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.append(node.value)
    return "\n".join(found).replace("`", "")


def test_every_line_for_the_conf_is_one_that_is_read() -> None:
    lines = re.findall(r"`(CONF\[.+?\}+)`", skill())
    assert len(lines) == 4
    for line in lines:
        keys, value = line.split(" = ")
        conf = {"model": {"name": "my_model", "framework": "pytorch_fx"}}
        inner = ast.literal_eval(value)
        for key in reversed(re.findall(r'\["(\w+)"\]', keys)):
            inner = {key: inner}
        assert read_conf({**conf, **inner}).to_dict()[next(iter(inner))]


def test_each_program_is_short_and_says_its_name() -> None:
    assert len(programs()) == 8
    assert all(len(one.splitlines()) <= 35 for one in programs().values())
