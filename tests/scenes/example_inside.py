"""What every example of a docstring can name: everything that the package defines."""

from __future__ import annotations

import ast
import copy
import functools
import importlib
from pathlib import Path

import yaml
from torch import nn
from users_things import Things

import lpot_lightning

ROOT = Path(lpot_lightning.__file__).parent


@functools.cache
def homes() -> dict[str, set[str]]:
    """Return in which modules of the package a name is defined."""
    found: dict[str, set[str]] = {}
    for path in ROOT.rglob("*.py"):
        for node in ast.parse(path.read_text()).body:
            targets = getattr(node, "targets", [getattr(node, "target", None)])
            for name in (
                getattr(node, "name", None),
                *(getattr(one, "id", None) for one in targets),
            ):
                if name:
                    dotted = ".".join(path.relative_to(ROOT.parent).with_suffix("").parts)
                    found.setdefault(name, set()).add(dotted)
    return found


class Inside(Things):
    """Everything of the package by its name."""

    def _bring(self, name: str) -> None:
        super()._bring(name)
        if name not in self.names and len(homes().get(name, ())) == 1:
            self.names[name] = getattr(importlib.import_module(*homes()[name]), name)
        elif name in ("copy", "yaml", "F"):
            self.names[name] = {"copy": copy, "yaml": yaml, "F": nn.functional}[name]
