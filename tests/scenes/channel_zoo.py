"""Small models of every kind, the calls of each, and which of their groups can be cut."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn


class Made(nn.Module):
    """A model out of layers by name and a function of itself."""

    def __init__(self, forward, **layers):
        super().__init__()
        for name, layer in layers.items():
            setattr(self, name, layer)
        self.steps = forward

    def forward(self, *args, **kwargs):
        return self.steps(self, *args, **kwargs)


def conv_bn(before, after, size=3, **kwargs):
    conv = nn.Conv2d(before, after, size, padding=size // 2, bias=False, **kwargs)
    return nn.Sequential(conv, nn.BatchNorm2d(after))


def plain():
    return nn.Sequential(
        *(*conv_bn(3, 8), nn.ReLU(), nn.Conv2d(8, 6, 3, stride=2), nn.ReLU()),
        *(nn.Flatten(), nn.Linear(6 * 9, 10), nn.BatchNorm1d(10), nn.ReLU(), nn.Linear(10, 4)),
    )


class ResBlock(nn.Module):
    def __init__(self, before, after, stride):
        super().__init__()
        self.one, self.two = conv_bn(before, after, stride=stride), conv_bn(after, after)
        self.down = conv_bn(before, after, 1, stride=stride) if stride > 1 else nn.Identity()

    def forward(self, x):
        return F.relu(self.two(F.relu(self.one(x))) + self.down(x))


def resnet():
    blocks = (ResBlock(8, 8, 1), ResBlock(8, 12, 2), ResBlock(12, 12, 1))
    pool = nn.AdaptiveAvgPool2d(1)
    return nn.Sequential(conv_bn(3, 8), nn.ReLU(), *blocks, pool, nn.Flatten(), nn.Linear(12, 5))


def mobile():
    return nn.Sequential(
        *(conv_bn(3, 8), nn.ReLU6(), conv_bn(8, 8, groups=8), nn.ReLU6(), conv_bn(8, 12, 1)),
        *(nn.PReLU(12), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(12, 5)),
    )


def squeeze():
    def forward(m, x):
        x = F.relu(m.stem(x))
        scale = torch.sigmoid(m.up(F.relu(m.down(x.mean((2, 3))))))
        return m.head((x * scale[:, :, None, None]).mean((2, 3)))

    return Made(
        forward,
        stem=conv_bn(3, 8),
        down=nn.Linear(8, 6),
        up=nn.Linear(6, 8),
        head=nn.Linear(8, 3),
    )


def dense():
    def forward(m, x):
        a = m.a(x)
        ab = torch.cat([a, m.b(F.relu(a))], 1)
        abc = torch.cat([ab, m.c(F.relu(ab))], 1)
        return m.head(F.relu(abc).mean((2, 3)))

    layers = {"a": conv_bn(3, 4), "b": conv_bn(4, 5), "c": conv_bn(9, 6)}
    return Made(forward, **layers, head=nn.Linear(15, 3))


def concat_and_add():
    """The halves of `both` belong to `a` and to `b`."""

    def forward(m, x):
        return m.head(F.relu(m.both(x) + torch.cat([m.a(x), m.b(x)], 1)))

    convs = {"both": nn.Conv2d(3, 10, 3), "a": nn.Conv2d(3, 4, 3), "b": nn.Conv2d(3, 6, 3)}
    return Made(forward, **convs, head=nn.Conv2d(10, 2, 1))


def gated():
    """Each channel of the first half goes with one of the second."""

    def forward(m, x):
        value, gate = m.gate(x).chunk(2, 1)
        return m.fc(value * torch.sigmoid(gate))

    return Made(forward, gate=nn.Linear(6, 16), fc=nn.Linear(8, 3))


class Attention(nn.Module):
    def __init__(self, width=16, heads=2):
        super().__init__()
        self.heads, self.norm, self.norm2 = heads, nn.LayerNorm(width), nn.LayerNorm(width)
        self.q, self.k, self.v = (nn.Linear(width, width) for _ in range(3))
        self.out = nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 24), nn.Linear(24, width)
        self.scale = nn.Parameter(torch.full((width,), 1e-6))

    def split(self, x):
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)

    def forward(self, x):
        y = self.norm(x)
        parts = [self.split(one(y)) for one in (self.q, self.k, self.v)]
        x = x + self.out(F.scaled_dot_product_attention(*parts).transpose(1, 2).flatten(2))
        return x + self.scale * self.down(F.gelu(self.up(self.norm2(x))))


def transformer():
    def forward(m, ids):
        return m.head(m.blocks(m.words(ids) + m.places).mean(1))

    blocks = nn.Sequential(Attention(), Attention())
    model = Made(forward, words=nn.Embedding(20, 16), blocks=blocks, head=nn.Linear(16, 3))
    model.places = nn.Parameter(torch.randn(1, 6, 16))
    return model


class Packed(nn.Module):
    """As in a ViT: one layer gives queries, keys and values; there is a bias for each head.

    Args:
        order: of the dimensions that its rows are: parts first, or heads first.
        joined: how the heads are put together, which may know their width by heart.
    """

    def __init__(self, order="parts", joined="flatten", width=16, heads=4):
        super().__init__()
        self.num_heads, self.head_dim, self.order, self.joined = (
            heads,
            width // heads,
            order,
            joined,
        )
        self.attn_dim, self.dim = width, width
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.bias = nn.Parameter(torch.randn(heads, 1, 1))

    def forward(self, x):
        b, n, c = x.shape
        if self.order == "parts":
            parts = self.qkv(x).reshape(b, n, 3, self.num_heads, -1).permute(2, 0, 3, 1, 4)
        else:
            parts = self.qkv(x).reshape(b, n, self.num_heads, 3, -1).permute(3, 0, 2, 1, 4)
        q, k, v = parts.unbind(0)
        y = ((q @ k.mT + self.bias).softmax(-1) @ v).transpose(1, 2)
        width = {"input": c, "dim": self.dim, "attn_dim": self.attn_dim, "flatten": -1}
        return self.proj(y.reshape(b, n, width[self.joined]))


class KeysAndValues(nn.Module):
    """One layer for queries, one for keys and values, wider than what they read."""

    def __init__(self, width=16, heads=3, size=8):
        super().__init__()
        self.dim_head = size  # and nothing says how many there are
        self.to_q = nn.Linear(width, heads * size, bias=False)
        self.to_kv = nn.Linear(width, 2 * heads * size, bias=False)
        self.to_out = nn.Sequential(nn.Linear(heads * size, width), nn.Dropout(0.1))

    def forward(self, x):
        parts = self.to_q(x), *self.to_kv(x).chunk(2, -1)
        q, k, v = (one.unflatten(-1, (-1, self.dim_head)).transpose(1, 2) for one in parts)
        return self.to_out(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))


class Values(nn.Module):
    """Of a BERT: the layer that reads the heads is another module's."""

    def __init__(self, width=16, heads=4):
        super().__init__()
        self.num_attention_heads, self.all_head_size = heads, width
        self.query, self.key, self.value = (nn.Linear(width, width) for _ in range(3))

    def forward(self, x):
        parts = self.query(x), self.key(x), self.value(x)
        heads = self.num_attention_heads
        q, k, v = (one.unflatten(-1, (heads, -1)).transpose(1, 2) for one in parts)
        y = F.scaled_dot_product_attention(q, k, v).transpose(1, 2)
        return y.reshape(*y.shape[:2], self.all_head_size)


