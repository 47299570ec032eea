"""What may be in the archive of a program before torch reads it.

``torch.export.load`` (torch 2.13) unpickles records that the archive says are pickled without
``weights_only``, gives texts of its JSON to SymPy, which evaluates them, and loads libraries that
lie in it. What ``torch.export.save`` writes of plain tensors has none of these.
"""

from __future__ import annotations

import ast
import json
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lpot_lightning.artifacts.archives import check_records
from lpot_lightning.artifacts.storage import read_tensors
from lpot_lightning.machine.numbers import shown_size

MAX_JSON = 256 << 20
"""Of a record; that of a graph of 10,000 ops has some 10 MB."""
_RAW = re.compile(r"data/(weights/weight|constants/tensor)_\d+|byteorder|version|archive_\w+")
_BESIDES = (".data/", "extra/")
_TARGET = re.compile(r"torch\.ops\.\w+\.\w+(\.\w+)?|torch\._?sym_\w+|_operator\.\w+|math\.\w+")
_FUNCTION = re.compile(r"[A-Z][A-Za-z]{1,20}(_[a-z]{1,8})?|floor|ceiling")
_NAME = re.compile(r"[A-Za-z]\w{0,40}", re.ASCII)
_MAKES_FUNCTIONS = frozenset(("Lambda", "Function", "Subs"))
_LONGEST = 2000
_PLAIN = (
    *(ast.Expression, ast.BinOp, ast.UnaryOp, ast.Compare, ast.Constant, ast.Name, ast.Call),
    *(ast.Tuple, ast.Load, ast.operator, ast.unaryop, ast.cmpop),
)


def check_program(path: Path) -> None:
    """Refuse an archive that would have torch run code of it while it is opened.

    A graph may still compute whatever ops of torch compute.

    Args:
        path: of a zip archive that ends in ``.pt2``.

    Raises:
        ValueError: naming the record.
        ArtifactError: if a record of tensors holds something else.
        zipfile.BadZipFile: if it is no archive.
    """
    with path.open("rb") as file:
        check_records(file, path.stat().st_size)
        with zipfile.ZipFile(file) as archive:
            for record in archive.infolist():
                _check(archive, record)


def _check(archive: zipfile.ZipFile, record: zipfile.ZipInfo) -> None:
    name = record.filename.partition("/")[2] or record.filename
    if record.is_dir() or _RAW.fullmatch(name) or name.startswith(_BESIDES):
        return
    if name.endswith(".json"):
        if record.file_size > MAX_JSON:
            raise ValueError(f"its record `{name}` has {shown_size(record.file_size, binary=True)}")
        for fault in _faults(json.loads(archive.read(record))):
            raise ValueError(f"its record `{name}` has {fault}, which torch would run")
    elif name.endswith(".pt"):
        if record.file_size:
            read_tensors(archive.read(record), name)
    else:
        raise ValueError(f"its record `{name[:100]}` is none that a program of plain tensors has")


def _faults(plain: Any) -> Iterator[str]:
    """Yield what torch would unpickle, evaluate or call."""
    left = [plain]
    while left:
        one = left.pop()
        if isinstance(one, dict):
            yield from _faults_of(one)
        left += one.values() if isinstance(one, dict) else one if isinstance(one, list) else []


def _faults_of(held: dict[str, Any]) -> Iterator[str]:
    if held.get("use_pickle") or str(held.get("path_name")).startswith(("opaque", "custom")):
        yield "a pickle"
    expression, target = held.get("expr_str"), held.get("target")
    if expression is not None and not _is_arithmetic(expression):
        yield f"the expression `{str(expression)[:100]}`"
    if "inputs" in held and isinstance(target, str) and not _TARGET.fullmatch(target):
        yield f"the op `{target[:100]}`"


def _is_arithmetic(text: Any) -> bool:
    """Whether a text is an expression of symbols, numbers and functions of such."""
    if not isinstance(text, str) or len(text) > _LONGEST:
        return False
    try:
        nodes = [*ast.walk(ast.parse(text, mode="eval"))]
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    return all(_is_plain(node) for node in nodes)


def _is_plain(node: ast.AST) -> bool:
    if isinstance(node, ast.Constant):
        value = node.value  # torch writes `Symbol('s77', positive=True, integer=True)`
        return isinstance(value, int | float) or (isinstance(value, str) and _is_name(value))
    if isinstance(node, ast.Call):
        return isinstance(node.func, ast.Name) and _may_call(node.func.id)
    if isinstance(node, ast.keyword):
        return node.arg is not None
    return isinstance(node, _PLAIN) and not (isinstance(node, ast.Name) and "__" in node.id)


def _is_name(text: str) -> bool:
    return _NAME.fullmatch(text) is not None and "__" not in text


def _may_call(name: str) -> bool:
    return _FUNCTION.fullmatch(name) is not None and name not in _MAKES_FUNCTIONS
