"""Small modules of every kind that users write, each with data that its own fp32 self labels."""

from __future__ import annotations

from collections import namedtuple
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import lightning.pytorch as pl
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils import parametrizations, prune
from torch.utils import _pytree as pytree
from torch.utils.checkpoint import checkpoint

Pair = namedtuple("Pair", "first second")
NORMS, PRODUCT = "norms stay floats", "both operands are activations"


@dataclass
class Answer:
    logits: torch.Tensor
    extra: torch.Tensor | None = None


class Fits(pl.LightningModule):
    """Logs how well ``answer`` fits the targets: 1 for equal, less for a relative error."""

    def __init__(self, net: nn.Module | None = None, answer: Callable[..., Any] | None = None):
        super().__init__()
        if net is not None:
            self.net = net
        self.ask = answer

    def answer(self, x):
        return self.ask(self, x) if self.ask else self.net(x)

    def validation_step(self, batch, batch_idx):
        x, target = batch
        self.log("fit", fit(self.answer(x), target), batch_size=1)

    test_step = validation_step


def tensors(value: Any) -> list[torch.Tensor]:
    """Return the tensors in whatever a module gives, in their order."""
    if hasattr(value, "__dataclass_fields__") and not isinstance(value, dict):
        value = list(vars(value).values())
    found = pytree.tree_leaves(dict(value) if isinstance(value, dict) else value)
    return [one for one in found if isinstance(one, torch.Tensor)]


def fit(value: Any, target: list[torch.Tensor]) -> torch.Tensor:
    pairs = zip(tensors(value), target, strict=True)
    return 1 - torch.stack([(a - b).norm() / b.norm().clamp_min(1e-9) for a, b in pairs]).max()


class Calls(nn.Module):
    """A module out of layers by name and a function of itself."""

    def __init__(self, forward, **layers):
        super().__init__()
        self.steps = forward
        for name, layer in layers.items():
            setattr(self, name, layer)

    def forward(self, *args, **kwargs):
        return self.steps(self, *args, **kwargs)


class One(Calls):
    """The same, with a signature that can be traced."""

    def forward(self, x):
        return self.steps(self, x)


def rows(*size, samples=8):
    return lambda: torch.randn(samples, *(size or (8,)))


def tokens(length=6, samples=8):
    return lambda: torch.randint(1, 20, (samples, length))


def two(wide=16):
    return nn.Sequential(nn.Linear(8, wide), nn.ReLU(), nn.Linear(wide, 4))


@dataclass(frozen=True)
class Scene:
    """One module of the zoo.

    Args:
        make: gives the module, in the same weights each time.
        inputs: gives one batch.
        int8: names of the ops that are int8; all that are quantizable.
        stays: names of what cannot be int8, with a piece of the reason.
    """

    make: Callable[[], pl.LightningModule]
    inputs: Callable[[], Any] = rows()
    int8: str = ""
    stays: Mapping[str, str] = field(default_factory=dict)


# flat modules, and code that reaches past a forward


class Flat(Fits):
    def __init__(self, direct=False):
        super().__init__()
        self.direct = direct
        self.l1, self.l2, self.l3 = nn.Linear(8, 16), nn.Linear(16, 16), nn.Linear(16, 4)

    def forward(self, x):
        return self.l3(F.relu(self.l2(F.relu(self.l1(x)))))

    def answer(self, x):
        return self.forward(x) if self.direct else self(x)


class FlatPast(Flat):
    def answer(self, x):
        return self(x) + self.l3(torch.ones(len(x), 16))


class FlatConv(Fits):
    def __init__(self):
        super().__init__()
        self.conv, self.bn = nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8)
        self.down, self.head = nn.Conv2d(8, 8, 3, stride=2), nn.Linear(8, 4)

    def forward(self, x):
        x = F.relu(self.bn(self.conv(x)))
        return self.head(F.relu(self.down(x)).mean((2, 3)))

    def answer(self, x):
        return self(x)


class Logs(Flat):
    def forward(self, x):
        out = super().forward(x)
        self.log("fit_too", out.mean())
        return out


class BackboneAndHead(Fits):
    def __init__(self):
        super().__init__()
        self.backbone, self.head = two(), nn.Linear(4, 3)

    def forward(self, x):
        return self.head(F.relu(self.backbone(x)))

    def answer(self, x):
        return self(x)


