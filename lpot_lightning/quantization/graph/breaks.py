"""Where Dynamo could not go on with a graph, and why."""

from __future__ import annotations

import inspect
import re
import sysconfig
import types
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import dropwhile
from pathlib import Path
from traceback import FrameSummary

import torch
from torch import fx, nn

_NOT_YOURS = str(Path(torch.__file__).parent), str(Path(__file__).parents[2])
_PYTHON = sysconfig.get_paths()["stdlib"]
_INSTALLED = re.compile(r"[/\\](site|dist)-packages[/\\]")
_LIGHTNING = re.compile(
    _INSTALLED.pattern
    + r"(lightning|lightning_fabric|lightning_utilities|pytorch_lightning|torchmetrics)[/\\]"
)
_MOST = 200
TURNED_OFF = "it is turned off"
RAISES = "the code itself raises this while a graph is made of it: "


def _is_yours(frame: FrameSummary) -> bool:
    """Whether a line may be the user's: it is not torch's, Lightning's, Python's or ours."""
    file = frame.filename
    if _INSTALLED.search(file):
        return not (file.startswith(_NOT_YOURS) or _LIGHTNING.search(file))
    return not file.startswith((*_NOT_YOURS, _PYTHON))


def _is_ours(frame: FrameSummary) -> bool:
    return frame.filename.startswith(_NOT_YOURS[1])


@dataclass(frozen=True)
class GraphBreak:
    """A place in code that no graph holds.

    Args:
        reason: the first line of what Dynamo says, or ``RAISES`` and what the user's code raised.
        file: that has the line; empty where it is all of a ``forward``.
        line: its number.
        text: of it; empty where the file cannot be read.
    """

    reason: str
    file: str = ""
    line: int = 0
    text: str = ""


class Breaks:
    """The breaks of the graphs of one module, each place once.

    Attributes:
        found: each, with the lines of the user's code that lead there.

    Example::

        breaks = Breaks()
        breaks.note_graph(graph)  # as a backend of ``torch.compile`` gets it
        breaks.by_module(net)  # {"gate": GraphBreak(...)}
    """

    def __init__(self) -> None:
        self.found: dict[GraphBreak, tuple[FrameSummary, ...]] = {}
        self._has_pieces = False

    @property
    def are_told(self) -> bool:
        """Whether a reason is known for each sign of a break."""
        return bool(self.found) or not self._has_pieces

    def note_graph(self, graph: fx.GraphModule) -> None:
        """Take in why a graph ends where it does; most end with their function."""
        why = getattr(graph, "compile_subgraph_reason", None)
        if why is None:
            return
        # the graph of a whole `forward` begins where we call it, that of a piece in the user's code
        self._has_pieces |= not (why.user_stack and _is_ours(why.user_stack[0]))
        if why.graph_break:
            self.note(str(why.reason), why.user_stack)

    def note(self, reason: str, stack: Sequence[FrameSummary] = ()) -> None:
        """Take in why a function is no graph, and where, the outermost call first."""
        inside = list(dropwhile(_is_ours, stack))
        if inside and _is_ours(inside[-1]):
            return  # what we ourselves leave out of graphs
        frames = [one for one in inside if _is_yours(one)]
        said = reason.strip().partition("\n")[0][:_MOST].rstrip(" .")
        found = GraphBreak(said)
        if frames:
            last = frames[-1]
            found = GraphBreak(said, last.filename, last.lineno or 0, (last.line or "").strip())
        self.found.setdefault(found, tuple(frames))

    def by_module(self, root: nn.Module) -> dict[str, GraphBreak]:
        """Return the first break in the code of each module inside of ``root``, by its path."""
        firsts: dict[type[nn.Module], str] = {}
        for path, module in root.named_modules() if self.found else ():
            firsts.setdefault(type(module), path)
        found: dict[str, GraphBreak] = {}
        for one, frames in self.found.items():
            found.setdefault(_path_of(frames, firsts), one)
        return found


def _path_of(frames: Sequence[FrameSummary], firsts: Mapping[type[nn.Module], str]) -> str:
    """Return the path of the first module whose class has the innermost line that is a method's.

    Args:
        frames: lines of code, the outermost call first.
        firsts: the first path of a module of each class.
    """
    for frame in reversed(frames):
        for kind, path in firsts.items():
            if any(_holds(code, frame) for code in _codes(kind)):
                return path
    return ""


def _codes(kind: type[nn.Module]) -> Iterator[types.CodeType]:
    for one in kind.__mro__:
        if not one.__module__.startswith("torch."):
            for held in vars(one).values():
                # other objects are the user's, and may do anything when asked for an attribute
                method = held.__func__ if isinstance(held, staticmethod | classmethod) else held
                inner = inspect.unwrap(method) if isinstance(method, types.FunctionType) else None
                if isinstance(inner, types.FunctionType):
                    yield inner.__code__


def _holds(code: types.CodeType, frame: FrameSummary) -> bool:
    lines = (line for *_, line in code.co_lines())
    return code.co_filename == frame.filename and frame.lineno in lines
