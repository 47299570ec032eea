"""Sentences of a TSV as what BERT takes."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

import torch

from lpot_lightning.conf.buildable import check_bert
from lpot_lightning.data.places import content_of, place_of
from lpot_lightning.data.source import SampleSource
from lpot_lightning.errors import ConfError, DataError, in_short, quoted

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
_TOKENIZER = ("txt", "json", "jinja")
MAX_TOKENIZER = 256 << 20
"""Of a file beside the vocabulary: the `tokenizer.json` of a large one has 30 MB."""
LABELS = ("label", "Quality", "is_duplicate", "gold_label", "score")


def bert(
    root: str, label_file: str, task: str = "classifier", model_type: str = "bert"
) -> SampleSource:
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
    check_bert(task=task, model_type=model_type)
    folder = place_of(root, "bert")
    rows = _rows(_found(folder, label_file))
    first, second, label = _columns(rows[0], label_file)
    texts = [[row[first] for row in rows[1:]]]
    if second is not None:
        texts.append([row[second] for row in rows[1:]])
    tokens = _tokenizer(folder)(
        *texts, padding="max_length", truncation=True, max_length=LENGTH, return_tensors="pt"
    )
    names = [name for name in ("input_ids", "attention_mask", "token_type_ids") if name in tokens]
    labels = _numbers([row[label] for row in rows[1:]])
    return SampleSource(
        name="bert",
        count=len(labels),
        input=lambda number: {name: tokens[name][number] for name in names},
        label=labels.__getitem__,
        images=False,
    )


def _found(root: Path, label_file: str) -> Path:
    given = place_of(label_file, "bert")
    for path in (given, root / given):
        if path.is_file():
            return path
    raise DataError(
        f"`bert` has the `label_file` `{label_file}`, which is no file here or in `{root}`;"
        " expected: a TSV with a header, such as `dev.tsv` of MRPC; nothing is downloaded"
    )


def _rows(path: Path) -> list[list[str]]:
    content = content_of(path)
    try:
        lines = io.StringIO(content.decode("utf-8-sig"), newline="")
        rows = [row for row in csv.reader(lines, delimiter="\t", quoting=csv.QUOTE_NONE) if row]
    except (UnicodeDecodeError, csv.Error) as error:
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
        f"`{name}` has the columns {quoted(header[:8])}; expected: a header with"
        f" {texts}, and with {quoted(LABELS)}"
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
    _check_files(root)
    try:
        return BertTokenizer.from_pretrained(str(root), local_files_only=True)
    except Exception as error:  # transformers raises many kinds for a damaged file
        raise DataError(
            f"`bert` has the `root` `{root}`, whose tokenizer cannot be read ({in_short(error)})"
        ) from error


def _check_files(root: Path) -> None:
    """Refuse what transformers would wait for, or read without end, among the files it may open."""
    for path in (path for end in _TOKENIZER for path in root.glob(f"*.{end}")):
        if not path.is_dir():
            content_of(path, MAX_TOKENIZER)


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
