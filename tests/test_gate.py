"""The gate: what the package must not do with what it reads, and the few places that do it."""

from __future__ import annotations

import ast
import functools
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml

import lpot_lightning

ROOT = Path(lpot_lightning.__file__).parent
RUNS_TEXT = {"eval", "exec", "compile", "__import__", "execfile", "input", "breakpoint"}
RUNS_PROGRAMS = {
    *("os.system", "os.popen", "os.fork", "os.forkpty", "os.startfile", "os.posix_spawn"),
    *("os.posix_spawnp", "pty.spawn", "runpy.run_path", "runpy.run_module", "ctypes.CDLL"),
}
UNPICKLES = {"pickle", "_pickle", "cPickle", "dill", "cloudpickle", "joblib", "marshal", "shelve"}
STARTS = {"subprocess", "pty", "runpy", "code", "codeop", "ctypes", "cffi", "webbrowser", "pdb"}
STARTED = {"trainer/ending.py": "`scontrol requeue`, as Lightning, in a job that asked for it"}
TALKS = {"urllib", "http", "requests", "ftplib", "smtplib", "telnetlib", "xmlrpc", "socketserver"}
SAFE_YAML = {
    *("safe_dump", "safe_load", "parse", "YAMLError", "SafeLoader", "Node", "ScalarNode"),
    *("MappingNode", "SequenceNode", "ScalarEvent", "CollectionStartEvent", "MappingStartEvent"),
    *("CollectionEndEvent", "AliasEvent", "DocumentStartEvent", "resolver", "constructor"),
}
OPENS_PROGRAMS = {
    "torch.jit.load": {"deploy/running/torch_runtime.py": "TorchScript, which is a program"},
    "torch.export.load": {"deploy/running/torch_runtime.py": "after `check_program`"},
    "aoti_load_package": {"deploy/running/torch_runtime.py": "machine code, which says so"},
}
"""Of exports: opening one is running it, as SECURITY.md says."""
WRITES = {
    "machine/files.py": "the one way to write a file: beside it, then renamed over it",
    "machine/lock.py": "no link is followed, and nothing that is not ours is written to",
    "tuning/journal.py": "appends to a regular file that was read before",
    "artifacts/earlier.py": "copies into a new folder",
    "commands/main.py": "`os.devnull`, in the place of a closed pipe",
}
"""Files that open others for writing, change them in place, or copy."""
SELFTEST = "selftest/"
"""Kills its own processes and damages its own files, in a folder that it makes and removes."""
_WRITERS = {"write_text", "write_bytes", "touch", "copy", "copy2", "copyfile", "copytree", "move"}


@functools.cache
def trees() -> dict[str, ast.Module]:
    """Return each file of the package by its path in it."""
    return {
        path.relative_to(ROOT).as_posix(): ast.parse(path.read_text())
        for path in sorted(ROOT.rglob("*.py"))
    }


def places(found: Callable[[ast.AST], str | None]) -> set[str]:
    """Return ``file: what`` for each node of which ``found`` tells something."""
    return {
        f"{here}: {what}"
        for here, nodes in nodes_of_trees().items()
        for node in nodes
        if (what := found(node))
    }


@functools.cache
def nodes_of_trees() -> dict[str, list[ast.AST]]:
    return {here: list(ast.walk(tree)) for here, tree in trees().items()}


def files_of(found: set[str]) -> set[str]:
    return {one.partition(":")[0] for one in found}


@functools.cache
def name_called(node: ast.AST) -> str | None:
    return ast.unparse(node.func) if isinstance(node, ast.Call) else None


def calls(names: set[str]) -> Callable[[ast.AST], str | None]:
    return lambda node: name if (name := name_called(node)) in names else None


def imports(names: set[str]) -> Callable[[ast.AST], str | None]:
    def found(node: ast.AST) -> str | None:
        return next((one for one in imported(node) if one.split(".")[0] in names), None)

    return found


def imported(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.Import):
        yield from (one.name for one in node.names)
    elif isinstance(node, ast.ImportFrom):
        yield str(node.module)
    elif name_called(node) in ("import_module", "importlib.import_module"):
        first = node.args[0] if isinstance(node, ast.Call) and node.args else None
        if isinstance(first, ast.Constant):
            yield str(first.value)


def test_no_text_is_run() -> None:
    assert places(calls(RUNS_TEXT)) == set()


def test_no_program_is_started() -> None:
    assert places(calls(RUNS_PROGRAMS)) == {"selftest/forked.py: os.fork"}  # itself, to be killed
    started = places(imports(STARTS)) - {f"{file}: subprocess" for file in STARTED}
    assert started == set()
    assert all(f"{file}: subprocess" in places(imports(STARTS)) for file in STARTED)


def test_nothing_is_unpickled() -> None:
    assert places(imports(UNPICKLES)) == set()
    # `ForkingPickler` packs what a process of our own is given, which `multiprocessing` unpacks.
    packs = places(lambda node: "packs" if "ForkingPickler" in "".join(imports_of(node)) else None)
    assert files_of(packs) == {"timing/in_process.py", "timing/processes.py"}


def imports_of(node: ast.AST) -> list[str]:
    return [one.name for one in node.names] if isinstance(node, ast.ImportFrom) else []


