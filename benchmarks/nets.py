"""What `quantize` makes of nets of other kinds, at a goal of 1 % and of 0.1 %.

Each is trained on augmented handwritten digits: a MobileNetV3-like net with hard-swish and
squeeze-and-excite, a transformer on patches, one-dimensional convolutions with a GRU on the rows of
an image, read one after the other, and a cellular automaton, which int8 breaks. Beside the passes
are those that it would have taken had no hopeless trial been given up.

    make bench
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from time import monotonic

import torch
import torch.nn.functional as F
from classifier import IMAGES, LitClassifier, Loader, digits, quiet_trainer, say_nothing
from lightning.pytorch import seed_everything
from table import markdown
from torch import Tensor, nn

from lpot_lightning import TuningResult, quantize

sys.path.append(str(Path(__file__).parents[1] / "examples/qat"))
from automaton import Automaton  # noqa: E402

GOALS = (0.01, 0.001)


class SqueezeExcite(nn.Module):
    """Weigh the channels by what all places say (Hu et al., 2018)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.squeeze = nn.Conv2d(channels, channels // 4, 1)
        self.excite = nn.Conv2d(channels // 4, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Return the weighed channels."""
        weights = F.relu(self.squeeze(F.adaptive_avg_pool2d(x, 1)))
        return x * F.hardsigmoid(self.excite(weights))


class Inverted(nn.Module):
    """The block of MobileNetV3 (Howard et al., 2019)."""

    def __init__(self, channels: int, out: int, stride: int) -> None:
        super().__init__()
        wide = 4 * channels
        self.shortcut = stride == 1 and channels == out
        self.layers = nn.Sequential(
            nn.Conv2d(channels, wide, 1, bias=False),
            nn.BatchNorm2d(wide),
            nn.Hardswish(),
            nn.Conv2d(wide, wide, 3, stride, 1, groups=wide, bias=False),
            nn.BatchNorm2d(wide),
            nn.Hardswish(),
            SqueezeExcite(wide),
            nn.Conv2d(wide, out, 1, bias=False),
            nn.BatchNorm2d(out),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return the block's features."""
        y: Tensor = self.layers(x)
        return x + y if self.shortcut else y


def mobile() -> nn.Module:
    """Return a stem, five blocks and a head with hard-swish."""
    shapes = [(16, 24, 2), (24, 24, 1), (24, 40, 2), (40, 40, 1), (40, 40, 1)]
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1, bias=False),
        nn.BatchNorm2d(16),
        nn.Hardswish(),
        *(Inverted(*shape) for shape in shapes),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(40, 128),
        nn.Hardswish(),
        nn.Linear(128, 10),
    )


class Attention(nn.Module):
    """Self-attention with several heads."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width)
        self.value = nn.Linear(width, width)
        self.out = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """Return ``[batch, tokens, width]``."""
        query, key, value = (
            one(x).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for one in (self.query, self.key, self.value)
        )
        seen = F.scaled_dot_product_attention(query, key, value)
        mixed: Tensor = self.out(seen.transpose(1, 2).flatten(2))
        return mixed


class Layer(nn.Module):
    """Attention and two linear layers, each normalized before and added after."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm1, self.attention = nn.LayerNorm(width), Attention(width, heads)
        self.norm2, self.up = nn.LayerNorm(width), nn.Linear(width, 4 * width)
        self.down = nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        """Return ``[batch, tokens, width]``."""
        x = x + self.attention(self.norm1(x))
        y: Tensor = self.down(F.gelu(self.up(self.norm2(x))))
        return x + y


class Transformer(nn.Module):
    """A convolution, sixteen patches of four by four, three layers, the mean of their tokens."""

    def __init__(self, width: int = 96, heads: int = 4, layers: int = 3) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, width // 2, 3, padding=1)
        self.embed = nn.Conv2d(width // 2, width, 4, stride=4)
        self.place = nn.Parameter(0.02 * torch.randn(1, 16, width))
        self.layers = nn.Sequential(*(Layer(width, heads) for _ in range(layers)))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, 10)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits."""
        x = self.embed(F.relu(self.stem(x))).flatten(2).transpose(1, 2) + self.place
        logits: Tensor = self.head(self.norm(self.layers(x)).mean(1))
        return logits


class Rows(nn.Module):
    """Convolutions along the rows of an image and a GRU; pixels of a row are its channels."""

    def __init__(self, width: int = 96) -> None:
        super().__init__()
        self.stem = nn.Conv1d(16, width, 3, padding=1)
        self.conv1 = nn.Conv1d(width, width, 3, padding=1)
        self.conv2 = nn.Conv1d(width, width, 3, padding=1)
        self.gru = nn.GRU(width, width, batch_first=True)
        self.hidden, self.head = nn.Linear(width, width), nn.Linear(width, 10)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits."""
        x = F.relu(self.stem(x.squeeze(1).transpose(1, 2)))
        x = x + F.relu(self.conv1(x))
        x = x + F.relu(self.conv2(x))
        states, _ = self.gru(x.transpose(1, 2))
        logits: Tensor = self.head(F.relu(self.hidden(states[:, -1])))
        return logits


@dataclass(frozen=True)
class Kind:
    """A net and how it is trained."""

    build: Callable[[], nn.Module]
    epochs: int
    learning_rate: float


KINDS = {
    "MobileNetV3-like": Kind(mobile, 6, 3e-3),
    "transformer": Kind(Transformer, 12, 1e-3),
    "Conv1d and GRU": Kind(Rows, 8, 2e-3),
    "cellular automaton": Kind(Automaton, 8, 5e-3),
}
HEADS = [
    "net",
    "goal",
    "validation passes",
    "in full",
    "seconds, all in",
    "ops in fp32",
    "not quantizable",
    "fp32 accuracy",
    "int8 accuracy",
    "fp32 time / int8 time",
    "size",
    "status",
]


def tuned(model: LitClassifier, data: tuple[Loader, Loader], goal: float) -> TuningResult:
    """Quantize ``model`` so that at most ``goal`` of its accuracy is lost."""
    with tempfile.TemporaryDirectory() as folder:
        conf = {
            "model": {"name": "net", "framework": "pytorch_fx"},
            "tuning": {"accuracy_criterion": {"relative": goal}, "workspace": {"path": folder}},
        }
        return quantize(quiet_trainer(), model, *data, conf=conf)


def cells(name: str, goal: float, seconds: float, result: TuningResult) -> list[str]:
    """Return a row of the table."""
    fp32, int8 = len(result.fp32_ops), len(result.int8_ops)
    given_up = [one.score for one in result.trials if one.score.screened]
    spared = sum(1 - score.evaluations for score in given_up)
    return [
        name,
        f"{goal:.1%}",
        f"{result.evaluations:.1f}",
        f"{result.evaluations + spared:.1f}",
        f"{seconds:.1f}",
        f"{fp32} of {fp32 + int8}",
        str(len(result.not_quantizable)),
        f"{result.baseline:.4f}",
        f"{result.accuracy:.4f}",
        f"{result.speedup:.2f}x",
        f"{result.size_ratio:.2f}x",
        result.status,
    ]


def trained(kind: Kind, train: Loader, *, quick: bool) -> LitClassifier:
    """Return a net of ``kind``, always the same."""
    seed_everything(1, verbose=False)
    model = LitClassifier(kind.build(), kind.learning_rate)
    quiet_trainer(2 if quick else kind.epochs).fit(model, train)
    return model


def main() -> None:
    """Train, quantize at each goal, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="two epochs each")
    asked = parser.parse_args()
    say_nothing()
    data = digits(IMAGES, 0, train=True), digits(IMAGES, 1, train=False)
    rows = []
    for name, kind in KINDS.items():
        model = trained(kind, data[0], quick=asked.quick)
        for goal in GOALS:
            started = monotonic()
            result = tuned(model, data, goal)
            rows.append(cells(name, goal, monotonic() - started, result))
    print(markdown(HEADS, rows))


if __name__ == "__main__":
    main()
