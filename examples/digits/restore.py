"""Restore the int8 model: the class, its checkpoint and the two files of the workspace."""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from digits import DigitsData, LitDigits

import lpot_lightning


def main() -> None:
    """Restore and compare with what the other process predicted."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkpoint", help="the fp32 checkpoint that Lightning wrote")
    parser.add_argument("workspace", type=Path, help="the folder that the callback wrote")
    asked = parser.parse_args()

    fp32 = LitDigits.load_from_checkpoint(asked.checkpoint, map_location="cpu", weights_only=True)
    int8 = lpot_lightning.load(
        asked.workspace / "best_configure.yaml", asked.workspace / "best_model_weights.pt", fp32
    )

    data = DigitsData()
    data.setup("test")
    images = next(iter(data.val_dataloader()))[0]
    with torch.no_grad():
        ours = int8(images)
    theirs = torch.load(asked.workspace / "predictions.pt", weights_only=True)
    print(f"{len(ours)} predictions, bit-equal: {torch.equal(ours, theirs)}")
    if not torch.equal(ours, theirs):
        raise SystemExit("the restored model predicts something else")


if __name__ == "__main__":
    main()
