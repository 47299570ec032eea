"""Nets that people bring: int8, or told; by graphs; right, and back from their files."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import peoples_nets
import pytest
import torch
from peoples_nets import BROUGHT, Brought
from torch import nn
from warm_python import python

from lpot_lightning import Quantization
from lpot_lightning.quantization.graph.capture import counts_of

pytest.importorskip("transformers")
SCENES = Path(peoples_nets.__file__).parent
RESTORE = """
import sys
sys.path.insert(0, "{scenes}")
import torch
from peoples_nets import BROUGHT
from lpot_lightning import load
torch.manual_seed(7)
int8 = load("{workspace}/best_configure.yaml", "{workspace}/best_model_weights.pt",
            BROUGHT["{name}"].make().eval())
with torch.no_grad():
    torch.save([int8(*one) for one in torch.load("inputs.pt", weights_only=True)], "answers.pt")
"""


def lived(model: nn.Module) -> nn.Module:
    """Return a model whose norms have seen something."""
    for norm in model.modules():
        if isinstance(norm, nn.modules.batchnorm._BatchNorm):
            norm.running_mean.normal_(0, 0.3)
            norm.running_var.uniform_(0.5, 1.5)
    return model.eval()


def error(found: list[torch.Tensor], wanted: list[torch.Tensor]) -> float:
    pairs = zip(found, wanted, strict=True)
    return max(float((one - other).norm() / other.norm()) for one, other in pairs)


@pytest.mark.parametrize("name", BROUGHT)
def test_it_is_int8_right_and_comes_back(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result, answers = quantized(BROUGHT[name], tmp_path / "ws")
    brought = BROUGHT[name]
    assert len(result.int8_ops) == brought.int8, result.int8_ops
    assert result.fp32_ops == ()
    for end in brought.told:
        assert any(op.endswith(end) for op in result.not_quantizable), result.not_quantizable
    assert error(answers[0], answers[1]) < brought.error
    counts = counts_of(result.model).values()
    graphs, calls = sum(one.by_graph for one in counts), sum(one.calls for one in counts)
    ops = len(result.int8_ops), len(result.fp32_ops), len(result.not_quantizable)
    row = name, " / ".join(map(str, ops)), f"{graphs} of {calls}", f"{error(*answers):.3f}"
    sys.stdout.write(f"\n| {' | '.join(row)} |\n")
    assert graphs >= 0.95 * calls > 0
    done = subprocess.run(
        [python(), "-c", RESTORE.format(scenes=SCENES, workspace=tmp_path / "ws", name=name)],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    restored = torch.load("answers.pt", weights_only=True)
    assert all(map(torch.equal, restored, answers[0]))


def quantized(brought: Brought, workspace):
    torch.manual_seed(0)
    fp32, inputs = lived(brought.make()), brought.inputs()
    torch.save(inputs, "inputs.pt")
    with torch.no_grad():
        wanted = [fp32(*one) for one in inputs]

    def fits(model):
        with torch.no_grad():
            return 1 - error([model(*one) for one in inputs], wanted)

    conf = {
        "model": {"name": "brought", "framework": "pytorch"},
        "quantization": {"calibration": {"sampling_size": sum(len(one[0]) for one in inputs)}},
        "tuning": {
            "accuracy_criterion": {"absolute": 0.3, "higher_is_better": True},
            "workspace": {"path": str(workspace)},
        },
    }
    quantization = Quantization(conf)
    batches = Loader((one if one[1:] else one[0], 0) for one in inputs)
    int8 = quantization(fp32, q_dataloader=batches, eval_func=fits)
    with torch.no_grad():
        return quantization.result, ([int8(*one) for one in inputs], wanted)


class Loader(list):
    """Batches as they are, each with a label that nobody needs."""

    batch_size = 8