def stream_of(*attentions, width=16):
    """Attentions that are added to a stream, and norms before them."""
    layers = {"stem": nn.Linear(6, width), "attn": nn.ModuleList(attentions)}
    norms = nn.ModuleList(nn.LayerNorm(width) for _ in attentions)

    def forward(m, x):
        x = m.stem(x)
        for norm, attention in zip(m.norms, m.attn, strict=True):
            x = x + attention(norm(x))
        return m.head(x.mean(1))

    return Made(forward, **layers, norms=norms, head=nn.Linear(width, 3))


def bert():
    return stream_of(*(nn.Sequential(Values(), nn.Linear(16, 16)) for _ in range(2)))


def torch_transformer():
    layer = nn.TransformerEncoderLayer(8, 2, 12, batch_first=True, dropout=0.1)
    return nn.Sequential(nn.TransformerEncoder(layer, 2, enable_nested_tensor=False))


def convnext():
    """A scale for each channel, as a bare parameter."""

    def forward(m, x):
        x = m.stem(x)
        return m.head((x + m.scale * m.down(F.relu(m.up(x)))).mean((2, 3)))

    convs = {"stem": conv_bn(3, 8), "up": nn.Conv2d(8, 12, 1), "down": nn.Conv2d(12, 8, 1)}
    model = Made(forward, **convs, head=nn.Linear(8, 3))
    model.scale = nn.Parameter(torch.full((8, 1, 1), 1e-6))
    return model


