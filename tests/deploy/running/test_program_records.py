"""Archives of programs that would have torch run code."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import pytest
from file_scenes import exported

from lpot_lightning.deploy.running.program_records import check_program
from lpot_lightning.deploy.running.torch_runtime import TorchRuntime
from lpot_lightning.errors import ArtifactError

CALL = b"\x80\x02cos\nmkdir\n(X\x04\x00\x00\x00evilt\x85R."
WEIGHTS = "model_weights_config.json"


@pytest.fixture
def program(tmp_path: Path) -> Path:
    return exported(tmp_path / "model.pt2")


def rewritten(path: Path, name: str, change) -> None:
    """Exchange the record that ends in ``name``, or add it to the archive."""
    with zipfile.ZipFile(path) as old:
        held = {one.filename: old.read(one) for one in old.infolist()}
    top = next(iter(held)).partition("/")[0]
    found = next((one for one in held if one.endswith(name)), f"{top}/{name}")
    held[found] = change(held.get(found, b""))
    with zipfile.ZipFile(path, "w") as new:
        for key, content in held.items():
            new.writestr(key, content)


def edited(edit):
    def change(content: bytes) -> bytes:
        plain = json.loads(content)
        edit(plain)
        return json.dumps(plain).encode()

    return change


def pickled(plain) -> None:
    next(iter(plain["config"].values()))["use_pickle"] = True


def expression(text: str):
    def edit(plain) -> None:
        plain["evil"] = {"expr_str": text, "hint": None}

    return edit


def target(text: str):
    def edit(plain) -> None:
        plain["graph_module"]["graph"]["nodes"][0]["target"] = text

    return edit


def test_what_torch_writes_is_let_through(program):
    check_program(program)
    TorchRuntime(program, "pt2")


@pytest.mark.parametrize(
    "text", ["s77", "2*s0 + 1", "FloorDiv(s0, 2)", "Symbol('s7', integer=True)", "s0 >= 2"]
)
def test_arithmetic_is_let_through(program, text):
    rewritten(program, "models/model.json", edited(expression(text)))
    check_program(program)


@pytest.mark.parametrize(
    "text",
    [
        "__import__('os').mkdir('evil')",
        "s0.__class__",
        "(lambda: s0)()",
        "exec(s0)",
        "Lambda(s0, s0)",
        "'a text'",
        "S('__import__')",
        "[s0 for s0 in ()]",
        "f(**s0)",
        "1 +",
        "(" * 1000,
        "1" * 3000,
        7,
    ],
)
def test_expressions_that_are_more_are_refused(program, text):
    rewritten(program, "models/model.json", edited(expression(text)))
    with pytest.raises(ArtifactError, match="has the expression `"):
        TorchRuntime(program, "pt2")


@pytest.mark.parametrize("text", ["torch.hub.load", "torch.os.system", "#evil:x", "os.system"])
def test_ops_that_are_none_of_torchs_are_refused(program, text):
    rewritten(program, "models/model.json", edited(target(text)))
    with pytest.raises(ArtifactError, match=f"has the op `{text}`"):
        TorchRuntime(program, "pt2")


@pytest.mark.parametrize(
    ("record", "change", "said"),
    [
        (WEIGHTS, edited(pickled), "has a pickle"),
        ("sample_inputs/model.pt", lambda _: CALL, "sample_inputs/model.pt"),
        ("data/weights/model.pt", lambda _: CALL, "data/weights/model.pt"),
        ("data/aotinductor/model/x.so", lambda _: b"\x7fELF", "is none that a program"),
        ("evil.py", lambda _: b"raise", "is none that a program"),
    ],
)
def test_records_that_would_be_run_are_refused(program, record, change, said):
    rewritten(program, record, change)
    with pytest.raises(ArtifactError, match=said):
        TorchRuntime(program, "pt2")
    assert not Path("evil").exists()
