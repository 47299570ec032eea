"""Models of transformers as they are, called as their code calls them: int8 in the first trial."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn

from lpot_lightning import Quantization

transformers = pytest.importorskip("transformers")
STATIC, DYNAMIC = "post_training_static_quant", "post_training_dynamic_quant"
WORDS, WIDTH = 90, 32
TWO_OF_EACH = {"num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}


def words(length: int = 9) -> Tensor:
    return torch.randint(0, WORDS, (2, length))


def bert() -> nn.Module:
    config = transformers.BertConfig(vocab_size=WORDS, hidden_size=WIDTH, **TWO_OF_EACH)
    return transformers.BertForSequenceClassification(config)


def distilbert() -> nn.Module:
    config = transformers.DistilBertConfig(
        vocab_size=WORDS, dim=WIDTH, n_layers=2, n_heads=2, hidden_dim=64
    )
    return transformers.DistilBertForSequenceClassification(config)


def gpt2() -> nn.Module:
    config = transformers.GPT2Config(
        vocab_size=WORDS, n_embd=WIDTH, n_layer=2, n_head=2, n_positions=64
    )
    return transformers.GPT2LMHeadModel(config)


def vit() -> nn.Module:
    config = transformers.ViTConfig(hidden_size=WIDTH, image_size=32, patch_size=8, **TWO_OF_EACH)
    return transformers.ViTForImageClassification(config)


def t5() -> nn.Module:
    config = transformers.T5Config(
        vocab_size=WORDS,
        d_model=WIDTH,
        d_kv=16,
        d_ff=64,
        num_layers=2,
        num_heads=2,
        feed_forward_proj="gated-gelu",
    )
    return transformers.T5ForConditionalGeneration(config)


def whisper() -> nn.Module:
    sides = ("encoder", "decoder")
    config = transformers.WhisperConfig(
        vocab_size=WORDS,
        d_model=WIDTH,
        num_mel_bins=16,
        max_source_positions=50,
        max_target_positions=32,
        pad_token_id=1,
        bos_token_id=1,
        eos_token_id=2,
        decoder_start_token_id=3,
        suppress_tokens=None,
        begin_suppress_tokens=None,
        **{f"{side}_layers": 2 for side in sides},
        **{f"{side}_attention_heads": 2 for side in sides},
        **{f"{side}_ffn_dim": 64 for side in sides},
    )
    return transformers.WhisperForConditionalGeneration(config)


class Called(NamedTuple):
    """A model, what it is called with, and what no dynamic kernel is for."""

    made: Callable[[], nn.Module]
    given: Callable[[], dict[str, Tensor]]
    floats: tuple[str, ...] = ()


MODELS = {
    "bert": Called(bert, lambda: {"input_ids": words()}),
    "distilbert": Called(distilbert, lambda: {"input_ids": words()}),
    "gpt2": Called(gpt2, lambda: {"input_ids": words()}),
    "vit": Called(
        vit,
        lambda: {"pixel_values": torch.randn(2, 3, 32, 32)},
        ("vit.embeddings.patch_embeddings.projection",),
    ),
    "t5": Called(t5, lambda: {"input_ids": words(), "decoder_input_ids": words(5)}),
    "whisper": Called(
        whisper,
        lambda: {"input_features": torch.randn(2, 16, 100), "decoder_input_ids": words(5)},
        ("model.encoder.conv1", "model.encoder.conv2"),
    ),
}


def cases() -> list[Any]:
    """Return each model and approach; one of each approach is quick enough for every day."""
    quick = {("gpt2", DYNAMIC), ("vit", STATIC)}
    return [
        pytest.param(name, how, marks=() if (name, how) in quick else pytest.mark.soak)
        for name in MODELS
        for how in (STATIC, DYNAMIC)
    ]


@pytest.mark.filterwarnings("ignore")  # what transformers says of itself differs by its version
@pytest.mark.parametrize(("name", "approach"), cases())
def test_all_of_it_is_int8_and_met_in_the_first_trial(name, approach, tmp_path):
    torch.manual_seed(0)
    made, given, floats = MODELS[name]
    model, calls = made().eval(), [given() for _ in range(3)]

    def logits(one: nn.Module) -> list[Tensor]:
        with torch.no_grad():
            return [one(**call).logits for call in calls]

    wanted = logits(model)

    def likeness(one: nn.Module) -> float:
        pairs = zip(logits(one), wanted, strict=True)
        return 1 - sum(float((y - x).norm() / x.norm()) for y, x in pairs) / len(calls)

    quantization = Quantization(
        {
            "model": {"name": name, "framework": "pytorch"},
            "quantization": {"approach": approach, "calibration": {"sampling_size": 6}},
            "tuning": {
                "strategy": {"name": "basic"},
                "accuracy_criterion": {"relative": 0.2},
                "workspace": {"path": str(tmp_path)},
            },
        }
    )
    quantization.eval_func = likeness
    if approach == STATIC:
        quantization.calib_dataloader = [(call, torch.zeros(2)) for call in calls]
    quantization(model)
    result = quantization.result
    assert result is not None
    assert (result.status, len(result.trials)) == ("met", 1)
    assert result.int8_ops
    assert result.fp32_ops == (floats if approach == DYNAMIC else ())
