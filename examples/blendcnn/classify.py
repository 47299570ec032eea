"""Train BlendCNN on MRPC, make it int8, judge it, time it.

python classify.py --model_config config/blendcnn/mrpc/train.json
python classify.py --tune --input_model models/ --dataset_location MRPC/ --output_model int8/
python classify.py --int8=true --mode=benchmark --batch_size=32
python classify.py --int8=False --mode=accuracy --input_model models/
"""

from __future__ import annotations

import argparse
import json
import logging
import shutil
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
import yaml
from blendcnn import BlendCNN, LitBlendCNN
from lightning.pytorch import Trainer, seed_everything
from lightning.pytorch.callbacks import ModelCheckpoint
from mrpc import Inputs, MRPCData, Vocabulary, read_pairs, tensors_of
from torch import Tensor, nn
from torch.utils.data import DataLoader

from lpot_lightning import Benchmark, Quantization, load

HERE = Path(__file__).parent
WEIGHTS, WORDS, SHAPE = "model_final.pt", "vocab.txt", "model.json"
TUNED = ("best_configure.yaml", "best_model_weights.pt")
NOT_MET = 3
# the last one: torch rescales where the parts of an int8 `cat` differ, and says so once
QUIET = ".*(LeafSpec|num_workers|exists and is not empty|inputs of this cat operator)"
CHOICES = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}


class Bert_DataLoader:
    """Gives batches as LPOT takes them: the inputs of the model, and the labels."""

    def __init__(self, loader: DataLoader[tuple[Tensor, ...]], batch_size: int = 1) -> None:
        self.loader, self.batch_size = loader, batch_size

    def __iter__(self) -> Iterator[tuple[Inputs, Tensor]]:
        for input_ids, segment_ids, input_mask, label_id in self.loader:
            yield (input_ids, segment_ids, input_mask), label_id


def main(given: list[str] | None = None) -> None:
    """Do what the flags ask for."""
    args = arguments().parse_args(given)
    logging.getLogger("lightning.pytorch.utilities.rank_zero").setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", message=QUIET)
    if args.tune:
        tune(args)
    elif args.int8 is not None or args.mode is not None:
        measure(args)
    else:
        train(args)


def train(args: argparse.Namespace) -> None:
    """Train from scratch; leave weights, words and shape in ``save_dir``."""
    config = json.loads(here_or_there(args.model_config).read_text())
    seed_everything(config["seed"], verbose=False)
    optim, folder = config["optim"], Path(config["save_dir"]).expanduser()
    data = MRPCData(args.dataset_location, optim["batch_size"], **config["data"])
    data.setup()
    shape = {"vocab_size": len(data.vocabulary), "max_len": data.max_len, **config["model"]}
    best = ModelCheckpoint(folder / "checkpoints", monitor="val_acc", mode="max")
    trainer = Trainer(
        max_epochs=optim["n_epochs"],
        accelerator="cpu",
        callbacks=[best],
        logger=False,
        enable_model_summary=False,
    )
    trainer.fit(LitBlendCNN(**shape, lr=optim["lr"]), datamodule=data)
    trained = LitBlendCNN.load_from_checkpoint(best.best_model_path, weights_only=True)
    torch.save(trained.net.state_dict(), folder / WEIGHTS)
    data.vocabulary.write(folder / WORDS)
    (folder / SHAPE).write_text(json.dumps(shape, indent=2) + "\n")
    print(f"val_acc {float(best.best_model_score):.4f}; the model is {folder / WEIGHTS}")


def tune(args: argparse.Namespace) -> None:
    """Make the model int8 by LPOT's YAML; copy what restores it to ``output_model``."""
    model, source = fp32_of(args)
    data_iter = pairs_of(args, source, "train")
    eval_func = _eval_func(args, source)

    dataloader = Bert_DataLoader(loader=data_iter, batch_size=args.batch_size)
    quantizer = Quantization(args.lpot_yaml)
    quantizer.model = model
    quantizer.calib_dataloader = dataloader
    quantizer.eval_func = eval_func
    q_model = quantizer()

    result = quantizer.result
    assert result is not None
    assert result.workspace is not None
    if args.output_model:
        target = Path(args.output_model).expanduser()
        target.mkdir(parents=True, exist_ok=True)
        for name in TUNED:
            shutil.copy(result.workspace / name, target / name)
        print(f"the int8 model is in {target}")
    print(f"accuracy of the model that is returned: {eval_func(q_model):.4f}")
    if result.status != "met":
        sys.exit(NOT_MET)


