"""Small models of every kind, each with its calibration batches."""

from functools import cache

import torch
import torch.nn.functional as F
from int8_scenes import Batch, calibrated, seeded
from torch import nn
from torch.ao.nn.quantized import FloatFunctional
from torch.ao.quantization import DeQuantStub, QuantStub, fuse_modules


class Made(nn.Module):
    """A model out of layers by name and a function of itself."""

    def __init__(self, forward, **layers):
        super().__init__()
        for name, layer in layers.items():
            setattr(self, name, layer)
        self.steps = forward

    def forward(self, x):
        return self.steps(self, x)


def images(*size, channels=3, samples=8, **kwargs):
    def batches():
        return [Batch(torch.randn(samples, channels, *size), **kwargs) for _ in range(3)]

    return batches


def rows(features, samples=16, **kwargs):
    def batches():
        return [Batch(torch.randn(samples, features), **kwargs) for _ in range(3)]

    return batches


def tokens(length=6, samples=8):
    def batches():
        return [Batch(torch.randint(0, 20, (samples, length))) for _ in range(3)]

    return batches


class Functions(nn.Module):
    """add, mul, cat, matmul, add and relu, activations, layer norm, sigmoid."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(8, 8), nn.Linear(8, 8)
        self.norm = nn.LayerNorm(8)
        self.head = nn.Linear(16, 4)

    def forward(self, x):
        a, b = self.a(x), self.b(x)
        s = F.relu(a + b)
        m = self.norm(a * b)
        attended = torch.matmul(s[:, :, None], m[:, None, :]).mean(1)
        z = torch.cat([attended, F.hardswish(s)], 1)
        return self.head(z * torch.sigmoid(z))


class Residual(nn.Module):
    def __init__(self):
        super().__init__()
        self.c1, self.b1 = nn.Conv2d(3, 6, 3, padding=1, bias=False), nn.BatchNorm2d(6)
        self.c2, self.b2 = nn.Conv2d(6, 6, 3, padding=1, bias=False), nn.BatchNorm2d(6)
        self.fc = nn.Linear(6, 5)

    def forward(self, x):
        y = F.relu(self.b1(self.c1(x)))
        y = F.relu(y + self.b2(self.c2(y)))
        return self.fc(F.max_pool2d(y, 2).mean((2, 3)))


class Floats(nn.Module):
    """FloatFunctional, as models written for eager quantization have it."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(8, 8), nn.Linear(8, 8)
        self.add, self.cat, self.mul = FloatFunctional(), FloatFunctional(), FloatFunctional()
        self.add_relu = FloatFunctional()

    def forward(self, x):
        a, b = self.a(x), self.b(x)
        s = self.add_relu.add_relu(self.add.add(a, b), a)
        return self.cat.cat([self.mul.mul(s, b), a], dim=1)


class Stubbed(nn.Module):
    def __init__(self, fused=False):
        super().__init__()
        self.quant, self.dequant = QuantStub(), DeQuantStub()
        self.conv, self.bn, self.relu = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU()
        self.fc = nn.Linear(4, 3)

    def forward(self, x):
        x = self.relu(self.bn(self.conv(self.quant(x))))
        return self.dequant(self.fc(x.mean((2, 3))))


def fused_by_hand():
    return fuse_modules(Stubbed().eval(), [["conv", "bn", "relu"]])


class CalledTwice(nn.Module):
    def __init__(self):
        super().__init__()
        self.shared, self.fc = nn.Linear(8, 8), nn.Linear(8, 3)

    def forward(self, x):
        return self.fc(torch.relu(self.shared(torch.relu(self.shared(x)))))


