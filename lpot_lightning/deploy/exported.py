"""What an export came to."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from lpot_lightning.machine.columns import aligned
from lpot_lightning.machine.numbers import shown_number, shown_size
from lpot_lightning.machine.shown_in_short import Cells, ShownInShort
from lpot_lightning.timing.ratio import Ratio


@dataclass(frozen=True, kw_only=True)
class Checked:
    """How near a file is to the model that it was made of, on calibration data.

    Args:
        runtime: what ran it, with its version.
        samples: how many samples were compared.
        largest: the largest difference of an output from the program that was written.
        relative: the length of all differences from it, over that of the outputs.
        from_int8: the same, from what the model itself gives.
        agreement: the share of samples of which the greatest output is the same one; ``None``
            where outputs are no scores.
        int8_ops: ops that the runtime computes in int8; ``None`` where it does not tell.
        ms: milliseconds a batch, in turns with the model.
        speedup: the model's time in torch over the file's.
    """

    runtime: str
    samples: int
    largest: float
    relative: float
    from_int8: float
    agreement: float | None
    int8_ops: int | None
    ms: float
    speedup: Ratio | None


@dataclass(frozen=True, kw_only=True, repr=False)
class Exported(ShownInShort):
    """A file that holds a model.

    ``print`` shows it in a few lines, a notebook as a small table.

    Args:
        path: of the file.
        form: ``onnx``, ``openvino``, ``pt2``, ``aoti`` or ``torchscript``.
        target: the runtime that it is made for.
        bytes: of the file, and of what lies beside it.
        inputs: names of its inputs, each with its shape; sizes that may be any are names.
        outputs: names of its outputs.
        int8_ops: ops of the program that are int8.
        kept_ops: others, that compute in floats with weights that are kept as int8.
        checked: how near it is; ``None`` where it was not checked.
        monitor: name of the metric.
        accuracy: the file's, by the whole validation loop; ``None`` where it was not judged.
        int8_accuracy: the model's.
        notes: what else there is to say, each one sentence.
    """

    path: Path
    form: str
    target: str
    bytes: int
    inputs: dict[str, tuple[int | str, ...]]
    outputs: tuple[str, ...]
    int8_ops: int
    kept_ops: int = 0
    checked: Checked | None = None
    monitor: str = ""
    accuracy: float | None = None
    int8_accuracy: float | None = None
    notes: tuple[str, ...] = ()

    def table(self) -> str:
        """Return it as a table for people."""
        return aligned(self._rows())

    def to_dict(self) -> dict[str, Any]:
        """Return all of it as plain values."""
        return {**asdict(self), "path": str(self.path)}

    def _grids(self) -> list[tuple[Cells, bool]]:
        return [(self._rows(), False)]

    def _rows(self) -> list[tuple[str, str]]:
        rows = [("file", f"{self.path} ({self.form} for {self.target})")]
        rows.append(("size", self._size))
        rows.append(("inputs", ", ".join(f"{name} {_shown(s)}" for name, s in self.inputs.items())))
        rows.append(("outputs", ", ".join(self.outputs)))
        return [*rows, *self._compared(), *(("note", note) for note in self.notes)]

    @property
    def _size(self) -> str:
        return shown_size(self.bytes)

    def _in_short(self) -> list[str]:
        ops = f"{self.int8_ops} ops int8"
        first = f"{self.path.name}: {self.form} for {self.target}, {self._size}, {ops}"
        one = self.checked
        if one is None:
            return [f"{first}, not checked"]
        parts = [f"checked in {one.runtime}: relative error {one.relative:.5f}"]
        if one.speedup is not None:
            parts.append(f"speed-up {one.speedup} over the model in torch")
        if self.accuracy is not None:
            parts.append(f"{self.monitor} {shown_number(self.accuracy)}")
        return [first, ", ".join(parts)]

    def _compared(self) -> list[tuple[str, str]]:
        rows: list[tuple[str, str]] = []
        one = self.checked
        if one is not None:
            rows.append(("checked in", f"{one.runtime}, {one.samples} samples"))
            rows.append(("int8 ops", f"{self.int8_ops}{_run(one.int8_ops)}"))
            if self.kept_ops:
                rows.append(("int8 weights", f"{self.kept_ops} more ops, which compute in floats"))
            rows.append(("relative error", f"{one.relative:.5f}, largest {one.largest:.4g}"))
            rows.append((f"from {self._model()} in torch", f"{one.from_int8:.5f}"))
            if one.agreement is not None:
                rows.append(("same answer", f"{one.agreement:.2%} of the samples"))
            rows.append(("time a batch", f"{one.ms:.3f} ms"))
            if one.speedup is not None:
                rows.append(("speed-up", f"{one.speedup} over the model in torch"))
        if self.accuracy is not None:
            int8 = (
                ""
                if self.int8_accuracy is None
                else f" ({self._model()} in torch {self.int8_accuracy:.4f})"
            )
            rows.append((self.monitor, f"{self.accuracy:.4f}{int8}"))
        return rows

    def _model(self) -> str:
        return "int8" if self.int8_ops else "the model"


def _shown(shape: tuple[int | str, ...]) -> str:
    return f"[{', '.join(map(str, shape))}]"


def _run(count: int | None) -> str:
    return "" if count is None else f", run as {count}"
