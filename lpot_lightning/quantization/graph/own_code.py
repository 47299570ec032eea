"""Functions that Dynamo captures by themselves: it keeps what it knows by their code."""

from __future__ import annotations

import builtins
import itertools
import types
from typing import Any

from torch._C._dynamo.eval_frame import reset_code

_NAMES = itertools.count(1)


def with_own_code(function: types.FunctionType) -> types.FunctionType:
    """Return ``function`` with code and globals of its own; it may name builtins alone.

    Dynamo counts the graphs of a code object, whichever module it runs for: a few models of one
    class would use up each other's. And it puts what it has compiled into the globals, and leaves
    it there: so it goes with the function.
    """
    name = f"call_{next(_NAMES)}"  # code objects that are equal are one to Dynamo
    code = function.__code__.replace(co_name=name, co_qualname=name)
    own = {"__builtins__": builtins, "__name__": __name__}
    return types.FunctionType(code, own, name, None, function.__closure__)


def forget(code: types.CodeType, names: dict[str, Any]) -> None:
    """Let Dynamo know nothing any more of what ``with_own_code`` gave: its code, its globals."""
    reset_code(code)
    names.update(dict.fromkeys(names))  # Dynamo takes out by name what it has put there, later
