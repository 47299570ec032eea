"""The house: rooms on floors, one door for what is not ours, tests that mirror the package."""

from __future__ import annotations

import ast
import functools
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import lpot_lightning

ROOT = Path(lpot_lightning.__file__).parent
TESTS = Path(__file__).parent
FLOORS = (
    ("errors", "version"),
    ("machine",),
    ("recipe", "training_log"),
    ("module", "conf"),
    ("tuning", "quantization", "pruning", "data"),
    ("artifacts",),
    ("judging", "timing"),
    ("deploy",),
    ("report",),
    ("runs",),
    ("trainer", "lpot"),
    ("callbacks", "common"),
    ("selftest",),
    ("commands",),
    ("__init__", "console"),
)
FLOOR = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}
INSIDE = {
    "trainer": (
        "package",
        "checks monitor precision shown.printing shown.progress shown.trials_figure shown.loggers"
        " readable scorers partial_metric",
        "keepers cpu_strategy borrowed_loop borrowed_validate watched_pass loaders checkpoint",
        "ending passes fit_validations",
        "weights calibration validation_judge",
        "validation_feed",
        "session",
        "tuned_run",
    ),
    "runs": (
        "reporting.report_file reporting.surroundings trained paying_result frozen",
        "reporting.op_facts result workspace",
        "pruning_result",
        "options entering job objective tuning_result pruned_files run_history model_watch",
        "reporting.reporter reporting.pruning_reporter",
        "causes.words",
        "causes.hurt causes.known",
        "causes.all_causes",
        "ranker op_selection paying speed preparation training channels best_model",
        "quantize prune",
    ),
    "lpot": (
        "given benchmark_given imperative train_block q_func",
        "plain_judge data_sources",
        "quantize_plainly prune_plainly benchmark_call saving",
        "quantization pruning benchmark",
    ),
    "tuning": (
        "score sensitivity wish countdown journal causes about",
        "findings",
        "ladder",
        "space trial pareto repair screening history in_words",
        "strategies.strategy strategies.steps strategies.combinations strategies.sampled"
        " strategies.ranking strategies.prefixes strategies.surrogate strategies.bracket"
        " strategies.give_back loop",
        "strategies.auto strategies.basic strategies.bayesian strategies.exhaustive"
        " strategies.mse strategies.random strategies.tpe",
        "strategies.table",
    ),
    "pruning": (
        "channels.layers channels.entering channels.group names",
        "channels.trace channels.plan_reader channels.plan channels.cut channels.cost"
        " channels.importance",
        "channels.coupling channels.proof channels.head_probe channels.heads channels.finding"
        " arguments parameters patterns schedule untrained mask_ranking",
        "copies",
        "masks",
        "weights",
        "importance head_importance pruners heads channel_pruner",
        "model_pruner",
    ),
    "data": (
        "batches filters loader places postprocess metric",
        "images source meter regression",
        "conversions geometry classification dummy mnist cifar image_folder bert",
        "transforms datasets metrics",
        "block",
    ),
    "deploy": (
        "options origin exported comparing requirements names",
        "unfinished",
        "calls recording stored export_records",
        "whole_graph plain_program held_rows",
        "running.runtime running.fakes running.program_records running.onnx_runtime"
        " running.openvino_runtime running.torch_runtime running.runtimes running.file_model",
        "exported_program",
        "onnx.pairs onnx.kept onnx.placing onnx.onnx_file onnx.faults native.steps native.pt2"
        " native.aoti native.torchscript",
        "writing",
        "checking exchanged",
        "export",
        "asking",
    ),
    "report": (
        "facts markup numbers",
        "charts rungs",
        "verdict trials ops precision_map speed training pruned exports surroundings",
        "page",
    ),
    "selftest": (
        "file_calls scene mutations",
        "forked little_run",
        "kills",
        "disk_faults",
        "trying",
    ),
    "conf": (
        "loader document blocks plain",
        "cursor schema",
        "named ownership dataloader benchmarking exporting",
        "buildable evaluation train tuning quantization pruning",
        "reader",
    ),
}
"""The floors inside of the large rooms, the lowest first."""
NO_ROOM = {
    "benchmarks": "mirrors the folder of the benchmarks",
    "documents": "what README, the pages and the docstrings show: each block of it runs",
    "examples": "the examples, run as a user does",
    "whole_runs": "what no single file answers for: zoos, processes, kills, faults of others",
    "scenes": "no tests: what several of them need",
    "attacks": "hostile and damaged files, whichever call reads them",
    "wrong_inputs": "what newcomers get wrong, and what they are told",
    "museum": "workspaces of every format version",
}
MIRRORS_NOTHING = {
    "conf/test_every_field.py": "each field of the YAML, whichever file reads it",
    "conf/test_templates.py": "the commented files that are shipped",
    "tuning/test_strategies.py": "one contract for all strategies",
    "data/test_datasets.py": "all files of data sets, by their names in the YAML",
}