class Autoencoder(nn.Module):
    """Has attributes, methods and parts that others use."""

    latent_dim = 4

    def __init__(self):
        super().__init__()
        self.encoder, self.decoder = two(), nn.Sequential(nn.Linear(4, 16), nn.Tanh())
        self.scale = nn.Parameter(torch.full((1,), 2.0))

    def forward(self, x):
        return self.decoder(self.encoder(x)) * self.scale

    def loss(self, out):
        return out.square().mean() * self.scale


class Late(Fits):
    def __init__(self):
        super().__init__()
        self.net = None

    def configure_model(self):
        if self.net is None:
            torch.manual_seed(0)
            self.net = two()


# attention and transformers


def attention(**given):
    def forward(m, x):
        return m.out(m.attend(x, x, x, need_weights=False)[0] + x)

    return One(forward, attend=nn.MultiheadAttention(8, 2, **given), out=nn.Linear(8, 4))


def cross_attention():
    """Its keys and values are of other widths, and its weights are given to the caller."""

    def forward(m, x):
        y, weights = m.attend(m.inp(x), x[:, :3, :6], x[:, :3, :5])
        return m.out(y), weights

    attend = nn.MultiheadAttention(8, 2, kdim=6, vdim=5, batch_first=True)
    return One(forward, inp=nn.Linear(8, 8), attend=attend, out=nn.Linear(8, 4))


class WindowAttention(nn.Module):
    """Swin's: of shifted windows, with a mask, and biases of places in a table."""

    def __init__(self, width=8, size=2):
        super().__init__()
        self.size, self.table = size, nn.Parameter(torch.randn((2 * size - 1) ** 2, 2))
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)
        places = torch.cartesian_prod(torch.arange(size), torch.arange(size))
        steps = places[:, None] - places[None] + size - 1
        self.register_buffer("index", steps[..., 0] * (2 * size - 1) + steps[..., 1])
        self.register_buffer("mask", torch.zeros(4, size**2, size**2))
        self.mask[1:, 0, 1:] = -100.0

    def forward(self, x):
        n, c = len(x) // 4, x.shape[-1]
        q, k, v = self.qkv(x).view(4 * n, -1, 3, 2, c // 2).permute(2, 0, 3, 1, 4).unbind(0)
        scores = q @ k.transpose(-1, -2) * c**-0.5 + self.table[self.index].permute(2, 0, 1)
        scores = scores.view(n, 4, 2, *scores.shape[-2:]) + self.mask[None, :, None]
        mixed = scores.flatten(0, 1).softmax(-1) @ v
        return self.proj(mixed.transpose(1, 2).reshape(x.shape))


def swin():
    def forward(m, x):
        y = torch.roll(m.norm(x), (-1, -1), (1, 2))
        y = y.view(len(x), 2, 2, 2, 2, -1).transpose(2, 3).reshape(-1, 4, x.shape[-1])
        y = m.attend(y).view(len(x), 2, 2, 2, 2, -1).transpose(2, 3).reshape(x.shape)
        return m.out(x + torch.roll(y, (1, 1), (1, 2)))

    return One(forward, norm=nn.LayerNorm(8), attend=WindowAttention(), out=nn.Linear(8, 4))


def encoder(layers=2, **given):
    layer = nn.TransformerEncoderLayer(8, 2, 16, **{"batch_first": True, **given})
    return nn.TransformerEncoder(layer, layers, enable_nested_tensor=given == {})


def masked(m, x):
    padding = torch.zeros(x.shape[:2], dtype=torch.bool)
    padding[:, 4:] = True
    return m.net(x, src_key_padding_mask=padding)[:, :4]


def text_classifier():
    def forward(m, x):
        return m.head(m.body(m.embed(x)).mean(1))

    return One(forward, embed=nn.Embedding(20, 8), body=encoder(1), head=nn.Linear(8, 3))


def decoder():
    layer = nn.TransformerDecoderLayer(8, 2, 16, batch_first=True)
    return One(lambda m, x: m.body(x, x.flip(1)), body=nn.TransformerDecoder(layer, 1))


# control flow, arguments and outputs


class Loops(nn.Module):
    """Control flow on shapes, which a trace takes as they were."""

    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(8, 8) for _ in range(3))

    def forward(self, x):
        for number, layer in enumerate(self.layers):
            x = F.relu(layer(x)) if number < len(self.layers) - 1 else layer(x)
        return x.flatten(1) if x.dim() > 2 else x


