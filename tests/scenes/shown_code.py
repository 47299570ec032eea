"""Code that pages and docstrings show: where it stands, running it, and what it says it gives."""

from __future__ import annotations

import ast
import contextlib
import fnmatch
import io
import itertools
import re
import tokenize
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sybil import Document, Region
from sybil.document import PythonDocStringDocument
from sybil.parsers.abstract.lexers import BlockLexer
from sybil.parsers.markdown.lexers import DirectiveInHTMLCommentLexer, FencedCodeBlockLexer

NOT_RUN = "not run"
"""An HTML comment above a block, `<!-- not run: needs two nodes -->`, says why it is not."""
_FENCES = FencedCodeBlockLexer(r"[\w-]+")
_COMMENTS = DirectiveInHTMLCommentLexer(NOT_RUN, arguments="[^\n>]+?")
_EXAMPLES = BlockLexer(
    re.compile(r"^(?P<prefix>[ \t]*)Example::\n", re.MULTILINE),
    r"(\n\s*\Z|\n[ \t]{{0,{len_prefix}}}(?=\S))",
)


@dataclass(frozen=True)
class Block:
    """A piece of code, the file that shows it, and its first line there."""

    path: Path
    line: int
    language: str
    code: str
    why_not: str = ""

    @property
    def name(self) -> str:
        """The file name that the first line of it gives, `# ptq.yaml`, if it gives one."""
        first = re.match(r"# ([\w./-]+\.(?:yaml|py))\b", self.code)
        return first[1] if first else ""


def blocks_of(page: Path) -> list[Block]:
    """Return the blocks of a Markdown page that name a language, in their order."""
    document = Document(page.read_text(), str(page))
    found = [*_FENCES(document), *_COMMENTS(document)]
    return list(_read(page, document.text, sorted(found, key=lambda one: one.start)))


def _read(page: Path, text: str, regions: Iterable[Region]) -> Iterator[Block]:
    why_not = ""
    for one in regions:
        if "language" in one.lexemes:
            line = text.count("\n", 0, one.start) + 2
            language, code = _session(one.lexemes["language"], str(one.lexemes["source"]))
            yield Block(page, line, language, code, why_not)
        why_not = "" if "language" in one.lexemes else one.lexemes["arguments"]


def _session(language: str, code: str) -> tuple[str, str]:
    """Return what is typed in a block that shows an interpreter, and other blocks as they are."""
    typed = [line[4:] for line in code.splitlines() if line.startswith((">>> ", "... "))]
    return ("python", "\n".join(typed)) if code.startswith(">>> ") else (language, code)


def examples_of(file: Path) -> list[Block]:
    """Return what stands below `Example::` in the docstrings of a file."""

    def example(docstring: Document) -> Iterator[Region]:
        for one in _EXAMPLES(docstring):
            one.parsed = str(one.lexemes["source"]).strip("\n") + "\n"
            yield one

    shown = PythonDocStringDocument.parse(str(file), example)
    return [Block(file, one.line + 2, "python", one.parsed) for one in shown.examples()]


def run(block: Block, names: dict[str, Any], prepare: Callable[[ast.AST], None]) -> None:
    """Run a block, statement by statement, and hold its comments against what comes.

    Args:
        block: of Python.
        names: its namespace.
        prepare: called with each statement before it runs.
    """
    comments = _Comments(block.code)
    for statement in ast.parse(block.code).body:
        prepare(statement)
        shown = comments.after(statement)
        ast.increment_lineno(statement, block.line - 1)
        try:
            _run(statement, shown, block, names)
        except BaseException as error:
            error.add_note(f"{block.path}:{statement.lineno}: {ast.unparse(statement)}")
            raise


def _run(statement: ast.stmt, shown: str, block: Block, names: dict[str, Any]) -> None:
    if isinstance(statement, ast.Expr):
        _check(statement.value, shown, block, names)
    else:
        exec(_compiled(ast.Module([statement], []), block), names)  # noqa: S102


def _compiled(tree: ast.Module | ast.Expression, block: Block) -> Any:
    mode = "eval" if isinstance(tree, ast.Expression) else "exec"
    return compile(tree, str(block.path), mode, dont_inherit=True)


def _check(value: ast.expr, shown: str, block: Block, names: dict[str, Any]) -> None:
    """Evaluate an expression; a comment behind it that is a literal has to be what it gives.

    Of a `print` it has to be what that prints. `…` stands for anything.
    """
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        given = eval(_compiled(ast.Expression(value), block), names)  # noqa: S307
    try:
        said = ast.literal_eval(re.sub(r"…(?=[\])}])", "...", shown))
    except (ValueError, SyntaxError):  # words, or none
        return
    if isinstance(value, ast.Call) and ast.unparse(value.func) == "print":
        given, said = printed.getvalue().strip(), shown
    where = f"{block.path.name}:{value.lineno}: {ast.unparse(value)}"
    assert agrees(given, said), f"{where} gives {given!r}"


def agrees(given: Any, shown: Any) -> bool:
    """Return whether a value is the one shown: floats to their last digit, `…` for anything."""
    if hasattr(given, "tolist"):
        given = given.tolist()
    if isinstance(shown, float) and isinstance(given, int | float):
        digits = len(repr(shown).partition(".")[2])
        return abs(given - shown) <= 0.500001 * 10**-digits
    if isinstance(shown, str):
        return fnmatch.fnmatchcase(str(given), _escaped(shown).replace("…", "*"))
    if isinstance(shown, Mapping) and isinstance(given, Mapping):
        return list(given) == list(shown) and all(agrees(given[one], shown[one]) for one in shown)
    if isinstance(shown, list | tuple) and isinstance(given, Sequence):
        return _all_agree(given, shown)
    return bool(given == shown)


def _all_agree(given: Sequence[Any], shown: Sequence[Any]) -> bool:
    if shown and shown[-1] is ...:
        shown = shown[:-1]
        given = given[: len(shown)]
    alike = isinstance(given, type(shown)) and len(given) == len(shown)
    return alike and all(map(agrees, given, shown))


def _escaped(pattern: str) -> str:
    return re.sub(r"([*?[])", r"[\1]", pattern)


class _Comments:
    """The comments of a code, those behind it and those that have lines of their own."""

    def __init__(self, code: str) -> None:
        self._behind: dict[int, str] = {}
        self._alone: dict[int, str] = {}
        for token in tokenize.generate_tokens(io.StringIO(code).readline):
            if token.type == tokenize.COMMENT:
                lines = self._behind if token.line[: token.start[1]].strip() else self._alone
                lines[token.start[0]] = token.string.lstrip("# ")

    def after(self, statement: ast.stmt) -> str:
        """Return the comment behind a statement, else the lines of comment below it."""
        line = statement.end_lineno or 0
        if line in self._behind:
            return self._behind[line]
        below = itertools.takewhile(self._alone.__contains__, itertools.count(line + 1))
        return " ".join(self._alone[one] for one in below)
