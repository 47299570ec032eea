"""Hashes made again, as whoever edits a file can do who has read the code."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from lpot_lightning.artifacts.tune_config import seal_with_file
from lpot_lightning.machine.files import sha256

PAIRS = (
    ("best_configure.yaml", "best_model_weights.pt"),
    ("pruned_configure.yaml", "pruned_model_weights.pt"),
)
MOST = 64 << 20


def seal_again(folder: Path) -> None:
    """Let the tune configs of a folder name the weights that are there now."""
    for configure, weights in PAIRS:
        path = folder / weights
        if path.is_file() and (folder / configure).is_file() and path.stat().st_size < MOST:
            found = yaml.safe_load((folder / configure).read_bytes())
            write_sealed(folder / configure, found, path.read_bytes())


def write_sealed(path: Path, configure: dict[str, Any], weights: bytes) -> None:
    """Write a tune config that names ``weights``, with its seal over both."""
    held = {**configure["weights"], "sha256": sha256(weights)}
    made = {**configure, "weights": held}
    if "with_file" in held:
        held["with_file"] = seal_with_file(made)
    path.write_text(yaml.safe_dump(made, sort_keys=False, default_flow_style=None, width=120))
