"""Damage every file of a workspace in small ways: refused, or read as if nothing was changed.

python tests/attacks/mutations.py --mutations 200000 --seed 1

What is refused by a hash takes microseconds, so that most mutations are of the two files of a
model. Whoever edits a file and makes its hashes again can write another model: such edits are
counted apart, and must not end in an error that is not ours, or in numbers that are none.
"""

from __future__ import annotations

import argparse
import json
import logging
import random
import shutil
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

sys.path[:0] = [str(Path(__file__).parents[1] / name) for name in ("museum", "attacks", "scenes")]

import torch
from ledger import Ledger
from make import KINDS
from museum_models import Exhibit, shown
from sealing import write_sealed
from torch import Tensor

from lpot_lightning import load, load_from_checkpoint
from lpot_lightning.artifacts import storage
from lpot_lightning.artifacts.tune_config import check_hash, read_configure, seal
from lpot_lightning.conf.reader import read_conf
from lpot_lightning.errors import LpotError
from lpot_lightning.module.fingerprint import check_fingerprint, fingerprint
from lpot_lightning.runs.pruning_result import read_pruning_result
from lpot_lightning.runs.tuning_result import read_result
from lpot_lightning.selftest.mutations import (
    cut_off,
    flipped_bit,
    other_byte,
    repeated_part,
    with_part,
    zeroed_block,
)
from lpot_lightning.tuning.history import look_at

Change = Callable[[bytes, random.Random], bytes]
REFUSED, EQUAL, OTHER, RAW = "refused", "equal", "another result", "raw"


def _several(content: bytes, draw: random.Random) -> bytes:
    for _ in range(draw.randint(2, 8)):
        content = other_byte(content, draw)
    return content


def _left_out(content: bytes, draw: random.Random) -> bytes:
    at = draw.randrange(len(content))
    return content[:at] + content[at + draw.randint(1, 16) :]


def _put_in(content: bytes, draw: random.Random) -> bytes:
    at = draw.randrange(len(content))
    return content[:at] + draw.randbytes(draw.randint(1, 16)) + content[at:]