def decoder():
    return nn.Sequential(
        *(nn.ConvTranspose2d(4, 8, 2, 2), nn.BatchNorm2d(8), nn.ReLU()),
        *(nn.ConvTranspose2d(8, 6, 2, 2), nn.InstanceNorm2d(6, affine=True), nn.ReLU()),
        nn.Conv2d(6, 1, 3, padding=1),
    )


def sound():
    return nn.Sequential(
        *(nn.Conv1d(2, 8, 5), nn.BatchNorm1d(8), nn.Tanh(), nn.Conv1d(8, 6, 3)),
        *(nn.AdaptiveMaxPool1d(3), nn.Flatten(), nn.Linear(18, 2)),
    )


class AutoEncoder(nn.Module):
    """Entered by its two halves only; what one gives, the other reads."""

    def __init__(self):
        super().__init__()
        self.enc = nn.Sequential(nn.Linear(6, 10), nn.ReLU(), nn.Linear(10, 4))
        self.dec = nn.Sequential(nn.Linear(4, 12), nn.ReLU(), nn.Linear(12, 6))

    def forward(self, x):
        raise NotImplementedError


def tied():
    """The word vectors are the head, and what lies between is added to them."""

    def forward(m, ids):
        x = m.words(ids).mean(1)
        return m.head(x + m.fc(x))

    words, head = nn.Embedding(20, 8), nn.Linear(8, 20, bias=False)
    head.weight = words.weight
    return Made(forward, words=words, fc=nn.Linear(8, 8), head=head)


def tied_in_a_circle():
    """One layer is called twice, and its weight is that of another, too."""

    def forward(m, x):
        x = m.stem(x)
        return m.head(x + F.relu(m.two(F.relu(m.one(F.relu(m.one(x)))))))

    layers = {name: nn.Linear(8, 8) for name in ("stem", "one", "two")}
    layers["two"].weight = layers["one"].weight
    return Made(forward, **layers, head=nn.Linear(8, 2))


def half_tied():
    """`two` has the weight of `one`; it reads what `one` gives, and gives what the model does."""

    def forward(m, x):
        return m.two(F.relu(m.one(x)))

    layers = {name: nn.Linear(8, 8) for name in ("one", "two")}
    layers["two"].weight = layers["one"].weight
    return Made(forward, **layers)


def many_outputs():
    """Takes keywords, gives a dict with a tuple, a scalar and a None in it."""

    def forward(m, *, image, factor=1.0):
        x = F.relu(m.stem(image))
        y = F.relu(m.mid(x))
        return {"maps": (x, m.last(y)), "loss": m.last(y).mean() * factor, "nothing": None}

    convs = {"stem": conv_bn(3, 6), "mid": conv_bn(6, 8), "last": nn.Conv2d(8, 2, 1)}
    return Made(forward, **convs)


def distribution():
    """Gives an object that holds tensors."""

    def forward(m, x):
        mean = m.mean(F.relu(m.stem(x)))
        return torch.distributions.Normal(mean, torch.ones_like(mean), validate_args=False)

    return Made(forward, stem=nn.Linear(6, 8), mean=nn.Linear(8, 4))


def two_names():
    """One layer under two names, as `model.net` and `model.nets[0]` often are."""
    net = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 2))
    return Made(lambda m, x: m.net(x), net=net, again=nn.ModuleList([net]))


def zero_start():
    """A head of zeros: by the model's own weights nothing that goes wrong shows."""

    def forward(m, x):
        return m.head(F.relu(m.good(x))) + m.other(torch.sigmoid(m.gate(x)))

    names = {"good": nn.Linear(6, 8), "gate": nn.Linear(6, 8)}
    model = Made(forward, **names, head=nn.Linear(8, 2), other=nn.Linear(8, 2))
    nn.init.zeros_(model.other.weight)
    return model


def sigmoid():
    """What is masked is a half after the sigmoid, and nothing else makes it zero."""
    return nn.Sequential(nn.Linear(6, 8), nn.Sigmoid(), nn.Linear(8, 7), nn.ReLU(), nn.Linear(7, 2))


