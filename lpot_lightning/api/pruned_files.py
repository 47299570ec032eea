"""The files of a pruned model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lpot_lightning.api.pruning_result import PruningResult
from lpot_lightning.conf.schema import Conf
from lpot_lightning.files import open_folder, write_file
from lpot_lightning.quantization.configure import PRUNING
from lpot_lightning.quantization.fingerprint import fingerprint
from lpot_lightning.quantization.storage import Names, save
from lpot_lightning.version import VERSION

NAMES = Names("pruned_configure.yaml", "pruned_model_weights.pt")
RESULT = "pruning_result.json"


def save_pruned(folder: Path, result: PruningResult, conf: Conf) -> None:
    """Write ``pruned_configure.yaml``, ``pruned_model_weights.pt`` and ``pruning_result.json``.

    Raises:
        ArtifactError: if a file cannot be written; what was there before still loads.
    """
    open_folder(folder)
    state = nn.Module.state_dict(result.model)
    plain = {name: value for name, value in state.items() if isinstance(value, Tensor)}
    save(folder, _configure(result, conf), plain, NAMES)
    write_file(folder / RESULT, result.to_json())


def _configure(result: PruningResult, conf: Conf) -> dict[str, Any]:
    kind = "relative" if result.criterion.relative else "absolute"
    return {
        "framework": conf.model.framework,
        "model": conf.model.name,
        "approach": PRUNING,
        "versions": {"lpot_lightning": VERSION, "torch": str(torch.__version__)},
        "accuracy": {
            "monitor": result.monitor,
            "higher_is_better": result.criterion.higher_is_better,
            "criterion": {kind: result.criterion.goal},
            "baseline": result.baseline,
            "pruned": result.accuracy,
            "met": result.status == "met",
        },
        "sparsity": {
            "total": result.sparsity,
            "reached": result.reached,
            "parameters": {
                layer.name: {"sparsity": layer.sparsity, "pattern": layer.pattern}
                for layer in result.layers
            },
        },
        "fp32_model": fingerprint(result.model),
    }
