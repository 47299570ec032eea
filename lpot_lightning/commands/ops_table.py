"""The ops of a workspace as a table."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from lpot_lightning.machine.columns import aligned

TensorForms = tuple[str, str]
"""What activation and weight of an op are, each in short."""
_COLUMNS = ("activation", "weight")
_KEYS = ("dtype", "scheme", "granularity", "group_size", "algorithm")


def ops_table(ops: Mapping[str, Any]) -> str:
    """Return a row for each op of a tune config; what most have in common is said once, below.

    Args:
        ops: the section ``op`` of a tune config.
    """
    forms = {name: _forms(op) for name, op in ops.items()}
    usual = [_usual(one[number] for one in forms.values() if one) for number in range(2)]
    shown = [n for n in range(2) if any(one and one[n] != usual[n] for one in forms.values())]
    rows = [["op", "kind", "precision", "scale", *(_COLUMNS[n] for n in shown)]]
    for name, op in ops.items():
        own = forms[name] or usual
        rows.append([*_op(str(name), op), *("" if own[n] == usual[n] else own[n] for n in shown)])
    notes = [
        [f"{'other' if n in shown else 'all'} {_COLUMNS[n]}s", one]
        for n, one in enumerate(usual)
        if one
    ]
    return f"{aligned(rows)}\n\n{aligned(notes)}" if notes else aligned(rows)


def _op(name: str, op: Mapping[str, Any]) -> list[str]:
    row = [name, str(op.get("kind", "")), str(op["rung"])]
    if op["rung"] == "fp32":
        return [*row, ""]
    scale = op["activation"].get("scale")
    return [*row, f"{scale:.3g}" if isinstance(scale, float) else "-"]


def _forms(op: Mapping[str, Any]) -> TensorForms | None:
    if op["rung"] == "fp32":
        return None
    return _tensor(op["activation"]), _tensor(op.get("weight"))


def _tensor(plain: Any) -> str:
    """Return ``uint8 asym per_tensor kl``."""
    if not isinstance(plain, dict):
        return "-"
    return " ".join(str(plain[key]) for key in _KEYS if key in plain)


def _usual(forms: Iterable[str]) -> str:
    """Return what most ops have, if more than one has it."""
    counts = Counter(forms).most_common(1)
    return counts[0][0] if counts and counts[0][1] > 1 else ""
