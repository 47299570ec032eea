"""What is in the place of a file: FIFOs, devices, links; and names that are none."""

from __future__ import annotations

import os
import shutil
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

from attack import Attack

Put = Callable[[Path], object]


def _fifo(path: Path) -> None:
    os.mkfifo(path)


def _socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as one:
        one.bind(str(path))


def _hole(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(40 << 30)


def _link_to(target: str) -> Put:
    return lambda path: path.symlink_to(target)


def _secret(path: Path) -> None:
    path.write_bytes(b"x" * 100)
    path.chmod(0)


THINGS: dict[str, Put] = {
    "a FIFO": _fifo,
    "a socket": _socket,
    "a folder": Path.mkdir,
    "a hole of 40 GB": _hole,
    "a link to /dev/zero": _link_to("/dev/zero"),
    "a link to /dev/urandom": _link_to("/dev/urandom"),
    "a link to /dev/null": _link_to("/dev/null"),
    "a link to /dev/full": _link_to("/dev/full"),
    "a link to a terminal": _link_to("/dev/tty"),
    "a link to the process's memory": _link_to("/proc/self/mem"),
    "a link to endless text": _link_to("/proc/self/smaps"),
    "a link to a folder": _link_to("/etc"),
    "a link to nothing": _link_to("/nowhere/none"),
    "a link to MARKER": _link_to("MARKER"),
    "a link to itself": lambda path: path.symlink_to(path.name),
    "nothing": lambda path: None,
    "a file of nobody": _secret,
}
FILES: dict[str, tuple[str, ...]] = {
    "pair": ("best_configure.yaml", "best_model_weights.pt", "best_model_weights.previous.pt"),
    "pruned pair": ("pruned_configure.yaml", "pruned_model_weights.pt"),
    "checkpoint": ("best_quantized.ckpt",),
    "qat checkpoint": ("qat.ckpt",),
    "fp32 checkpoint": ("some.ckpt",),
    "conf": ("conf.yaml",),
    "deploy": ("deploy.yaml",),
    "history": ("history.jsonl",),
    "result": ("result.json",),
    "pruning result": ("pruning_result.json",),
    "export records": ("exports.json",),
    "lock": ("lock", "history.jsonl", "result.json", "deploy.yaml", "best_configure.yaml"),
    "MNIST": ("data/t10k-images-idx3-ubyte", "data/t10k-labels-idx1-ubyte"),
    "CIFAR10": ("data/test_batch.bin",),
    "ImageFolder": ("data/one/1.png",),
    "bert": ("data/vocab.txt", "data/dev.tsv", "data/tokenizer_config.json", "data/tokenizer.json"),
    "ONNX Runtime": ("model.onnx",),
    "XML": ("model.xml", "model.bin"),
    "program": ("model.pt2",),
    "TorchScript": ("model.ts",),
    "compiled": ("model.aoti.pt2",),
}
_BESIDES = ("best_model_weights.previous.pt", "data/tokenizer_config.json", "data/tokenizer.json")
"""Files that need not be there: with nothing in their place all is as it should be."""


def things() -> Iterator[Attack]:
    """Yield each thing in the place of each file."""
    for door, files in FILES.items():
        for file in files:
            for thing, put in THINGS.items():
                may = file in _BESIDES or door == "lock" or thing == "a file of nobody"
                # a history that is not there is begun, and one that is empty is none
                may = may or (door == "history" and thing in ("nothing", "a link to MARKER"))
                may = may or (door == "history" and thing == "a link to nothing")
                may = may or (door == "export records" and thing == "nothing")
                may = may or (door == "bert" and thing == "a link to endless text")
                name = f"place: {thing} as `{file}`"
                yield Attack(name, door, _in_place(file, put), may)


def _in_place(file: str, put: Put) -> Put:
    def do(folder: Path) -> None:
        path = folder / file
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        path.unlink(missing_ok=True)
        put(path)

    return do


NAMES: dict[str, str] = {
    "above": "../../../../etc/passwd",
    "absolute": "/etc/passwd",
    "null byte": "a\0b",
    "300 bytes": "x" * 300,
    "5,000 bytes": "x" * 5000,
    "1,000 folders": "x/" * 1000,
    "home of nobody": "~nouser/x",
    "tilde": "~",
    "nothing": "",
    "blank": " ",
    "dot": ".",
    "dots": "..",
    "root": "/",
    "escape codes": "\x1b[31mred",
    "line ends": "a\nb\r",
    "right to left": "\u202eexe",
    "lonely surrogate": "\udcff",
    "shell": "$(touch MARKER)",
    "pipe": "| touch MARKER",
    "a URL of this machine": "http://127.0.0.1:9/x.ckpt",
    "an FTP URL": "ftp://127.0.0.1:9/x",
    "a file URL": "file:///etc/passwd",
    "chained URLs": "zip://x::http://127.0.0.1:9/x",
    "memory": "memory://x",
    "a template": "{x.__class__}",
    "descriptor": "/dev/fd/0",
    "standard input": "-",
}


def named() -> Iterator[Attack]:
    """Yield odd names where a path is asked for."""
    for name, path in NAMES.items():
        for door in ("pair name", "checkpoint name", "conf name", "show name", "data set name"):
            if "URL" in name and door == "checkpoint name":
                continue  # that a URL is fetched is what the user asks for
            yield Attack(f"name: {name}", door, _noted(path), may_load=True)


def _noted(path: str) -> Put:
    return lambda folder: (folder / "name").write_bytes(path.encode("utf-8", "surrogateescape"))