@functools.cache
def files() -> dict[str, Path]:
    """Return the dotted name of each file of the package, without the package's own."""
    return {
        ".".join(path.relative_to(ROOT).with_suffix("").parts): path for path in ROOT.rglob("*.py")
    }


@functools.cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


@functools.cache
def imported(path: Path) -> tuple[str, ...]:
    """Return what a file imports, also inside of functions; ``a.b`` of ``from a import b``."""
    return tuple(_imported(path))


def _imported(path: Path) -> Iterator[str]:
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            for alias in node.names:
                inner = f"{node.module}.{alias.name}".removeprefix("lpot_lightning.")
                yield f"lpot_lightning.{inner}" if inner in files() else str(node.module)


def ours(path: Path) -> set[str]:
    found = (name for name in imported(path) if name.split(".")[0] == "lpot_lightning")
    return {name.removeprefix("lpot_lightning").removeprefix(".") for name in found}


def outside(path: Path) -> set[str]:
    return {name for name in imported(path) if name.split(".")[0] != "lpot_lightning"}


def room_of(dotted: str) -> str:
    return dotted.split(".")[0]


def test_imports_go_down_only() -> None:
    faults = [
        f"{here} imports {there or 'the face'}"
        for here, path in files().items()
        for there in ours(path)
        if not there
        or (room_of(there) != room_of(here) and FLOOR[room_of(there)] >= FLOOR[room_of(here)])
    ]
    assert not faults


@pytest.mark.parametrize("room", INSIDE)
def test_inside_a_room_imports_do_not_go_up(room: str) -> None:
    floor = {f"{room}.{name}": n for n, names in enumerate(INSIDE[room]) for name in names.split()}
    files_here = {name for name in files() if room_of(name) == room and name != f"{room}.__init__"}
    assert {name for name in files_here if not name.endswith(".__init__")} == set(floor)
    faults = [
        f"{here} imports {there}"
        for here in floor
        for there in ours(files()[here]) & set(floor)
        if floor[there] > floor[here]
    ]
    assert not faults


def test_the_search_knows_no_more_than_it_needs() -> None:
    """It imports recipes, confs and files, and of others neither torch nor Lightning."""
    allowed = {"tuning", "recipe", "training_log", "conf", "machine", "errors", "version"}
    for here, path in files().items():
        if room_of(here) == "tuning":
            assert {room_of(one) for one in ours(path)} <= allowed, here


def test_no_file_needs_another_that_needs_it() -> None:
    graph = {here: ours(path) for here, path in files().items()}
    while leaves := {name for name, needs in graph.items() if not needs & set(graph)}:
        graph = {name: needs for name, needs in graph.items() if name not in leaves}
    assert not graph


def test_every_room_keeps_to_its_libraries() -> None:
    faults = []
    for here, path in files().items():
        room, used = room_of(here), {name.split(".")[0] for name in outside(path)}
        forbidden = {"pickle", "torchvision", "dill", "marshal", "shelve"}
        if room in ("errors", "version", "recipe", "conf", "tuning"):
            forbidden |= {"torch"}
        if room not in ("trainer", "callbacks", "commands", "__init__"):
            forbidden |= {"lightning"}
        if room not in ("trainer", "callbacks", "commands", "data", "__init__"):
            forbidden |= {"torchmetrics"}
        faults += [f"{here} uses {one}" for one in used & forbidden]
    assert not faults


def test_a_run_can_be_read_of_without_torch() -> None:
    """Locks, files and the YAML are there before torch is, which takes seconds."""
    for name in ("lock", "files", "reading", "own_files", "plain_yaml", "signals", "columns"):
        assert "torch" not in {one.split(".")[0] for one in outside(files()[f"machine.{name}"])}


def test_the_privates_of_lightning_are_behind_one_door() -> None:
    faults = [
        f"{here}: {what}"
        for here, path in files().items()
        if room_of(here) != "trainer"
        for what in privates_of_lightning(path)
    ]
    assert not faults


def privates_of_lightning(path: Path) -> Iterator[str]:
    """Return private names that are imported from Lightning, or asked of a Trainer."""
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("lightning"):
            yield from (one.name for one in node.names if one.name.startswith("_"))
        if isinstance(node, ast.Attribute) and node.attr.startswith("_") and "__" not in node.attr:
            owner = ast.unparse(node.value)
            if owner.split(".")[0].endswith("trainer") or ".trainer" in owner:
                yield ast.unparse(node)


def test_nothing_is_left_of_torchs_legacy_quantization() -> None:
    for here, path in files().items():
        assert not [name for name in imported(path) if name.startswith("torch.ao")], here
        for word in ("torch.qint", "torch.quint", "torch.quantize_"):
            assert word not in path.read_text(), here