class TwoNames(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Linear(8, 8)
        self.second = self.first

    def forward(self, x):
        return self.second(torch.relu(self.first(x)))


class TiedWeights(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding, self.head = nn.Embedding(20, 8), nn.Linear(8, 20, bias=False)
        self.head.weight = self.embedding.weight

    def forward(self, x):
        return self.head(torch.tanh(self.embedding(x)))


class Bag(nn.Module):
    def __init__(self):
        super().__init__()
        self.bag, self.fc = nn.EmbeddingBag(20, 8, mode="sum"), nn.Linear(8, 3)

    def forward(self, x):
        return self.fc(self.bag(x))


class Words(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding, self.norm, self.fc = nn.Embedding(20, 8), nn.LayerNorm(8), nn.Linear(8, 3)

    def forward(self, x):
        return self.fc(self.norm(self.embedding(x)).mean(1))


class Rich(nn.Module):
    """Dicts and tuples in and out, keywords, and an argument that may be absent."""

    def __init__(self):
        super().__init__()
        self.left, self.right, self.head = nn.Linear(8, 8), nn.Linear(4, 8), nn.Linear(8, 3)

    def forward(self, inputs, extra=None, *, scale=1.0, tag="x"):
        left, (right, _) = inputs["left"], inputs["pair"]
        h = torch.relu(self.left(left) + self.right(right)) * scale
        if extra is not None:
            h = h + extra
        return {"logits": self.head(h), "all": (h, [h.mean(1)])}


def rich(**kwargs):
    def batches():
        return [
            Batch(
                {"left": torch.randn(16, 8), "pair": (torch.randn(16, 4), torch.ones(2))}, **kwargs
            )
            for _ in range(3)
        ]

    return batches


def layers(*stack):
    return lambda: nn.Sequential(*(kind(*args) for kind, *args in stack))


CONV = (nn.Conv2d, 3, 4, 3)
RELU = (nn.ReLU,)
ZOO = {
    "conv1d": (layers((nn.Conv1d, 3, 6, 3), RELU, (nn.Conv1d, 6, 4, 3)), images(12)),
    "conv2d": (layers((nn.Conv2d, 3, 6, 3), RELU, (nn.Conv2d, 6, 4, 3, 2)), images(8, 8)),
    "conv3d": (layers((nn.Conv3d, 3, 6, 3), RELU, (nn.Conv3d, 6, 4, 1)), images(4, 4, 4)),
    "up1d": (layers((nn.Conv1d, 3, 6, 3), (nn.ConvTranspose1d, 6, 4, 2, 2)), images(12)),
    "up2d": (layers((nn.Conv2d, 3, 6, 3), (nn.ConvTranspose2d, 6, 4, 2, 2)), images(8, 8)),
    "up3d": (layers((nn.Conv3d, 3, 6, 1), (nn.ConvTranspose3d, 6, 4, 2, 2)), images(4, 4, 4)),
    "linear": (layers((nn.Linear, 8, 16), RELU, (nn.Linear, 16, 4, False)), rows(8)),
    "one linear": (lambda: nn.Linear(8, 4), rows(8)),
    "embedding": (Words, tokens()),
    "embedding bag": (Bag, tokens()),
    "functions": (Functions, rows(8)),
    "residual": (Residual, images(8, 8)),
    "batch norm alone": (
        layers((nn.BatchNorm2d, 3), RELU, CONV, (nn.Tanh,), (nn.BatchNorm2d, 4)),
        images(8, 8),
    ),
    "conv bn relu": (layers(CONV, (nn.BatchNorm2d, 4), RELU), images(8, 8)),
    "float functional": (Floats, rows(8)),
    "stubs": (Stubbed, images(8, 8)),
    "fused by hand": (fused_by_hand, images(8, 8)),
    "called twice": (CalledTwice, rows(8)),
    "two names": (TwoNames, rows(8)),
    "tied weights": (TiedWeights, tokens()),
    "dicts": (Rich, rich()),
    "keywords": (Rich, rich(scale=2.0, tag="y")),
    "optional given": (Rich, rich(extra=torch.ones(16, 8))),
}


@cache
def calibrated_made(name):
    """Return a model of the zoo, its batches and its calibrated parts; read only."""
    model, batches = made(name)
    return model, batches, calibrated(model, *batches)


def made(name):
    """Return a model of the zoo and its batches."""
    factory, batches = ZOO[name]
    model = seeded(factory)
    return model, batches()
