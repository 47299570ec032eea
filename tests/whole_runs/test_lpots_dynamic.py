"""LPOT 1.6's two YAMLs of dynamic quantization, on models that look like theirs."""

from __future__ import annotations

import pytest
import torch
from lpots_yamls import TEXTS
from torch import Tensor, nn

from lpot_lightning import Quantization


class Transducer(nn.Module):
    """RNN-T in small: recurrent encoder and prediction, joined for each pair of their steps."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.LSTM(20, 32, 2, batch_first=True)
        self.words, self.prediction = nn.Embedding(12, 16), nn.LSTM(16, 32, batch_first=True)
        self.joint = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 12))

    def forward(self, sound: Tensor, text: Tensor) -> Tensor:
        heard, _ = self.encoder(sound)
        said, _ = self.prediction(self.words(text))
        shape = len(sound), heard.shape[1], said.shape[1], 32
        pairs = heard[:, :, None].expand(shape), said[:, None].expand(shape)
        return self.joint(torch.cat(pairs, -1))


def bert() -> nn.Module:
    transformers = pytest.importorskip("transformers")
    config = transformers.BertConfig(
        vocab_size=60, hidden_size=32, num_hidden_layers=2, num_attention_heads=2,
        intermediate_size=64, max_position_embeddings=32, num_labels=3,
    )  # fmt: skip
    return transformers.BertForSequenceClassification(config)


def ids() -> tuple[Tensor, ...]:
    return (torch.randint(0, 60, (24, 10)),)


def sound_and_text() -> tuple[Tensor, ...]:
    return torch.randn(6, 9, 20), torch.randint(0, 12, (6, 4))


RUNS = {
    "bert dynamic": (bert, ids, {"classifier", "bert.encoder.layer.0.attention.self.query"}),
    "rnnt": (Transducer, sound_and_text, {"encoder", "prediction", "joint.0", "joint.2"}),
}


def scores(given: object) -> Tensor:
    return getattr(given, "logits", given)  # type: ignore[return-value]


@pytest.mark.filterwarnings("ignore:.*has no effect")
@pytest.mark.parametrize("name", RUNS)
def test_it_runs_to_a_result(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make, inputs, wanted = RUNS[name]
    torch.manual_seed(0)
    model, given = make().eval(), inputs()
    with torch.no_grad():
        right = scores(model(*given))
    yaml = tmp_path / "conf.yaml"
    yaml.write_text(TEXTS[name])
    quantization = Quantization(str(yaml))

    def near(judged: nn.Module) -> float:
        with torch.no_grad():
            return 1 - float((scores(judged(*given)) - right).norm() / right.norm())

    quantization.eval_func = near
    quantization(model)
    result = quantization.result
    assert result.status in ("met", "not_met")
    assert wanted <= {*result.rungs}
    assert result.accuracy > 0.95
    assert "int8" not in {result.rungs[op] for op in wanted}