def _swapped(content: bytes, draw: random.Random) -> bytes:
    size = max(1, min(len(content) // 4, draw.choice((1, 4, 16, 64))))
    one, other = sorted(draw.sample(range(len(content) // size), 2))
    first, last = (content[n * size : (n + 1) * size] for n in (one, other))
    return with_part(with_part(content, one * size, last), other * size, first)


def _digit(content: bytes, draw: random.Random) -> bytes:
    """Change a digit for another: the file stays what it looks like."""
    places = [n for n, one in enumerate(content) if 48 <= one < 58]
    return (
        with_part(content, draw.choice(places), str(draw.randrange(10)).encode()) if places else b""
    )


def _line(content: bytes, draw: random.Random) -> bytes:
    lines = content.splitlines(keepends=True)
    del lines[draw.randrange(len(lines))]
    return b"".join(lines)


CHANGES: dict[str, Change] = {
    "bit": flipped_bit,
    "byte": other_byte,
    "several bytes": _several,
    "zeroed block": zeroed_block,
    "cut off": cut_off,
    "left out": _left_out,
    "put in": _put_in,
    "twice": repeated_part,
    "swapped": _swapped,
    "digit": _digit,
    "line": _line,
}


def damaged(content: bytes, change: Change, draw: random.Random) -> bytes:
    """Return a content that is another one: zeros, say, may have been set to zero."""
    for _ in range(100):
        if (found := change(content, draw)) != content:
            return found
    return content + b"x"


def same(one: Any, other: Any) -> bool:
    """Whether two things that were read are equal, tensors to the last bit."""
    if isinstance(one, Tensor):
        alike = (one.dtype, one.shape, one.device) == (other.dtype, other.shape, other.device)
        return alike and (one.is_meta or torch.equal(_bits(one), _bits(other)))
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[name], other[name]) for name in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    return type(one) is type(other) and repr(one) == repr(other)


def _bits(one: Tensor) -> Tensor:
    return one.contiguous().view(-1).view(torch.uint8)


@dataclass
class Target:
    """A file that is damaged, and what is read of it.

    Args:
        path: of the file.
        read: returns all that a user would get of it.
        share: of the mutations, by what a read costs.
        first: is asked before, where it tells most damage in less time.
        torn: whether a file that is cut off may be read as one that has less in it.
        belongs: whether it belongs to another file; a whole one of another run is refused then.
    """

    path: Path
    read: Callable[[], Any]
    share: float
    first: Callable[[], object] | None = None
    torn: bool = False
    belongs: bool = False
    content: bytes = b""
    good: Any = field(default=None, repr=False)

    def __post_init__(self) -> None:
        self.content, self.good = self.path.read_bytes(), self.read()

    def after(self, content: bytes) -> tuple[str, str]:
        """Return what becomes of the file with this content, and what is said."""
        self.path.write_bytes(content)
        try:
            if self.first is not None:
                self.first()
            found = self.read()
        except LpotError as error:
            return REFUSED, str(error)
        except Exception as error:
            return RAW, repr(error)
        finally:
            self.path.write_bytes(self.content)
        if same(found, self.good) or (self.torn and _is_less(found, self.good)):
            return EQUAL, ""
        return OTHER, f"{found!r}"[:300]


def _is_less(found: Any, good: Any) -> bool:
    """Whether a history has lost its last lines, and nothing else."""
    trials = len(found["trials"])
    return same(found["trials"], good["trials"][:trials]) and found["baseline"] in (
        *(None, good["baseline"]),
    )


def told(configure: Path) -> dict[str, Any]:
    """Return what a tune config says, but for its seals: one of them that is right is enough."""
    found = read_configure(configure)
    return {**found, "weights": {"file": found["weights"].get("file")}}


def _pair(folder: Path, kind: str, share: float) -> Iterator[Target]:
    """Yield the two files of a model; each is refused by a hash before a model is made."""
    configure, weights = folder / f"{kind}_configure.yaml", folder / f"{kind}_model_weights.pt"
    fp32 = Exhibit()
    known = read_configure(configure)
    structure = known["fp32_model"]
    is_int8 = kind == "best"

    def read() -> Any:
        model = load(configure, weights, fp32)
        with torch.no_grad():
            return {"state": model.state_dict(), "told": told(configure), "y": model(shown())}

    def weights_are_there() -> None:
        wanted = known["weights"]["sha256"], structure
        storage.read_weights(storage.read_checked(weights, *wanted), weights)

    def configure_is_whole() -> None:
        found = read_configure(configure)
        wanted = found["weights"]["sha256"], found["fp32_model"]
        plain = storage.read_weights(storage.read_checked(weights, *wanted), weights)
        if is_int8:
            check_fingerprint(found["fp32_model"], fingerprint(fp32))
        check_hash(found, plain, of_file=True)

    yield Target(weights, read, 16 * share, weights_are_there, belongs=True)
    yield Target(configure, read, share, configure_is_whole, belongs=True)


def _checkpoint(path: Path, share: float) -> Target:
    def read() -> Any:
        model = load_from_checkpoint(Exhibit, path)
        with torch.no_grad():
            return {"state": model.state_dict(), "given": dict(model.hparams), "y": model(shown())}

    return Target(path, read, share)


def _history(path: Path) -> Target:
    def read() -> Any:
        seen = look_at(path)
        return {"baseline": seen.baseline, "trials": [one.to_dict() for one in seen.trials]}

    return Target(path, read, 1, torn=True)


def _deploy(path: Path) -> Target:
    def read() -> Any:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return read_conf(path).to_dict()

    return Target(path, read, 0.5)


def targets(root: Path, kept: Path | None = None) -> dict[str, Target]:
    """Make workspaces, and return their files by what they are called in tables.

    Args:
        root: an empty folder.
        kept: a folder of workspaces that are copied instead.
    """
    for kind in ("ptq", "qat", "pruned", "cut", "rungs"):
        if kept is None:
            KINDS[kind](root / kind)
        else:
            shutil.copytree(kept / kind, root / kind)
    ptq = root / "ptq"
    found = {
        "best_quantized.ckpt": _checkpoint(ptq / "best_quantized.ckpt", 0.2),
        "QAT checkpoint": _checkpoint(root / "qat" / "qat.ckpt", 0.2),
        "history.jsonl": _history(ptq / "history.jsonl"),
        "result.json": Target(
            ptq / "result.json", lambda: json.loads(read_result(ptq / "result.json").to_json()), 1
        ),
        "pruning_result.json": Target(
            root / "cut" / "pruning_result.json",
            lambda: json.loads(read_pruning_result(root / "cut" / "pruning_result.json").to_json()),
            1,
        ),
        "deploy.yaml": _deploy(ptq / "deploy.yaml"),
    }
    for kind, stem in {"ptq": "best", "rungs": "best", "pruned": "pruned", "cut": "pruned"}.items():
        for one in _pair(root / kind, stem, 1):
            found[f"{one.path.name} ({kind})"] = one
    return found


def exchanged(root: Path, found: dict[str, Target]) -> Iterator[tuple[str, bytes]]:
    """Yield each file of a pair in the place of that of another one."""
    for name, one in found.items():
        for other in found.values():
            alike = one.path.name.partition("_")[2] == other.path.name.partition("_")[2]
            if one.path != other.path and alike and one.belongs:
                yield name, other.content


Edit = Callable[[dict[str, Tensor], str, random.Random], object]


def _value(plain: dict[str, Tensor], name: str, draw: random.Random) -> None:
    flat = plain[name] = plain[name].clone()
    if flat.numel():
        at = draw.randrange(flat.numel())
        flat.view(-1)[at] = (flat.view(-1)[at] * 3 + 1).to(flat.dtype)


def _filled_with(value: float) -> Edit:
    def edit(plain: dict[str, Tensor], name: str, draw: random.Random) -> None:
        made = plain[name].clone()
        if made.is_floating_point() and made.numel():
            made.view(-1)[draw.randrange(made.numel())] = value
        plain[name] = made

    return edit


def _as(dtype: torch.dtype) -> Edit:
    return lambda plain, name, draw: plain.__setitem__(name, plain[name].to(dtype))


EDITS: dict[str, Edit] = {
    "a value": _value,
    "not a number": _filled_with(float("nan")),
    "infinity": _filled_with(float("inf")),
    "minus infinity": _filled_with(float("-inf")),
    "huge": _filled_with(1e38),
    "below zero": _filled_with(-1.0),
    "zero": lambda plain, name, draw: plain.__setitem__(name, torch.zeros_like(plain[name])),
    "doubles": _as(torch.float64),
    "halves": _as(torch.float16),
    "bytes": _as(torch.uint8),
    "whole numbers": _as(torch.int64),
    "truth": _as(torch.bool),
    "complex": _as(torch.complex64),
    "flat": lambda plain, name, draw: plain.__setitem__(name, plain[name].reshape(-1)),
    "one more": lambda plain, name, draw: plain.__setitem__(
        name, torch.cat([plain[name].reshape(-1), plain[name].reshape(-1)[:1]])
    ),
    "turned": lambda plain, name, draw: (
        plain.__setitem__(name, plain[name].flip(0)) if plain[name].dim() else None
    ),
    "none": lambda plain, name, draw: plain.__setitem__(name, plain[name].reshape(-1)[:0]),
    "missing": lambda plain, name, draw: plain.pop(name),
    "another name": lambda plain, name, draw: plain.__setitem__(f"{name}x", plain.pop(name)),
    "an extra one": lambda plain, name, draw: plain.__setitem__(f"{name}.x", torch.ones(1)),
    "that of another": lambda plain, name, draw: plain.__setitem__(
        name, plain[draw.choice(sorted(plain))]
    ),
    "on no device": lambda plain, name, draw: plain.__setitem__(name, plain[name].to("meta")),
    "expanded": lambda plain, name, draw: plain.__setitem__(
        name, torch.ones(()).expand(plain[name].shape)
    ),
}


def resealed(folder: Path, kind: str, draw: random.Random) -> tuple[str, str, str]:
    """Edit a tensor of a pair, make all hashes again, and return what becomes of it.

    Returns:
        what was edited, ``refused``, ``equal`` or a fault, and what was said.
    """
    configure, weights = folder / f"{kind}_configure.yaml", folder / f"{kind}_model_weights.pt"
    good = configure.read_bytes(), weights.read_bytes()
    known = read_configure(configure)
    plain = storage.read_weights(good[1], weights)
    edit, name = draw.choice(list(EDITS)), draw.choice(sorted(plain))
    EDITS[edit](plain, name, draw)
    content = storage.to_bytes(plain)
    held = {**known["weights"], "content": _sealed(known, plain)}
    weights.write_bytes(content)
    write_sealed(configure, {**known, "weights": held}, content)
    try:
        return f"{edit} in `{name}`", *_loaded(configure, weights, may_overflow=edit == "huge")
    finally:
        configure.write_bytes(good[0])
        weights.write_bytes(good[1])


def _sealed(known: dict[str, Any], plain: dict[str, Tensor]) -> str:
    try:
        return seal(known, plain)
    except Exception:  # what cannot be hashed has no seal that is right
        return "0" * 64


def _loaded(configure: Path, weights: Path, *, may_overflow: bool) -> tuple[str, str]:
    try:
        model = load(configure, weights, Exhibit())
        with torch.no_grad():
            answer = model(shown())
    except LpotError as error:
        return REFUSED, str(error)
    except Exception as error:
        return RAW, repr(error)
    good = may_overflow or answer.isfinite().all()
    return ("another model", "") if good else (OTHER, "its answer has no numbers")


def every_bit(content: bytes) -> Iterator[bytes]:
    """Yield a content with each of its bits turned once."""
    for at in range(8 * len(content)):
        yield with_part(content, at // 8, bytes([content[at // 8] ^ 1 << at % 8]))


class Damage:
    """A run of the kit.

    Args:
        root: an empty folder.
        ledger: counts.
        seed: of what is drawn.
        kept: a folder of workspaces to damage copies of; new ones are made if left out.
    """

    def __init__(self, root: Path, ledger: Ledger, seed: int, kept: Path | None = None) -> None:
        self._root, self._ledger, self._draw = root, ledger, random.Random(seed)
        self.targets = targets(root, kept)
        self.faults: list[str] = []

    def run(self, count: int) -> None:
        """Make ``count`` mutations, spread over all files and all kinds of damage."""
        for name, content in exchanged(self._root, self.targets):
            self.note(name, "exchanged", *self.targets[name].after(content))
        shares = sum(one.share for one in self.targets.values())
        for name, one in self.targets.items():
            for _ in range(max(len(CHANGES), int(count * one.share / shares))):
                change = self._draw.choice(list(CHANGES))
                self.note(
                    name, change, *one.after(damaged(one.content, CHANGES[change], self._draw))
                )

    def reseal(self, count: int) -> None:
        """Make ``count`` edits whose hashes are made again."""
        pairs = {"ptq": "best", "rungs": "best", "pruned": "pruned", "cut": "pruned"}
        for _ in range(count):
            kind = self._draw.choice(list(pairs))
            what, end, said = resealed(self._root / kind, pairs[kind], self._draw)
            self._ledger.count(**{"resealed": 1, f"resealed: {end}": 1})
            if end in (RAW, OTHER):
                self.faults.append(f"{kind}, {what}, hashes made again: {end}: {said[:300]}")

    def turn_every_bit(self, name: str) -> None:
        """Turn each bit of a file once."""
        for content in every_bit(self.targets[name].content):
            self.note(name, "every bit", *self.targets[name].after(content))

    def note(self, name: str, change: str, end: str, said: str) -> None:
        """Count what became of a mutation."""
        self._ledger.count(**{"mutations": 1, end: 1, f"{name}: {end}": 1})
        if end in (RAW, OTHER):
            self.faults.append(f"{name}, {change}: {end}: {said[:300]}")


def main() -> int:
    """Damage files, print a table, return 1 if a damaged one was taken."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mutations", type=int, default=20_000)
    parser.add_argument("--resealed", type=int, help="a hundredth of the mutations if left out")
    parser.add_argument("--every-bit", action="store_true", help="of the weights, besides")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--ledger", type=Path, help="a file to add a line of counts to")
    given = parser.parse_args()
    torch.set_num_threads(1)
    logging.disable(logging.CRITICAL)
    warnings.simplefilter("ignore")
    ledger = Ledger("mutations", given.seed, given.ledger)
    with tempfile.TemporaryDirectory(dir=_in_memory()) as root:
        damage = Damage(Path(root), ledger, given.seed)
        damage.run(given.mutations)
        if given.every_bit:
            damage.turn_every_bit("best_model_weights.pt (ptq)")
        damage.reseal(given.mutations // 100 if given.resealed is None else given.resealed)
    ledger.count(faults=len(damage.faults))
    ledger.write()
    for name, count in sorted(ledger.counts.items()):
        print(f"{count:9,}  {name}")
    print("\n".join(damage.faults[:100]) or "no fault")
    return int(bool(damage.faults))


def _in_memory() -> str | None:
    return "/dev/shm" if Path("/dev/shm").is_dir() else None


if __name__ == "__main__":
    sys.exit(main())