def test_nothing_is_unpickled_without_weights_only() -> None:
    for path in files().values():
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.Call) and ast.unparse(node.func) in ("torch.load", "_load"):
                given = {word.arg: ast.unparse(word.value) for word in node.keywords}
                assert given.get("weights_only") == "True", path


def test_every_file_says_what_it_is_for() -> None:
    silent = [here for here, path in files().items() if not ast.get_docstring(tree(path))]
    assert not silent


def test_a_room_says_what_enters_and_what_leaves() -> None:
    for room in {room_of(here) for here in files() if "." in here}:
        said = ast.get_docstring(tree(ROOT / room / "__init__.py")) or ""
        assert "In: " in said, room
        assert "Out: " in said, room
        for name in (word.strip("`/") for word in said.split() if word.startswith("`")):
            if name.isidentifier() and name.islower():
                assert (ROOT / room / name).is_dir() or f"{room}.{name}" in files(), (room, name)


def test_no_room_is_a_drawer() -> None:
    names = [here.rpartition(".")[0] for here in files()]
    assert {room: names.count(room) for room in set(names) if names.count(room) > 25} == {}


def test_one_name_of_a_class_has_one_meaning() -> None:
    """Names of types count, too, and private ones: they are what one searches for."""
    homes: dict[str, set[str]] = {}
    for here, path in files().items():
        for name in types_of(path):
            homes.setdefault(name, set()).add(here)
    assert {name: places for name, places in homes.items() if len(places) > 1} == {}


def types_of(path: Path) -> Iterator[str]:
    """Return the names of classes and types that a file makes."""
    yield from (node.name for node in ast.walk(tree(path)) if isinstance(node, ast.ClassDef))
    for node in tree(path).body:
        if isinstance(node, ast.Assign) and not ast.unparse(node.value).startswith("TypeVar"):
            named = [one.id for one in node.targets if isinstance(one, ast.Name)]
            yield from (name for name in named if name[0].isupper() and not name.isupper())


def test_records_of_more_than_four_fields_are_built_by_name() -> None:
    faults = [
        f"{here}.{record.name}"
        for here, path in files().items()
        for record, decorator in records_of(path)
        if len(fields_of(record)) > 4 and "kw_only=True" not in decorator
    ]
    assert not faults


def records_of(path: Path) -> Iterator[tuple[ast.ClassDef, str]]:
    """Return the dataclasses of a file, each with its decorator."""
    for node in ast.walk(tree(path)):
        for decorator in map(ast.unparse, getattr(node, "decorator_list", ())):
            if isinstance(node, ast.ClassDef) and decorator.startswith("dataclass"):
                yield node, decorator


def fields_of(record: ast.ClassDef) -> list[str]:
    annotated = [node for node in record.body if isinstance(node, ast.AnnAssign)]
    return [
        ast.unparse(one.target)
        for one in annotated
        if "ClassVar" not in ast.unparse(one.annotation)
    ]


def test_the_tests_mirror_the_package() -> None:
    faults = []
    for path in TESTS.rglob("test_*.py"):
        name = path.relative_to(TESTS)
        room, file = name.parts[0], path.stem.removeprefix("test_")
        if len(name.parts) == 1 or room in NO_ROOM or name.as_posix() in MIRRORS_NOTHING:
            continue
        if file.startswith("fx_") and room == "quantization":
            continue
        if not list((ROOT / name.parent).rglob(f"{file}.py")):
            faults.append(name.as_posix())
    assert not faults


def test_what_is_said_to_mirror_nothing_is_there() -> None:
    assert all((TESTS / name).is_file() for name in MIRRORS_NOTHING)
    assert all((TESTS / name).is_dir() for name in NO_ROOM)


def test_the_face_is_sorted_and_complete() -> None:
    assert lpot_lightning.__all__ == sorted(lpot_lightning.__all__) == list(lpot_lightning._HOMES)
    assert set(lpot_lightning.__all__) <= set(dir(lpot_lightning))
    for name in lpot_lightning.__all__:
        assert getattr(lpot_lightning, name).__doc__


def test_the_face_imports_what_is_asked_for_and_no_more() -> None:
    # Cores are pinned before torch comes.
    script = (
        "import sys, lpot_lightning, lpot_lightning.conf.reader;"
        "import lpot_lightning.timing.in_process, lpot_lightning.timing.cores;"
        "print('torch' in sys.modules);"
        "from lpot_lightning import Benchmark; print('lightning' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.stdout.split() == ["False", "False"], done.stderr


def test_what_the_face_has_not() -> None:
    with pytest.raises(AttributeError, match="module `lpot_lightning` has no attribute `Quantise`"):
        _ = lpot_lightning.Quantise
