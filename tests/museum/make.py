"""Make a small workspace of each kind in the format of the code that runs it.

python tests/museum/make.py tests/museum/format_2

It needs ``museum_models.py`` beside it and no more of the tests, so that it runs with the code of
earlier versions, too.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import logging
import shutil
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from museum_models import Exhibit, loader, shown
from torch import nn

from lpot_lightning import PruningCallback, QATCallback, load, load_from_checkpoint, quantize

NOWHERE = Path("/tmp/museum")
"""Where workspaces are made before they are copied: their files name the place."""
ANSWERS, CHECKPOINT = "answers.json", "best_quantized.ckpt"
LOOSE = {"accuracy_criterion": {"absolute": 10.0, "higher_is_better": False}}
RUNGS = {
    "op_wise": {
        "wide": {"activation": {"quant_mode": "dynamic"}},
        "head": {
            "activation": {"dtype": "fp32"},
            "weight": {"dtype": "int8", "granularity": "per_group", "group_size": 32},
        },
    }
}
Answers = dict[str, list[list[float]]]


def conf(folder: Path, **sections: Any) -> dict[str, Any]:
    """Return a YAML whose goal everything meets."""
    tuning = {**LOOSE, "workspace": {"path": str(folder)}}
    return {"model": {"name": "exhibit", "framework": "pytorch_fx"}, "tuning": tuning, **sections}


def trainer(*callbacks: pl.Callback, epochs: int = 0) -> pl.Trainer:
    saves = any(isinstance(one, ModelCheckpoint) for one in callbacks)
    return pl.Trainer(
        callbacks=list(callbacks),
        max_epochs=epochs,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=saves,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
    )


def exhibit() -> Exhibit:
    torch.manual_seed(0)
    made = Exhibit()
    trainer(epochs=4).fit(made, loader())
    return made


def files(folder: Path, kind: str = "best") -> tuple[Path, Path]:
    return folder / f"{kind}_configure.yaml", folder / f"{kind}_model_weights.pt"


def answer(model: nn.Module) -> list[list[float]]:
    with torch.no_grad():
        found: list[list[float]] = model.eval()(shown()).tolist()
    return found


def ptq(folder: Path, **quantization: Any) -> Answers:
    """Quantize, which leaves a pair and a checkpoint."""
    asked = conf(folder, quantization=quantization) if quantization else conf(folder)
    quantize(trainer(), exhibit(), loader(), loader(), conf=asked)
    pair = load(*files(folder), Exhibit())
    one = load_from_checkpoint(Exhibit, folder / CHECKPOINT)
    return {"pair": answer(pair), CHECKPOINT: answer(one)}


def rungs(folder: Path) -> Answers:
    """Quantize to other rungs than the usual one; the checkpoint is as large as all the rest."""
    found = ptq(folder, **RUNGS)
    (folder / CHECKPOINT).unlink()
    return {"pair": found["pair"]}


def qat(folder: Path) -> Answers:
    """Train for int8, which leaves a checkpoint of the training besides."""
    asked = conf(folder, quantization={"approach": "quant_aware_training"})
    kept = ModelCheckpoint(folder, filename="qat", enable_version_counter=False)
    trainer(kept, QATCallback(asked), epochs=2).fit(exhibit(), loader(), loader())
    trained = load_from_checkpoint(Exhibit, folder / "qat.ckpt")
    rounding = load_from_checkpoint(Exhibit, folder / "qat.ckpt", "fake_quant")
    pair = load(*files(folder), Exhibit())
    (folder / CHECKPOINT).unlink()
    return {"pair": answer(pair), "qat.ckpt": answer(trained), "fake_quant": answer(rounding)}


def pruned(folder: Path, **given: Any) -> Answers:
    """Prune to zeros."""
    weights = {"target_sparsity": 0.5, "start_epoch": 0, "end_epoch": 1, "pruners": [given]}
    section = {"approach": {"weight_compression": weights}}
    callback = PruningCallback(conf(folder, pruning=section))
    trainer(callback, epochs=2).fit(exhibit(), loader(), loader())
    return {"pruned": answer(load(*files(folder, "pruned"), Exhibit()))}


def cut(folder: Path) -> Answers:
    """Prune whole channels, which are cut out."""
    return pruned(folder, pattern="channel")


KINDS: dict[str, Callable[[Path], Answers]] = {
    "ptq": ptq,
    "rungs": rungs,
    "qat": qat,
    "pruned": pruned,
    "cut": cut,
}


def _not_by_the_clock() -> None:
    """Let no op stay in fp32 for its seconds, in versions that measure them."""
    with contextlib.suppress(ImportError):
        from lpot_lightning.runs import paying

        paying.applies = lambda job: False


def make(folder: Path, kinds: tuple[str, ...] = tuple(KINDS)) -> None:
    """Make a workspace of each kind, and note what its models answer."""
    folder.mkdir(parents=True, exist_ok=True)
    answers = {}
    for kind in kinds:
        shutil.rmtree(folder / kind, ignore_errors=True)
        answers[kind] = KINDS[kind](folder / kind)
        (folder / kind / "lock").unlink(missing_ok=True)
        shutil.rmtree(folder / kind / "earlier", ignore_errors=True)
    (folder / ANSWERS).write_text(json.dumps(answers, indent=1) + "\n")


def main() -> int:
    """Make them in the folder that is named."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--kinds", nargs="+", default=list(KINDS), choices=list(KINDS))
    given = parser.parse_args()
    made = NOWHERE / given.folder.name
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    _not_by_the_clock()
    make(made, tuple(given.kinds))
    shutil.copytree(made, given.folder, dirs_exist_ok=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