def hard_coded():
    """Knows the number of channels by heart."""
    return Made(
        lambda m, x: m.fc(m.conv(x).relu().reshape(-1, 8 * 36)),
        conv=nn.Conv2d(3, 8, 3),
        fc=nn.Linear(8 * 36, 2),
    )


def grouped():
    return nn.Sequential(
        *(conv_bn(3, 8), nn.ReLU(), conv_bn(8, 12, groups=4), nn.ReLU(), conv_bn(12, 10)),
        *(nn.ReLU(), nn.GroupNorm(2, 10), nn.Conv2d(10, 6, 1), nn.ReLU(), nn.Conv2d(6, 2, 1)),
    )


class Bottleneck(nn.Module):
    """Of a ResNeXt or RegNet: its middle convolution has groups."""

    def __init__(self, before, width, after, groups, stride=1):
        super().__init__()
        self.a, self.c = conv_bn(before, width, 1), conv_bn(width, after, 1)
        self.b = conv_bn(width, width, groups=groups, stride=stride)
        self.down = conv_bn(before, after, 1, stride=stride) if stride > 1 else nn.Identity()

    def forward(self, x):
        return (self.down(x) + self.c(self.b(self.a(x).relu()).relu())).relu()


def bottlenecks(groups):
    """With a width of 16, 8 groups go as a whole, and of 2 the channels at the same places."""
    blocks = Bottleneck(8, 16, 8, groups), Bottleneck(8, 16, 12, groups, stride=2)
    pooled = nn.AdaptiveAvgPool2d(1), nn.Flatten()
    return nn.Sequential(conv_bn(3, 8), nn.ReLU(), *blocks, *pooled, nn.Linear(12, 3))


def grouped_decoder(groups):
    up = nn.ConvTranspose2d(8, 12, 2, 2, groups=groups)
    return nn.Sequential(nn.Conv2d(3, 8, 1), nn.ReLU(), up, nn.ReLU(), nn.Conv2d(12, 2, 1))


def groups_in_a_row():
    """The first goes by four groups of 4 to 6, the second by two of 12 to 8: two parts are left."""
    convs = nn.Conv2d(16, 24, 3, groups=4), nn.ReLU(), nn.Conv2d(24, 16, 3, groups=2), nn.ReLU()
    return nn.Sequential(nn.Conv2d(3, 16, 1), nn.ReLU(), *convs, nn.Conv2d(16, 2, 1))


def widened():
    """Two outputs of each input by itself."""
    wide = nn.Conv1d(8, 16, 3, groups=8)
    return nn.Sequential(nn.Conv1d(2, 8, 3), nn.ReLU(), wide, nn.ReLU(), nn.Conv1d(16, 3, 3))


def recurrent():
    def forward(m, x):
        return m.head(F.relu(m.mid(m.rnn(F.relu(m.stem(x)))[0][:, -1])))

    layers = {"stem": nn.Linear(5, 6), "rnn": nn.LSTM(6, 8, batch_first=True)}
    return Made(forward, **layers, mid=nn.Linear(8, 7), head=nn.Linear(7, 2))


def two_parts():
    """Whole as one call, and its first part once more by itself."""
    return Made(
        lambda m, x: m.head(F.relu(m.enc(x))),
        enc=nn.Sequential(nn.Linear(6, 10), nn.ReLU(), nn.Linear(10, 8)),
        head=nn.Sequential(nn.Linear(8, 9), nn.ReLU(), nn.Linear(9, 2)),
    )


@dataclass
class Case:
    """A model, its calls, and which groups can be cut.

    Args:
        make: gives a new one.
        groups: the number of channels by the name of the group.
        sizes: of the example batch, without the first dimension.
        calls_: what gives the calls, where one batch is not all.
    """

    make: object
    groups: dict
    sizes: tuple = (3, 8, 8)
    calls_: object = None

    def calls(self, seed=0):
        generator = torch.Generator().manual_seed(seed)
        if self.calls_:
            return self.calls_(generator)
        return {"": ((torch.randn(4, *self.sizes, generator=generator),), {})}


def _ids(generator):
    return {"": ((torch.randint(0, 20, (4, 6), generator=generator),), {})}


def _halves(generator):
    x, z = (torch.randn(4, size, generator=generator) for size in (6, 4))
    return {"enc": ((x,), {}), "dec": ((z,), {})}