def measure(args: argparse.Namespace) -> None:
    """Judge or time the fp32 model, or the int8 model with fp32 beside it."""
    fp32, source = fp32_of(args)
    model: nn.Module = fp32
    if args.int8:
        folder = _tuned_folder(args)
        model = load(folder / TUNED[0], folder / TUNED[1], fp32)
    if args.mode == "accuracy":
        accuracy = _eval_func(args, source)(model)
        print(f"Accuracy: {accuracy:.4f}")
        return
    conf = yaml.safe_load(Path(args.lpot_yaml).read_text())
    performance = {"warmup": args.warmup, "iteration": args.warmup + args.iter}
    conf["evaluation"] = {"performance": performance}
    batches = Bert_DataLoader(pairs_of(args, source, "dev"), args.batch_size)
    result = Benchmark(conf)(model, b_dataloader=batches, fp32=fp32 if args.int8 else None)
    print(f"Latency: {result.latency_per_sample.p50:.3f} ms")
    print(f"Throughput: {result.throughput:.1f} samples/sec")


def arguments() -> argparse.ArgumentParser:
    """Return the flags, those of LPOT's example among them."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--model_config", default="config/blendcnn/mrpc/train.json", help="what to train, and how")
    add("--dataset_location", default="./MRPC/", help="the folder of MRPC")
    add("--input_model", default="./models/", help="the folder with model_final.pt, or that file")
    add("--output_model", default="", help="where the files of the int8 model are put, or found")
    add("--lpot_yaml", default=str(HERE / "blendcnn.yaml"), help="LPOT's user YAML")
    add("--tune", action="store_true", help="make the model int8")
    add("--int8", nargs="?", const=True, type=_yes_or_no, help="judge or time the int8 model")
    add("--mode", choices=("benchmark", "accuracy"), help="what to measure; default: benchmark")
    add("--batch_size", type=int, default=32, help="pairs in a batch")
    add("--warmup", type=int, default=10, help="calls that are not measured")
    add("--iter", type=int, default=100, help="calls that are")
    return parser


def fp32_of(args: argparse.Namespace) -> tuple[BlendCNN, Path]:
    """Return the trained model and its folder."""
    given = Path(args.input_model).expanduser()
    is_file = given.suffix == Path(WEIGHTS).suffix
    folder = given.parent if is_file else given
    weights = given if is_file else given / WEIGHTS
    for path in (weights, folder / WORDS, folder / SHAPE):
        if not path.is_file():
            sys.exit(f"--input_model: there is no `{path}`; train first, see `classify.py --help`")
    model = BlendCNN(**json.loads((folder / SHAPE).read_text()))
    model.load_state_dict(torch.load(weights, map_location="cpu", weights_only=True))
    return model.eval(), folder


def _tuned_folder(args: argparse.Namespace) -> Path:
    asked = yaml.safe_load(Path(args.lpot_yaml).read_text())["model"]
    default = Path("lpot_workspace") / asked["framework"] / asked["name"]
    folder = Path(args.output_model).expanduser() if args.output_model else default
    if not (folder / TUNED[0]).is_file():
        sys.exit(f"there is no int8 model in `{folder}`: run run_tuning.sh, or give --output_model")
    return folder


def pairs_of(args: argparse.Namespace, source: Path, split: str) -> DataLoader[tuple[Tensor, ...]]:
    """Return the pairs of a split in order, by the words that the model knows."""
    shape = json.loads((source / SHAPE).read_text())
    pairs = read_pairs(args.dataset_location, split)
    numbers = tensors_of(pairs, Vocabulary.read(source / WORDS), shape["max_len"])
    return DataLoader(numbers, args.batch_size)


def _eval_func(args: argparse.Namespace, source: Path) -> Any:
    """Return a function that gives a model's accuracy on the dev pairs."""
    batches = list(Bert_DataLoader(pairs_of(args, source, "dev"), args.batch_size))

    def eval_func(model: nn.Module) -> float:
        with torch.no_grad():
            right = [model(*inputs).argmax(1) == labels for inputs, labels in batches]
        return torch.cat(right).float().mean().item()

    return eval_func


def here_or_there(path: str) -> Path:
    """Return a file of the current folder, else of the folder of this script."""
    asked = Path(path).expanduser()
    found = asked if asked.is_file() else HERE / asked
    if not found.is_file():
        sys.exit(f"--model_config: there is no `{path}`, here or in `{HERE}`")
    return found


def _yes_or_no(text: str) -> bool:
    if text.lower() not in CHOICES:
        raise argparse.ArgumentTypeError(f"`{text}` is neither true nor false")
    return CHOICES[text.lower()]


if __name__ == "__main__":
    main()
