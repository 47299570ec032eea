"""Decoders that generate with a cache of keys and values, judged by what they generate."""

from __future__ import annotations

import lightning.pytorch as pl
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from lpot_lightning import quantize
from lpot_lightning.quantization.graph.capture import counts_of
from lpot_lightning.quantization.program.program import programs_of

WORDS, WIDTH, HEADS, PROMPT = 40, 32, 2, 4
Cache = tuple[Tensor, Tensor]


class CachedBlock(nn.Module):
    """Attention over what came so far, and two linear layers."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv, self.out = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)
        self.up, self.down = nn.Linear(WIDTH, 4 * WIDTH), nn.Linear(4 * WIDTH, WIDTH)
        self.norms = nn.ModuleList([nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)])

    def forward(self, x: Tensor, past: Cache | None) -> tuple[Tensor, Cache]:
        q, k, v = (self._heads(one) for one in self.qkv(self.norms[0](x)).chunk(3, -1))
        if past is not None:
            k, v = torch.cat([past[0], k], 2), torch.cat([past[1], v], 2)
        found = F.scaled_dot_product_attention(q, k, v, is_causal=past is None)
        x = x + self.out(found.transpose(1, 2).flatten(2))
        return x + self.down(F.gelu(self.up(self.norms[1](x)))), (k, v)

    def _heads(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (HEADS, -1)).transpose(1, 2)


class CachedDecoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.words, self.head = nn.Embedding(WORDS, WIDTH), nn.Linear(WIDTH, WORDS)
        self.places = nn.Embedding(128, WIDTH)
        self.blocks = nn.ModuleList([CachedBlock()])

    def forward(self, ids: Tensor, past: list[Cache] | None = None) -> tuple[Tensor, list[Cache]]:
        start = 0 if past is None else past[0][0].shape[2]
        x = self.words(ids) + self.places(torch.arange(start, start + ids.shape[1]))
        kept = []
        for number, block in enumerate(self.blocks):
            x, cache = block(x, None if past is None else past[number])
            kept.append(cache)
        return self.head(x), kept

    def generated(self, ids: Tensor, count: int, *, cached: bool = True) -> Tensor:
        """Return the ``count`` most likely tokens, one behind the other."""
        found, past = ids, None
        for _ in range(count):
            given = found[:, -1:] if past is not None else found
            scores, kept = self(given, past)
            past = kept if cached else None
            found = torch.cat([found, scores[:, -1:].argmax(-1)], 1)
        return found[:, ids.shape[1] :]


class Generating(pl.LightningModule):
    """Logs how many of eight generated tokens are those of fp32."""

    def __init__(self, decoder: CachedDecoder) -> None:
        super().__init__()
        self.decoder = decoder

    def validation_step(self, batch: list[Tensor]) -> None:
        ids, right = batch
        found = self.decoder.generated(ids, right.shape[1])
        self.log("alike", (found == right).float().mean())


def decoder() -> CachedDecoder:
    torch.manual_seed(0)
    made = CachedDecoder().eval()
    with torch.no_grad():
        made.head.weight *= 8  # tokens that are clearly the likeliest
    return made


WEIGHT_ONLY = {".*(qkv|out|up|down|head)": {
    "activation": {"dtype": "fp32"}, "weight": {"dtype": "int8"}
}}  # fmt: skip
WAYS = {
    "dynamic": {"approach": "post_training_dynamic_quant"},
    "weight-only": {"op_wise": WEIGHT_ONLY},
}


@pytest.mark.parametrize("way", WAYS)
def test_tokens_with_a_cache_are_those_without_one_and_make_no_graphs(way, tmp_path):
    ids = torch.randint(0, WORDS, (32, PROMPT), generator=torch.Generator().manual_seed(1))
    model = Generating(decoder())
    with torch.no_grad():
        right = model.decoder.generated(ids, 8)
    data = DataLoader(TensorDataset(ids, right), batch_size=16)
    conf = {
        "model": {"name": "decoder", "framework": "pytorch"},
        "quantization": {"calibration": {"sampling_size": 32}, **WAYS[way]},
        "tuning": {
            "strategy": {"name": "basic"},
            "accuracy_criterion": {"absolute": 0.2, "higher_is_better": True},
            "workspace": {"path": str(tmp_path)},
        },
    }
    trainer = pl.Trainer(logger=False, enable_progress_bar=False, enable_model_summary=False)
    result = quantize(trainer, model, data, data, conf=conf, monitor="alike")
    assert result.status == "met"
    assert result.fp32_ops == ()
    int8 = result.model.decoder
    with torch.no_grad():
        found = int8.generated(ids[:2], 64)
        assert torch.equal(found, int8.generated(ids[:2], 64, cached=False))
        graphs = sum(map(len, programs_of(int8).values()))
        assert torch.equal(found, int8.generated(ids[:2], 64))
    assert sum(map(len, programs_of(int8).values())) == graphs <= 8
    counts = counts_of(result.model).values()
    assert all(one.calls == one.by_graph for one in counts)
