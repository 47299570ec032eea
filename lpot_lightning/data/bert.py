"""Sentences of a TSV as what BERT takes."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import torch

from lpot_lightning.data.source import Source
from lpot_lightning.errors import ConfError, DataError, NotYetError, in_short

LENGTH = 128
"""Tokens of a sample, as in LPOT's examples; longer ones are cut, shorter ones padded."""
TEXTS: tuple[tuple[str, str | None], ...] = (
    ("#1 String", "#2 String"),
    ("sentence1", "sentence2"),
    ("question1", "question2"),
    ("premise", "hypothesis"),
    ("question", "sentence"),
    ("sentence", None),
    ("text", None),
)
LABELS = ("label", "Quality", "is_duplicate", "gold_label", "score")


def bert(root: str, label_file: str, task: str = "classifier", model_type: str = "bert") -> Source:
    """Sentences, or pairs of them, with their labels, as in the files of GLUE.

    Args:
        root: folder with the tokenizer: BERT's ``vocab.txt``, and ``tokenizer_config.json`` if it
            has one.
        label_file: TSV with a header; a relative name is looked up in ``root``, too.
        task: ``classifier``.
        model_type: ``bert``.

    Example::

        bert("models/bert", "MRPC/dev.tsv")
    """
    if task != "classifier" or model_type != "bert":
        raise NotYetError(
            f"`bert` is asked for `task: {task}` and `model_type: {model_type}`; of them"
            " `classifier` and `bert` are built: give your own data with"
            " `quantization.dataloader(dataset)`"
        )
    rows = _rows(_found(Path(root).expanduser(), label_file))
    first, second, label = _columns(rows[0], label_file)
    texts = [[row[first] for row in rows[1:]]]
    if second is not None:
        texts.append([row[second] for row in rows[1:]])
    tokens = _tokenizer(Path(root).expanduser())(
        *texts, padding="max_length", truncation=True, max_length=LENGTH, return_tensors="pt"
    )
    names = [name for name in ("input_ids", "attention_mask", "token_type_ids") if name in tokens]
    labels = _numbers([row[label] for row in rows[1:]])
    return Source(
        "bert",
        len(labels),
        lambda number: {name: tokens[name][number] for name in names},
        labels.__getitem__,
        images=False,
    )


def _found(root: Path, label_file: str) -> Path:
    given = Path(label_file).expanduser()
    for path in (given, root / given):
        if path.is_file():
            return path
    raise DataError(
        f"`bert` has the `label_file` `{label_file}`, which is no file here or in `{root}`;"
        " expected: a TSV with a header, such as `dev.tsv` of MRPC; nothing is downloaded"
    )


def _rows(path: Path) -> list[list[str]]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = [row for row in csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE) if row]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"`{path}` cannot be read as a TSV ({in_short(error)})") from error
    if len(rows) < 2:
        raise DataError(f"`{path}` holds {len(rows)} lines; expected: a header, and samples")
    for number, row in enumerate(rows, 1):
        if len(row) < len(rows[0]):
            raise DataError(
                f"`{path}` has {len(row)} columns in line {number}; expected:"
                f" {len(rows[0])}, as in its header"
            )
    return rows


def _columns(header: list[str], name: str) -> tuple[int, int | None, int]:
    """Return where the texts and the label are."""
    label = next((header.index(one) for one in LABELS if one in header), None)
    for first, second in TEXTS:
        if label is not None and first in header and (second is None or second in header):
            return header.index(first), None if second is None else header.index(second), label
    texts = ", ".join(" and ".join(f"`{one}`" for one in pair if one) for pair in TEXTS)
    raise DataError(
        f"`{name}` has the columns {', '.join(f'`{one}`' for one in header[:8])}; expected: a"
        f" header with {texts}, and with {', '.join(f'`{one}`' for one in LABELS)}"
    )


def _tokenizer(root: Path) -> Any:
    if not (root / "vocab.txt").is_file():
        raise DataError(
            f"`bert` has the `root` `{root}`, which has no `vocab.txt`; expected: the folder of a"
            " BERT model with its vocabulary; nothing is downloaded"
        )
    try:
        from transformers import BertTokenizer
    except ImportError as error:
        raise ConfError(
            "`bert` makes tokens with transformers, which is not installed: `pip install"
            " transformers`"
        ) from error
    return BertTokenizer.from_pretrained(str(root), local_files_only=True)


def _numbers(labels: list[str]) -> list[Any]:
    """Return labels as whole numbers, numbers, or the place of their name among all names."""
    for kind in (int, float):
        try:
            numbers = [kind(one) for one in labels]
        except ValueError:
            continue
        return numbers if kind is int else [torch.tensor(one) for one in numbers]
    names = sorted(set(labels))
    return [names.index(one) for one in labels]
