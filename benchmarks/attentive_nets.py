"""Transformers and recurrent nets as they are called, with weights and data of their own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from attentive import Bert, Gpt, Vit, Whisper
from todays_nets import images
from torch import Tensor, nn

Sample = tuple[Tensor, ...]
Maker = Callable[[int, torch.Generator], Sample]
BERT_WORDS, GPT_WORDS, WHISPER_WORDS = 30522, 50257, 51865
HEADS, HEAD, LAYERS, CACHED = 12, 64, 4, 128


class Recurrent(nn.Module):
    """Two recurrent layers, as wide inside as what they are given."""

    def __init__(self, kind: type[nn.GRU] | type[nn.LSTM], width: int) -> None:
        super().__init__()
        self.rnn = kind(width, width, num_layers=2, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        """Return the states of all steps."""
        states: Tensor = self.rnn(x)[0]
        return states


def ids(words: int, tokens: int) -> Maker:
    """Return what makes numbers of words."""
    return lambda count, generator: (torch.randint(0, words, (count, tokens), generator=generator),)


def noise(*shape: int, scale: float = 1.0) -> Maker:
    """Return what makes numbers of one normal distribution."""
    return lambda count, generator: (scale * torch.randn(count, *shape, generator=generator),)


def pictures(size: int) -> Maker:
    """Return what makes images."""
    make = images(size)
    return lambda count, generator: (make(count, generator),)


def together(*makers: Maker) -> Maker:
    """Return what makes an input of each kind."""
    return lambda count, generator: tuple(one for make in makers for one in make(count, generator))


@dataclass(frozen=True)
class Called:
    """A net, and how it is called.

    Args:
        build: makes it, with random weights.
        inputs: makes the inputs of a batch of so many.
        batch: how many.
        transformer: whether NNCF is told that it is one.
        samples: with which it is calibrated, unless a batch has more.
    """

    build: Callable[[], nn.Module]
    inputs: Maker
    batch: int = 1
    transformer: bool = True
    samples: int = 4

    def made(self) -> nn.Module:
        """Return the net, always the same."""
        torch.manual_seed(0)
        return self.build().eval().requires_grad_(False)

    def data(self, seed: int, count: int | None = None) -> Sample:
        """Return a batch, or ``count`` samples, always the same."""
        return self.inputs(count or self.batch, torch.Generator().manual_seed(seed))


def recurrent(kind: type[nn.GRU] | type[nn.LSTM], width: int, batch: int) -> Called:
    """Return a recurrent net, called with 100 steps."""
    return Called(lambda: Recurrent(kind, width), noise(100, width), batch, transformer=False)


CACHE = noise(LAYERS, 2, HEADS, CACHED, HEAD, scale=0.5)
NETS: dict[str, Called] = {
    "BERT, 4 layers, 1 x 128": Called(Bert, ids(BERT_WORDS, 128)),
    "BERT, 4 layers, 16 x 128": Called(Bert, ids(BERT_WORDS, 128), 16),
    "ViT-S/16, 1 image": Called(Vit, pictures(224), samples=16),
    "GPT-2, 4 layers, 128 tokens": Called(Gpt, ids(GPT_WORDS, 128)),
    "GPT-2, 4 layers, 1 token behind 128": Called(
        Gpt,
        together(ids(GPT_WORDS, 1), CACHE),
        samples=32,  # each shows one token
    ),
    "Whisper-tiny, 1500 frames, 32 tokens": Called(
        Whisper, together(noise(80, 3000), ids(WHISPER_WORDS, 32))
    ),
} | {
    f"{kind.__name__} of {width}, {batch} x 100": recurrent(kind, width, batch)
    for kind in (nn.GRU, nn.LSTM)
    for width in (1024, 256)
    for batch in (1, 32)
}
