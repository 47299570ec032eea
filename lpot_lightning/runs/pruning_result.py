"""What a pruning came to."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Literal

from torch import nn

from lpot_lightning.errors import ArtifactError, LpotError, PruningError, in_short
from lpot_lightning.machine.files import read_file
from lpot_lightning.pruning.pruners import LayerSparsity
from lpot_lightning.tuning.score import Criterion

PruningStatus = Literal["met", "not_met"]
SHOWN = 30
_DAMAGE = (ValueError, TypeError, KeyError, AttributeError, RecursionError, LpotError)


@dataclass(frozen=True, kw_only=True)
class PruningResult:
    """What a pruning came to.

    Args:
        status: ``"met"`` if the model is good enough and every pruner reached its target, else
            ``"not_met"``.
        reached: whether every pruner reached its target.
        monitor: name of the metric that judged.
        criterion: how much worse than the baseline was allowed.
        baseline: the dense model's accuracy.
        accuracy: the pruned model's.
        layers: how sparse each pruned parameter is, as it was trained: where channels were cut
            afterwards, before that.
        unprunable: layers that keep all channels, with the reason; only for ``pattern: channel``.
        parameters: how many there are, before and after; less only where channels were cut.
        macs: multiply-accumulates of one sample, before and after; ``None`` where nothing was cut.
        speedup: seconds of one step, dense over pruned, medians of interleaved runs; ``None`` where
            nothing was cut: zeros alone make a dense kernel no faster.
        workspace: where the files are; ``None`` where none were asked for.
        held: the ``model``; ``None`` in a result that was read from its file.
    """

    status: PruningStatus
    reached: bool
    monitor: str
    criterion: Criterion
    baseline: float
    accuracy: float
    layers: tuple[LayerSparsity, ...]
    unprunable: Mapping[str, str]
    parameters: tuple[int, int]
    macs: tuple[int, int] | None
    speedup: float | None
    workspace: Path | None
    held: nn.Module | None = field(default=None, repr=False, compare=False)

    @property
    def model(self) -> nn.Module:
        """The pruned model, a second object, in eval mode, on the CPU.

        Raises:
            PruningError: in the main process of a fit that ran in processes of its own, as with
                ``ddp_spawn``; the error says how to restore the model.
        """
        if self.held is None:
            folder = self.workspace
            raise PruningError(
                "the fit ran in processes of its own, which the pruned model ended with; restore"
                f" it: `lpot_lightning.load('{folder}/pruned_configure.yaml',"
                f" '{folder}/pruned_model_weights.pt', model)`"
            )
        return self.held

    @property
    def sparsity(self) -> float:
        """The share of zeros in all pruned parameters together."""
        return sparsity_of_all(self.layers)

    @property
    def drop(self) -> float:
        """How much worse the pruned model is, in the unit of the criterion; negative is better."""
        return self.criterion.drop(self.accuracy, self.baseline)

    def to_json(self) -> bytes:
        """Return everything but the model, to be read by ``read_pruning_result``."""
        plain = {one.name: getattr(self, one.name) for one in fields(self) if one.name != "held"}
        plain |= {
            "criterion": asdict(self.criterion),
            "layers": [asdict(layer) for layer in self.layers],
            "workspace": str(self.workspace),
        }
        return json.dumps(plain, indent=1).encode()

    def table(self) -> str:
        """Return the run as a table for people."""
        before, after = self.parameters
        rows = [
            (f"dense {self.monitor}", f"{self.baseline:.4f}"),
            (f"pruned {self.monitor}", f"{self.accuracy:.4f}"),
            ("drop / allowed", f"{self._shown(self.drop)} / {self._shown(self.criterion.goal)}"),
            ("status", self.status if self.reached else f"{self.status}, target not reached"),
            ("sparsity", f"{self.sparsity:.2%} of the pruned weights"),
            ("parameters", f"{before:,}" + (f" -> {after:,}" if after != before else "")),
        ]
        if self.macs is not None:
            rows.append(("MACs a sample", f"{self.macs[0]:,} -> {self.macs[1]:,}"))
        if self.speedup is not None:
            rows.append(("speed-up", f"{self.speedup:.2f}x"))
        if self.workspace is not None:
            rows.append(("workspace", str(self.workspace)))
        width = max(len(name) for name, _ in rows)
        table = "\n".join(f"{name:<{width}}  {value}" for name, value in rows)
        return f"{table}\n\n{self.layer_table()}"

    def layer_table(self, most: int = SHOWN) -> str:
        """Return how sparse each pruned parameter is; the first ``most`` of them."""
        head = ("parameter", "shape", "pattern", "sparsity", "target")
        rows = [head, *(_cells(layer) for layer in self.layers[:most])]
        widths = [max(len(row[i]) for row in rows) for i in range(len(head))]
        lines = [
            "  ".join(
                cell.ljust(width) if number < 3 else cell.rjust(width)
                for number, (cell, width) in enumerate(zip(row, widths, strict=True))
            ).rstrip()
            for row in rows
        ]
        if len(self.layers) > most:
            lines.append(f"… and {len(self.layers) - most} more")
        return "\n".join(lines)

    def _shown(self, drop: float) -> str:
        return f"{drop:.2%}" if self.criterion.relative else f"{drop:.4f}"


def _cells(layer: LayerSparsity) -> tuple[str, ...]:
    return (
        layer.name,
        "x".join(map(str, layer.shape)),
        layer.pattern,
        f"{layer.sparsity:.2%}",
        "-" if layer.target is None else f"{layer.target:.2%}",
    )


def sparsity_of_all(layers: tuple[LayerSparsity, ...]) -> float:
    """Return the share of zeros in several parameters together."""
    zeros = sum(layer.sparsity * layer.elements for layer in layers)
    return zeros / max(1, sum(layer.elements for layer in layers))


def read_pruning_result(path: Path) -> PruningResult:
    """Return what ``PruningResult.to_json`` wrote; its ``model`` is not there.

    Raises:
        ArtifactError: if the file cannot be read, or is not one of ours.
    """
    content = read_file(path)
    try:
        plain = json.loads(content)
        layers = [{**layer, "shape": tuple(layer["shape"])} for layer in plain["layers"]]
        plain |= {
            "criterion": Criterion(**plain["criterion"]),
            "layers": tuple(LayerSparsity(**layer) for layer in layers),
            "parameters": tuple(plain["parameters"]),
            "macs": None if plain["macs"] is None else tuple(plain["macs"]),
            "workspace": Path(plain["workspace"]),
        }
        return PruningResult(**plain)
    except _DAMAGE as error:  # whatever the values of others lead to
        reason = in_short(error)
        raise ArtifactError(f"`{path}` is not what lpot_lightning writes: {reason}") from error