def on_values(m, x):
    return m.a(x) if x.sum() > 1e9 else m.b(x)


class Experts(nn.Module):
    def __init__(self):
        super().__init__()
        self.towers = nn.ModuleDict({"a": two(), "b": two()})
        self.gate = nn.Linear(8, 2)

    def forward(self, x):
        gate = self.gate(x).softmax(-1)
        return gate[:, :1] * self.towers["a"](x) + gate[:, 1:] * self.towers["b"](x)


class Tied(nn.Module):
    """The weight of the embedding is that of the head, as one parameter or by a function."""

    def __init__(self, function=False):
        super().__init__()
        self.function = function
        self.emb, self.mid = nn.Embedding(20, 8), nn.Linear(8, 8)
        if not function:
            self.head = nn.Linear(8, 20, bias=False)
            self.head.weight = self.emb.weight

    def forward(self, x):
        x = F.relu(self.mid(self.emb(x)))
        return F.linear(x, self.emb.weight) if self.function else self.head(x)


class TwoNames(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = two(8)
        self.second, self.out = self.first, nn.Linear(4, 2)

    def forward(self, x):
        return self.out(self.first(x) + self.second(x))


def thrice():
    shared = nn.Linear(8, 8)
    return nn.Sequential(shared, nn.ReLU(), shared, nn.ReLU(), shared)


class Remembers(nn.Module):
    """Keeps an activation for others to look at."""

    def __init__(self):
        super().__init__()
        self.body, self.head, self.features = two(), nn.Linear(4, 3), None

    def forward(self, x):
        self.features = self.body(x)
        return self.head(self.features)


class Counts(nn.Module):
    """Changes a buffer in its forward."""

    def __init__(self):
        super().__init__()
        self.register_buffer("seen", torch.zeros(1))
        self.body = two()

    def forward(self, x):
        self.seen.add_(len(x))
        return self.body(x) + self.seen * 0


class Spectrum(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("wave", torch.polar(torch.ones(8), torch.arange(8.0)))
        self.body = two()

    def forward(self, x):
        return self.body(torch.view_as_real(x * self.wave).sum(-1))


# weights that are computed, compiled and scripted parts


def weight_normed():
    net = two()
    parametrizations.weight_norm(net[0])
    parametrizations.spectral_norm(net[2])
    return net


def pruned():
    net = two()
    prune.l1_unstructured(net[0], "weight", 0.5)
    net(torch.ones(1, 8))  # the weight belongs to an autograd graph now
    return net


def lazy():
    net = nn.Sequential(nn.LazyLinear(16), nn.ReLU(), nn.LazyLinear(4))
    net(torch.ones(1, 8))
    return net


def hooked(inside=False):
    net = two()
    (net[0] if inside else net).register_forward_hook(double)
    return net


def double(module, args, out):
    return out * 2


def compiled():
    net = two()
    return torch.compile(net, backend="eager")


def compiled_in_place():
    net = two()
    net.compile(backend="eager")
    return net


def scripted():
    return nn.Sequential(torch.jit.script(nn.Sequential(nn.Linear(8, 8), nn.ReLU())), two())


def deep(levels=30):
    net = nn.Linear(8, 8)
    for _ in range(levels):
        net = nn.Sequential(net)
    return net


def odd_names():
    net = nn.Sequential()
    net.add_module("größe/2", nn.Linear(8, 8))
    net.add_module("class", nn.Linear(8, 4))
    return net


def penalized(m, x):
    return m.net(x) * (1 + 1e-3 * m.net[0].weight.norm())


def on_the_device(m, x):
    return m.net(x.to(next(m.net.parameters()).device))


def bert(layers=1):
    from transformers import BertConfig, BertForSequenceClassification

    return BertForSequenceClassification(
        BertConfig(
            vocab_size=20,
            hidden_size=8,
            num_hidden_layers=layers,
            num_attention_heads=2,
            intermediate_size=16,
            max_position_embeddings=16,
        )
    )


def no_grad(m, x):
    with torch.no_grad():
        features = m.a(x)
    return m.b(F.relu(features))


def ask_bert(m, x):
    return m.net(input_ids=x, attention_mask=torch.ones_like(x))


def ask_gru(m, x):
    return m.out(m.rnn(F.relu(m.inp(x)))[0][:, -1])


def lit(factory, answer=None):
    return lambda: Fits(factory(), answer)


CONV = "conv"
OTHERS = "its weight is used by other code than its own `forward`"
ALONE = "alone is not quantized"
KERNEL = "has no int8 kernel for"
WRONG = "its int8 kernel is wrong on this machine"
UNCALLED = "is never called by the validation loop"
LISTS = "works on a list of tensors that is made elsewhere"
INTEGERS = "works on integers"

ZOO = {
    "flat": Scene(Flat, int8="l1 l2 l3"),
    "flat, by forward": Scene(lambda: Flat(direct=True), int8="l1 l2 l3"),
    "flat, reached past": Scene(FlatPast, int8="l1 l2 l3"),
    "flat convolutions": Scene(FlatConv, rows(3, 8, 8), int8="conv down head"),
    "a forward that logs": Scene(Logs, int8="l1 l2 l3"),
    "backbone and head": Scene(BackboneAndHead, int8="backbone.0 backbone.2 head"),
    "sequential": Scene(lit(two), int8="net.0 net.2"),
    "one layer": Scene(lit(lambda: nn.Linear(8, 4)), int8="net"),
    "by forward": Scene(lit(two, lambda m, x: m.net.forward(x)), int8="net.0 net.2"),
    "an attribute is read": Scene(
        lit(Autoencoder, lambda m, x: m.net(x) / m.net.latent_dim),
        int8="net.encoder.0 net.encoder.2 net.decoder.0",
    ),
    "a method is called": Scene(
        lit(Autoencoder, lambda m, x: m.net.loss(m.net(x))),
        int8="net.encoder.0 net.encoder.2 net.decoder.0",
    ),
    "a part is called": Scene(
        lit(Autoencoder, lambda m, x: m.net.encoder(x)),
        int8="net.encoder.0 net.encoder.2",
        stays={"net.decoder.0": "saw no calibration data"},
    ),
    "both are called": Scene(
        lit(Autoencoder, lambda m, x: [m.net.encoder(x), m.net(x)]),
        int8="net.encoder.0 net.encoder.2 net.decoder.0",
    ),
    "gone through": Scene(
        lit(two, lambda m, x: [(x := layer(x)) for layer in m.net][-1]), int8="net.0 net.2"
    ),
    "length and items": Scene(
        lit(two, lambda m, x: m.net(x) / len(m.net) / m.net[-1].out_features), int8="net.0 net.2"
    ),
    "a weight is read": Scene(lit(two, penalized), int8="net.0 net.2"),
    "a parameter's device": Scene(lit(two, on_the_device), int8="net.0 net.2"),
    "configure_model": Scene(Late, int8="net.0 net.2"),
    "attention": Scene(
        lit(attention),
        rows(5, 8),
        int8="net.attend#linear_0 net.attend#linear_1 net.out",
        stays={"net.attend#scaled_dot_product_attention_0": PRODUCT},
    ),
    "attention, batch first": Scene(
        lit(lambda: attention(batch_first=True)),
        rows(5, 8),
        int8="net.attend#linear_0 net.attend#linear_1 net.out",
        stays={"net.attend#scaled_dot_product_attention_0": PRODUCT},
    ),
    "cross attention": Scene(
        lit(cross_attention),
        rows(5, 8),
        int8=(
            "net.inp "
            "net.attend#linear_0 "
            "net.attend#linear_1 "
            "net.attend#linear_2 "
            "net.attend#linear_3 "
            "net.out"
        ),
        stays={
            "net.attend#bmm_0": PRODUCT,
            "net.attend#softmax_0": "softmax stays floats",
            "net.attend#bmm_1": PRODUCT,
        },
    ),
    "swin": Scene(
        lit(swin),
        rows(4, 4, 8),
        int8="net.attend.qkv net.attend.proj net.out",
        stays={
            "net.norm": NORMS,
            "net.attend#matmul_0": PRODUCT,
            "net.attend#softmax_0": "softmax stays floats",
            "net.attend#matmul_1": PRODUCT,
            "net.attend": "`table` goes into no weight",
        },
    ),
    "transformer encoder": Scene(
        lit(encoder),
        rows(5, 8),
        int8=(
            "net.layers.0.self_attn#linear_0 "
            "net.layers.0.self_attn#linear_1 "
            "net.layers.0.linear1 "
            "net.layers.0.linear2 "
            "net.layers.1.self_attn#linear_0 "
            "net.layers.1.self_attn#linear_1 "
            "net.layers.1.linear1 "
            "net.layers.1.linear2"
        ),
        stays={
            "net.layers.0.norm1": NORMS,
            "net.layers.0.norm2": NORMS,
            "net.layers.1.norm1": NORMS,
            "net.layers.1.norm2": NORMS,
            "net.layers.0.self_attn#scaled_dot_product_attention_0": PRODUCT,
            "net.layers.1.self_attn#scaled_dot_product_attention_0": PRODUCT,
        },
    ),
    "transformer encoder, masked": Scene(
        lit(encoder, masked),
        rows(5, 8),
        int8=(
            "net.layers.0.self_attn#linear_0 "
            "net.layers.0.self_attn#linear_1 "
            "net.layers.0.linear1 "
            "net.layers.0.linear2 "
            "net.layers.1.self_attn#linear_0 "
            "net.layers.1.self_attn#linear_1 "
            "net.layers.1.linear1 "
            "net.layers.1.linear2"
        ),
        stays={
            "net.layers.0.norm1": NORMS,
            "net.layers.0.norm2": NORMS,
            "net.layers.1.norm1": NORMS,
            "net.layers.1.norm2": NORMS,
            "net.layers.0.self_attn#scaled_dot_product_attention_0": PRODUCT,
            "net.layers.1.self_attn#scaled_dot_product_attention_0": PRODUCT,
        },
    ),
    "transformer encoder, norm first": Scene(
        lit(lambda: encoder(norm_first=True, activation="gelu")),
        rows(5, 8),
        int8=(
            "net.layers.0.self_attn#linear_0 "
            "net.layers.0.self_attn#linear_1 "
            "net.layers.0.linear1 "
            "net.layers.0.linear2 "
            "net.layers.1.self_attn#linear_0 "
            "net.layers.1.self_attn#linear_1 "
            "net.layers.1.linear1 "
            "net.layers.1.linear2"
        ),
        stays={
            "net.layers.0.norm1": NORMS,
            "net.layers.0.norm2": NORMS,
            "net.layers.1.norm1": NORMS,
            "net.layers.1.norm2": NORMS,
            "net.layers.0.self_attn#scaled_dot_product_attention_0": PRODUCT,
            "net.layers.1.self_attn#scaled_dot_product_attention_0": PRODUCT,
        },
    ),
    "transformer layer": Scene(
        lit(lambda: nn.TransformerEncoderLayer(8, 2, 16)),
        rows(5, 8),
        int8="net.self_attn#linear_0 net.self_attn#linear_1 net.linear1 net.linear2",
        stays={
            "net.norm1": NORMS,
            "net.norm2": NORMS,
            "net.self_attn#scaled_dot_product_attention_0": PRODUCT,
        },
    ),
    "transformer inside": Scene(
        lit(text_classifier),
        tokens(),
        int8=(
            "net.embed "
            "net.body.layers.0.self_attn#linear_0 "
            "net.body.layers.0.self_attn#linear_1 "
            "net.body.layers.0.linear1 "
            "net.body.layers.0.linear2 "
            "net.head"
        ),
        stays={
            "net.body.layers.0.norm1": NORMS,
            "net.body.layers.0.norm2": NORMS,
            "net.body.layers.0.self_attn#scaled_dot_product_attention_0": PRODUCT,
        },
    ),
    "transformer decoder": Scene(
        lit(decoder),
        rows(5, 8),
        int8=(
            "net.body.layers.0.self_attn#linear_0 "
            "net.body.layers.0.self_attn#linear_1 "
            "net.body.layers.0.multihead_attn#linear_0 "
            "net.body.layers.0.multihead_attn#linear_1 "
            "net.body.layers.0.multihead_attn#linear_2 "
            "net.body.layers.0.linear1 "
            "net.body.layers.0.linear2"
        ),
        stays={
            "net.body.layers.0.norm1": NORMS,
            "net.body.layers.0.norm2": NORMS,
            "net.body.layers.0.norm3": NORMS,
            "net.body.layers.0.self_attn#scaled_dot_product_attention_0": PRODUCT,
            "net.body.layers.0.multihead_attn#scaled_dot_product_attention_0": PRODUCT,
        },
    ),
    "bert": Scene(
        lit(bert, ask_bert),
        tokens(),
        int8=(
            "net.bert.embeddings.word_embeddings "
            "net.bert.embeddings.position_embeddings "
            "net.bert.embeddings.token_type_embeddings "
            "net.bert.encoder.layer.0.attention.self.query "
            "net.bert.encoder.layer.0.attention.self.key "
            "net.bert.encoder.layer.0.attention.self.value "
            "net.bert.encoder.layer.0.attention.output.dense "
            "net.bert.encoder.layer.0.intermediate.dense "
            "net.bert.encoder.layer.0.output.dense "
            "net.bert.pooler.dense "
            "net.classifier"
        ),
        stays={
            "net.bert.embeddings.LayerNorm": NORMS,
            "net.bert.encoder.layer.0.attention.output.LayerNorm": NORMS,
            "net.bert.encoder.layer.0.output.LayerNorm": NORMS,
            "net.bert.encoder.layer.0.attention.self#scaled_dot_product_attention_0": PRODUCT,
        },
    ),
    "flow on values": Scene(
        lit(lambda: One(on_values, a=nn.Linear(8, 4), b=nn.Linear(8, 4))),
        int8="net.b",
        stays={"net.a": "saw no calibration data"},
    ),
    "flow on shapes": Scene(lit(Loops), int8="net.layers.0 net.layers.1 net.layers.2"),
    "a module dict": Scene(
        lit(Experts),
        int8=("net.towers.a.0 net.towers.a.2 net.towers.b.0 net.towers.b.2 net.gate"),
        stays={"net#softmax_0": "softmax stays floats"},
    ),
    "starred arguments": Scene(
        lit(lambda: Calls(lambda m, x: m.a(x), a=two())), int8="net.a.0 net.a.2"
    ),
    "keywords": Scene(
        lit(lambda: Calls(lambda m, *, x: m.a(x), a=two()), lambda m, x: m.net(x=x)),
        int8="net.a.0 net.a.2",
    ),
    "a batch of names": Scene(
        lit(lambda: One(lambda m, x: m.a(x["left"]) + m.a(x["right"]), a=two())),
        lambda: {"left": torch.randn(8, 8), "right": torch.randn(8, 8)},
        int8="net.a.0 net.a.2",
    ),
    "a dict out": Scene(
        lit(lambda: One(lambda m, x: {"y": m.a(x), "none": None}, a=two())), int8="net.a.0 net.a.2"
    ),
    "a dataclass out": Scene(
        lit(lambda: One(lambda m, x: Answer(m.a(x)), a=two())), int8="net.a.0 net.a.2"
    ),
    "a named tuple out": Scene(
        lit(lambda: One(lambda m, x: Pair(m.a(x), x), a=two())), int8="net.a.0 net.a.2"
    ),
    "nested lists out": Scene(
        lit(lambda: One(lambda m, x: [m.a(x), [x, (None, 3)]], a=two())), int8="net.a.0 net.a.2"
    ),
    "a number out": Scene(
        lit(lambda: One(lambda m, x: m.a(x).mean() + 1, a=two())), int8="net.a.0 net.a.2"
    ),
    "tied weights": Scene(lit(Tied), tokens(), int8="net.emb net.mid net.head"),
    "tied by a function": Scene(
        lit(lambda: Tied(function=True)), tokens(), int8="net#linear_0 net.emb net.mid"
    ),
    "two names": Scene(lit(TwoNames), int8="net.first.0 net.first.2 net.out"),
    "thrice the same": Scene(lit(thrice), int8="net.0"),
    "remembers": Scene(
        lit(Remembers, lambda m, x: [m.net(x), m.net.features]),
        int8="net.body.0 net.body.2 net.head",
    ),
    "changes a buffer": Scene(lit(Counts), int8="net.body.0 net.body.2"),
    "a complex buffer": Scene(lit(Spectrum), int8="net.body.0 net.body.2"),
    "no_grad inside": Scene(
        lit(lambda: One(no_grad, a=two(), b=nn.Linear(4, 2))), int8="net.a.0 net.a.2 net.b"
    ),
    "checkpointed": Scene(
        lit(lambda: One(lambda m, x: checkpoint(m.a, x, use_reentrant=False), a=two())),
        int8="net.a.0 net.a.2",
    ),
    "weight and spectral norm": Scene(lit(weight_normed), int8="net.0 net.2"),
    "pruned": Scene(lit(pruned), int8="net.0 net.2"),
    "lazy": Scene(lit(lazy), int8="net.0 net.2"),
    "hooks outside": Scene(lit(hooked), int8="net.0 net.2"),
    "hooks inside": Scene(lit(lambda: hooked(inside=True)), int8="net.0 net.2"),
    "compiled": Scene(lit(compiled), int8="net._orig_mod.0 net._orig_mod.2"),
    "compiled in place": Scene(lit(compiled_in_place), int8="net.0 net.2"),
    "scripted": Scene(
        lit(scripted), int8="net.1.0 net.1.2", stays={"net.0": "was scripted by `torch.jit`"}
    ),
    "deep": Scene(
        lit(deep), int8="net.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0"
    ),
    "odd names": Scene(lit(odd_names), int8="net.größe/2 net.class"),
    "gru": Scene(
        lit(
            lambda: One(
                ask_gru,
                inp=nn.Linear(8, 8),
                rnn=nn.GRU(8, 8, batch_first=True),
                out=nn.Linear(8, 4),
            )
        ),
        rows(5, 8),
        int8="net.inp net.rnn net.out",
    ),
    "lstm": Scene(
        lit(
            lambda: One(
                ask_gru,
                inp=nn.Linear(8, 8),
                rnn=nn.LSTM(8, 8, batch_first=True),
                out=nn.Linear(8, 4),
            )
        ),
        rows(5, 8),
        int8="net.inp net.rnn net.out",
    ),
    "activations": Scene(
        lit(
            lambda: nn.Sequential(
                nn.Linear(8, 8),
                nn.PReLU(),
                nn.Linear(8, 8),
                nn.ELU(),
                nn.Linear(8, 8),
                nn.GELU(),
                nn.Linear(8, 8),
                nn.SiLU(),
                nn.Linear(8, 8),
                nn.Hardswish(),
                nn.Linear(8, 4),
            )
        ),
        int8="net.0 net.2 net.4 net.6 net.8 net.10",
    ),
    "cat of split": Scene(
        lit(
            lambda: One(
                lambda m, x: m.b(torch.cat(m.a(x).split(4, 1)[::-1], 1)),
                a=nn.Linear(8, 8),
                b=nn.Linear(8, 4),
            )
        ),
        int8="net.a net.b",
    ),
    "bags with offsets": Scene(
        lit(lambda: One(lambda m, x: m.b(m.a(x[0], x[1])), a=nn.EmbeddingBag(20, 8), b=two())),
        lambda: (torch.randint(0, 20, (12,)), torch.tensor([0, 3, 5, 9])),
        int8="net.a net.b.0 net.b.2",
    ),
    "bags by themselves": Scene(
        lit(
            lambda: One(
                lambda m, x: m.b(sum(bag(*x) for bag in m.bags)),
                bags=nn.ModuleList(nn.EmbeddingBag(20, 8, mode=mode) for mode in ("sum", "mean")),
                b=two(),
            )
        ),
        lambda: (torch.randint(0, 20, (12,)), torch.tensor([0, 3, 5, 9])),
        int8="net.bags.0 net.bags.1 net.b.0 net.b.2",
    ),
    "channels last": Scene(
        lit(lambda: nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.ConvTranspose2d(8, 3, 2))),
        lambda: torch.randn(8, 3, 8, 8).contiguous(memory_format=torch.channels_last),
        int8="net.0",
        stays={"net.2": "no int8 kernel for transposed"},
    ),
    "norms": Scene(
        lit(
            lambda: nn.Sequential(
                nn.Conv2d(3, 8, 3),
                nn.GroupNorm(2, 8),
                nn.Conv2d(8, 8, 3),
                nn.InstanceNorm2d(8),
                nn.Conv2d(8, 4, 1),
            )
        ),
        rows(3, 8, 8),
        int8="net.0 net.2 net.4",
        stays={"net.1": NORMS, "net.3#instance_norm_0": NORMS},
    ),
    "one sample": Scene(lit(two), rows(samples=1), int8="net.0 net.2"),
}
