"""YAMLs of the shape of LPOT 1.6's own, by name; who takes each is beside it."""

from __future__ import annotations

from pathlib import Path

LETTERS = {
    "Q": "QuantizationCallback",
    "T": "QATCallback",
    "P": "PruningCallback",
    "q": "Quantization",
    "p": "Pruning",
}
_TEXTS = (Path(__file__).parent / "lpots_yamls.txt").read_text().split("\n--- ")[1:]
_PARTS = [text.partition("\n") for text in _TEXTS]

TEXTS = {head.partition(": ")[0]: body for head, _, body in _PARTS}
REFUSED = {
    head.partition(": ")[0]: head.partition(": refused ")[2]
    for head, _, _ in _PARTS
    if ": refused " in head
}
READERS = {
    head.partition(": ")[0]: [LETTERS[letter] for letter in head.partition(": ")[2].split()]
    for head, _, _ in _PARTS
    if ": refused " not in head
}
"""Without `Benchmark`, which takes all of them."""