def test_nobody_talks_to_the_network() -> None:
    assert places(imports(TALKS)) == set()
    sockets = {one for one in places(imports({"socket"})) if ": socket" in one}
    assert files_of(sockets) == {"machine/lock.py"}  # for the name of this host
    used = places(lambda node: attribute_of(node, "socket"))
    assert {one.partition(": ")[2] for one in used} == {"gethostname"}


def attribute_of(node: ast.AST, owner: str) -> str | None:
    is_of = isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name)
    return node.attr if is_of and node.value.id == owner else None


def test_yaml_is_parsed_and_never_constructed() -> None:
    assert places(unsafe_yaml) == set()
    assert places(calls({"yaml.safe_load"})) == set()  # it has no bounds
    parsers = places(lambda node: "names a loader" if names_a_loader(node) else None)
    assert files_of(parsers) == {"machine/plain_yaml.py"}


def names_a_loader(node: ast.AST) -> bool:
    given = node.keywords if isinstance(node, ast.Call) else []
    return any(one.arg == "Loader" for one in given)


def loads_more_than_weights(node: ast.AST) -> str | None:
    name = name_called(node) or ""
    if name not in ("torch.load", "_load") and not name.endswith("cls.load_from_checkpoint"):
        return None
    given = {one.arg: ast.unparse(one.value) for one in node.keywords}  # type: ignore[attr-defined]
    return None if given.get("weights_only") == "True" else name


def test_torch_loads_weights_only() -> None:
    assert places(loads_more_than_weights) == set()
    switches = {"torch.serialization.add_safe_globals", "add_safe_globals", "safe_globals"}
    assert places(calls(switches)) == set()
    variables = places(lambda node: text if "NO_WEIGHTS_ONLY" in (text := text_of(node)) else None)
    assert variables == set()


def text_of(node: ast.AST) -> str:
    return str(node.value) if isinstance(node, ast.Constant) else ""


@pytest.mark.parametrize("name", OPENS_PROGRAMS)
def test_programs_are_opened_by_one_file(name) -> None:
    assert files_of(places(calls({name}))) == set(OPENS_PROGRAMS[name])


def test_a_program_of_torch_is_looked_at_first() -> None:
    tree = trees()["deploy/running/torch_runtime.py"]
    (reader,) = (one for one in tree.body if getattr(one, "name", "") == "_exported")
    names = [name for node in ast.walk(reader) if (name := name_called(node))]
    assert names.index("check_program") < names.index("torch.export.load")


def writes(node: ast.AST) -> str | None:
    """Return by what a node opens a file for writing, or changes one."""
    name = name_called(node)
    if name is None or not isinstance(node, ast.Call):
        return None
    last = name.rpartition(".")[2]
    if last in ("open", "fdopen") and any(is_writing_mode(one) for one in given_to(node)):
        return name
    if any("os.O_" in ast.unparse(one) and opens_to_write(one) for one in given_to(node)):
        return name
    owner = name.rpartition(".")[0]
    copies = last in _WRITERS and (last.startswith(("write_", "touch")) or owner == "shutil")
    return name if copies or name in ("os.truncate", "os.link", "os.symlink") else None


def given_to(call: ast.Call) -> list[ast.expr]:
    return [*call.args, *(one.value for one in call.keywords)]


def is_writing_mode(node: ast.expr) -> bool:
    text = node.value if isinstance(node, ast.Constant) else None
    return isinstance(text, str) and len(text) <= 4 and bool(set(text) & set("wax+"))


def opens_to_write(node: ast.expr) -> bool:
    text = ast.unparse(node)
    return any(one in text for one in ("O_WRONLY", "O_RDWR", "O_CREAT", "O_TRUNC", "O_APPEND"))


def test_files_are_written_in_few_places() -> None:
    found = {one for one in places(writes) if not one.startswith(SELFTEST)}
    assert {one for one in found if one.partition(":")[0] not in WRITES} == set()
    assert files_of(found) == set(WRITES)


def test_no_link_is_followed_to_lock() -> None:
    assert "O_NOFOLLOW" in ast.unparse(trees()["machine/lock.py"])


@pytest.mark.parametrize(
    "bad",
    [
        "eval('1')",
        "import pickle",
        "from dill import loads",
        "import_module('pickle')",
        "os.system('x')",
        "import subprocess",
        "yaml.load(text)",
        "yaml.safe_load(text)",
        "torch.load(path)",
        "cls.load_from_checkpoint(path)",
        "torch.jit.load(path)",
        "open(path, 'w')",
        "path.open('ab')",
        "path.write_text('x')",
        "os.open(path, os.O_CREAT | os.O_RDWR)",
        "shutil.copy(one, other)",
        "import urllib.request",
    ],
)
def test_the_gate_is_shut(bad) -> None:
    finders = (
        *(calls(RUNS_TEXT | RUNS_PROGRAMS | {"yaml.safe_load"} | set(OPENS_PROGRAMS)), writes),
        *(imports(STARTS | UNPICKLES | TALKS), loads_more_than_weights, unsafe_yaml),
    )
    assert any(found(node) for node in ast.walk(ast.parse(bad)) for found in finders)


def unsafe_yaml(node: ast.AST) -> str | None:
    name = attribute_of(node, "yaml")
    return None if name in SAFE_YAML else name


def test_what_is_listed_is_there() -> None:
    listed = {*WRITES, *(one for held in OPENS_PROGRAMS.values() for one in held)}
    assert listed <= set(trees())
    assert hasattr(yaml, "safe_dump")
