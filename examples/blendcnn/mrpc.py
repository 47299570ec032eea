"""GLUE's MRPC folder as numbers: words, pairs, batches."""

from __future__ import annotations

import csv
import re
from collections import Counter
from pathlib import Path

import torch
from lightning.pytorch import LightningDataModule
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]")
PAD, UNKNOWN, START, END = range(len(SPECIAL))
# as GLUE's script leaves them, else as Microsoft gives them
FILES = {
    "train": ("train.tsv", "msr_paraphrase_train.txt"),
    "dev": ("dev.tsv", "msr_paraphrase_test.txt"),
}
Pair = tuple[str, str, int]
Inputs = tuple[Tensor, Tensor, Tensor]


def read_pairs(folder: str | Path, split: str) -> list[Pair]:
    """Return two sentences and 1 for a paraphrase, else 0, of each line.

    Args:
        folder: holds MRPC; one of its files stands for it.
        split: ``train`` or ``dev``.

    Raises:
        SystemExit: if there is no such file, or it has other columns.
    """
    folder = Path(folder).expanduser()
    folder = folder.parent if folder.is_file() else folder
    for name in FILES[split]:
        if (folder / name).is_file():
            return _read(folder / name)
    raise SystemExit(
        f"`{folder}` has no {' or '.join(FILES[split])}: give the folder of GLUE's MRPC as"
        " --dataset_location, or make a small corpus: python make_mrpc.py MRPC/"
    )


def _read(path: Path) -> list[Pair]:
    # MRPC begins with a byte order mark, and a quote in it is a quote
    with path.open(encoding="utf-8-sig", newline="") as file:
        rows = csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE)
        try:
            return [(row["#1 String"], row["#2 String"], int(row["Quality"])) for row in rows]
        except (KeyError, TypeError, ValueError) as error:
            raise SystemExit(
                f"{path}, line {rows.line_num}: {error!r}; expected the columns of MRPC:"
                " Quality, #1 ID, #2 ID, #1 String, #2 String"
            ) from error


def words_of(sentence: str) -> list[str]:
    """Return lower-case words, numbers and signs."""
    return re.findall(r"\w+|[^\w\s]", sentence.lower())


class Vocabulary:
    """Numbers words by frequency; what it does not know is ``[UNK]``."""

    def __init__(self, words: list[str]) -> None:
        self.words = words
        self._numbers = {word: number for number, word in enumerate(words)}

    @classmethod
    def of(cls, pairs: list[Pair], size: int) -> Vocabulary:
        """Take the most frequent words of ``pairs``, ``size`` entries at most."""
        counts = Counter(word for one, two, _ in pairs for word in words_of(f"{one} {two}"))
        ordered = sorted(counts, key=lambda word: (-counts[word], word))
        return cls([*SPECIAL, *ordered[: size - len(SPECIAL)]])

    @classmethod
    def read(cls, path: str | Path) -> Vocabulary:
        """Read one word a line, such as the ``vocab.txt`` of BERT; word pieces stay unused."""
        words = Path(path).expanduser().read_text(encoding="utf-8").splitlines()
        return cls([*SPECIAL, *(word for word in words if word not in SPECIAL)])

    def write(self, path: Path) -> None:
        """Write one word a line."""
        path.write_text("\n".join(self.words) + "\n", encoding="utf-8")

    def __len__(self) -> int:
        return len(self.words)

    def numbers(self, sentence: str) -> list[int]:
        """Return the number of each word."""
        return [self._numbers.get(word, UNKNOWN) for word in words_of(sentence)]


def tensors_of(pairs: list[Pair], vocabulary: Vocabulary, max_len: int) -> TensorDataset:
    """Return word numbers, sentence numbers, a mask and labels, as BERT's input is laid out."""
    ids = torch.full((len(pairs), max_len), PAD)
    segments = torch.zeros_like(ids)
    mask = torch.zeros(len(pairs), max_len)
    for row, (one, two, _) in enumerate(pairs):
        a, b = _cut(vocabulary.numbers(one), vocabulary.numbers(two), max_len - 3)
        line = [START, *a, END, *b, END]
        ids[row, : len(line)] = torch.tensor(line)
        segments[row, len(a) + 2 : len(line)] = 1
        mask[row, : len(line)] = 1
    return TensorDataset(ids, segments, mask, torch.tensor([label for *_, label in pairs]))


def _cut(one: list[int], two: list[int], length: int) -> tuple[list[int], list[int]]:
    """Shorten the longer one until both fit."""
    one, two = list(one), list(two)
    while len(one) + len(two) > length:
        (one if len(one) > len(two) else two).pop()
    return one, two


class MRPCData(LightningDataModule):
    """Pairs of sentences of an MRPC folder.

    Args:
        folder: the real one of GLUE, or what ``make_mrpc.py`` wrote.
        batch_size: pairs in a batch.
        max_len: tokens of a pair; longer ones are cut.
        vocab_size: words that are known, the special ones included.
        vocab_file: words to use; by default the most frequent ones of the training pairs.
    """

    def __init__(
        self,
        folder: str = "MRPC",
        batch_size: int = 32,
        max_len: int = 128,
        vocab_size: int = 20000,
        vocab_file: str | None = None,
    ) -> None:
        super().__init__()
        self.folder, self.batch_size, self.max_len = folder, batch_size, max_len
        self.vocab_size, self.vocab_file = vocab_size, vocab_file

    def setup(self, stage: str | None = None) -> None:
        """Read the files."""
        pairs = read_pairs(self.folder, "train")
        if self.vocab_file:
            self.vocabulary = Vocabulary.read(self.vocab_file)
        else:
            self.vocabulary = Vocabulary.of(pairs, self.vocab_size)
        self.train = tensors_of(pairs, self.vocabulary, self.max_len)
        dev = read_pairs(self.folder, "dev")
        self.dev = tensors_of(dev, self.vocabulary, self.max_len)

    def train_dataloader(self) -> DataLoader[tuple[Tensor, ...]]:
        """Return shuffled batches."""
        return DataLoader(self.train, self.batch_size, shuffle=True)

    def calib_dataloader(self) -> DataLoader[tuple[Tensor, ...]]:
        """Return training pairs in order, for ``QuantizationCallback``."""
        return DataLoader(self.train, self.batch_size)

    def val_dataloader(self) -> DataLoader[tuple[Tensor, ...]]:
        """Return batches in order."""
        return DataLoader(self.dev, self.batch_size)

    test_dataloader = val_dataloader
