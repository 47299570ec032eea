"""The floors of the house: imports go down only."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import lpot_lightning

ROOT = Path(lpot_lightning.__file__).parent
FLOORS = {
    "errors": 0,
    "version": 0,
    "reading": 0,
    "plain_yaml": 0,
    "files": 1,
    "own_files": 1,
    "signals": 1,
    "lock": 2,
    "recipe": 1,
    "conf": 1,
    "tuning": 2,
    "pruning": 2,
    "quantization": 2,
    "data": 2,
    "api": 3,
    "callbacks": 4,
    "cli": 5,
    "console": 5,
    "__init__": 6,
}
FILES = sorted(ROOT.rglob("*.py"))


def room_of(dotted: str) -> str:
    return (dotted.split(".") + ["__init__"])[1]


def dotted_name(path: Path) -> str:
    return ".".join(("lpot_lightning", *path.relative_to(ROOT).with_suffix("").parts))


def imported(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield str(node.module)


def ours(path: Path) -> list[str]:
    return [name for name in imported(path) if name.split(".")[0] == "lpot_lightning"]


def outside(path: Path) -> set[str]:
    return set(imported(path)) - set(ours(path))


@pytest.mark.parametrize("path", FILES, ids=dotted_name)
def test_imports_go_down_only(path: Path) -> None:
    here = room_of(dotted_name(path))
    for name in ours(path):
        assert name != "lpot_lightning", "import from the file that defines"
        there = room_of(name)
        assert there == here or FLOORS[there] < FLOORS[here], f"{path} imports {name}"


@pytest.mark.parametrize("path", FILES, ids=dotted_name)
def test_every_room_keeps_to_its_libraries(path: Path) -> None:
    room, used = room_of(dotted_name(path)), {name.split(".")[0] for name in outside(path)}
    if FLOORS[room] <= 1 or room in ("lock", "tuning"):
        assert not used & {"torch", "lightning", "torchmetrics"}
    if room not in ("callbacks", "cli", "__init__"):
        assert "lightning" not in used
    if room not in ("callbacks", "cli", "data", "__init__"):
        assert "torchmetrics" not in used
    assert not used & {"pickle", "torchvision", "dill", "marshal", "shelve"}


@pytest.mark.parametrize("path", FILES, ids=dotted_name)
def test_legacy_quantization_of_torch_stays_behind_one_door(path: Path) -> None:
    if "quantization/fx/" in path.as_posix():
        return
    assert not [name for name in imported(path) if name.startswith("torch.ao")]
    for word in ("torch.qint", "torch.quint", "torch.quantize_"):
        assert word not in path.read_text()


@pytest.mark.parametrize("path", FILES, ids=dotted_name)
def test_nothing_is_unpickled_without_weights_only(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call) and ast.unparse(node.func) in ("torch.load", "_load"):
            given = {word.arg: ast.unparse(word.value) for word in node.keywords}
            assert given.get("weights_only") == "True"


def test_no_file_needs_another_that_needs_it() -> None:
    graph = {dotted_name(path): set(ours(path)) for path in FILES}
    while leaves := {name for name, needs in graph.items() if not needs & set(graph)}:
        graph = {name: needs for name, needs in graph.items() if name not in leaves}
    assert not graph


@pytest.mark.parametrize("path", FILES, ids=dotted_name)
def test_every_file_says_what_it_is_for(path: Path) -> None:
    if path.name == "__init__.py" and path.parent != ROOT:
        assert path.read_text() == ""
    else:
        assert ast.get_docstring(ast.parse(path.read_text()))


def test_the_face_is_sorted_and_complete() -> None:
    assert lpot_lightning.__all__ == sorted(lpot_lightning.__all__) == list(lpot_lightning._HOMES)
    assert set(lpot_lightning.__all__) <= set(dir(lpot_lightning))
    for name in lpot_lightning.__all__:
        assert getattr(lpot_lightning, name).__doc__


def test_the_face_imports_what_is_asked_for_and_no_more() -> None:
    script = (
        "import sys, lpot_lightning, lpot_lightning.conf.reader;"
        "import lpot_lightning.api.instance, lpot_lightning.api.cores;"  # pinned before torch comes
        "print('torch' in sys.modules);"
        "from lpot_lightning import Benchmark; print('lightning' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.stdout.split() == ["False", "False"], done.stderr


def test_what_the_face_has_not() -> None:
    with pytest.raises(AttributeError, match="module `lpot_lightning` has no attribute `Quantise`"):
        _ = lpot_lightning.Quantise