def _parts(generator):
    x = torch.randn(4, 6, generator=generator)
    return {"": ((x,), {}), "enc": ((x,), {})}


def _keywords(generator):
    return {"": ((), {"image": torch.randn(4, 3, 8, 8, generator=generator), "factor": 2.0})}


RESNET = {"0.0": 8, "2.one.0": 8, "3.one.0": 12, "3.two.0": 12, "4.one.0": 12}
HEADS = {"blocks.0.up": 24, "blocks.1.up": 24, "blocks.0.v": 2, "blocks.1.v": 2}
CASES = {
    "plain": Case(plain, {"0": 8, "3": 6, "6": 10}),
    "resnet": Case(resnet, RESNET),
    "mobile": Case(mobile, {"0.0": 8, "4.0": 12}),
    "squeeze": Case(squeeze, {"stem.0": 8, "down": 6}),
    "dense": Case(dense, {"a.0": 4, "b.0": 5, "c.0": 6}),
    "concat_and_add": Case(concat_and_add, {"both": 4, "both#1": 6}),
    "gated": Case(gated, {"gate": 8}, sizes=(6,)),
    "transformer": Case(transformer, HEADS, calls_=_ids),
    "packed_heads": Case(
        lambda: stream_of(Packed(), Packed()), {"attn.0.qkv": 4, "attn.1.qkv": 4}, sizes=(5, 6)
    ),
    "heads_first": Case(lambda: stream_of(Packed("heads")), {"attn.0.qkv": 4}, sizes=(5, 6)),
    "two_heads": Case(lambda: stream_of(Packed("heads", heads=2)), {"attn.0.qkv": 2}, sizes=(5, 6)),
    "heads_of_a_told_width": Case(
        lambda: stream_of(Packed(joined="attn_dim"), Packed(joined="dim", heads=8)),
        {"attn.0.qkv": 4, "attn.1.qkv": 8},
        sizes=(5, 6),
    ),
    "keys_and_values": Case(lambda: stream_of(KeysAndValues()), {"attn.0.to_kv": 3}, sizes=(5, 6)),
    "bert": Case(bert, {"attn.0.0.value": 4, "attn.1.0.value": 4}, sizes=(5, 6)),
    "torch_transformer": Case(
        torch_transformer, {f"0.layers.{i}.linear1": 12 for i in (0, 1)}, sizes=(5, 8)
    ),
    "convnext": Case(convnext, {"stem.0": 8, "up": 12}),
    "decoder": Case(decoder, {"0": 8, "3": 6}, sizes=(4, 4, 4)),
    "sound": Case(sound, {"0": 8, "3": 6}, sizes=(2, 20)),
    "auto_encoder": Case(AutoEncoder, {"enc.0": 10, "dec.0": 12}, calls_=_halves),
    "tied": Case(tied, {"words": 8}, calls_=_ids),
    "tied_in_a_circle": Case(tied_in_a_circle, {"stem": 8}, sizes=(8,)),
    "many_outputs": Case(many_outputs, {"mid.0": 8}, calls_=_keywords),
    "distribution": Case(distribution, {"stem": 8}, sizes=(6,)),
    "two_names": Case(two_names, {"net.0": 8}, sizes=(6,)),
    "sigmoid": Case(sigmoid, {"2": 7}, sizes=(6,)),
    "grouped": Case(grouped, {"0.0": 4, "7": 6}),
    "many_groups": Case(lambda: bottlenecks(8), {"0.0": 8, "2.a.0": 8, "3.a.0": 8, "3.c.0": 12}),
    "few_groups": Case(
        lambda: bottlenecks(2),
        {"0.0": 8, "2.a.0": 8, "2.b.0": 8, "3.a.0": 8, "3.b.0": 8, "3.c.0": 12},
    ),
    "grouped_decoder": Case(lambda: grouped_decoder(4), {"0": 4}),
    "grouped_decoder_by_place": Case(lambda: grouped_decoder(2), {"0": 4, "2": 6}),
    "groups_in_a_row": Case(groups_in_a_row, {"0": 2, "4": 8}),
    "widened": Case(widened, {"0": 8}, sizes=(2, 20)),
    "recurrent": Case(recurrent, {"mid": 7}, sizes=(4, 5)),
    "two_parts": Case(two_parts, {"enc.0": 10, "head.0": 9}, calls_=_parts),
}
