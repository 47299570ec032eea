"""Steps without Python between them give what Python gives."""

from __future__ import annotations

import pytest
import torch

from lpot_lightning.quantization.kernels import recurrence
from lpot_lightning.quantization.kernels.arithmetic import Int8Weight
from lpot_lightning.quantization.kernels.recurrence import StepWeights, gone_over
from lpot_lightning.quantization.kernels.rows import Int8Rows

GATES = {"LSTM": 4, "GRU": 3, "RNN_TANH": 1, "RNN_RELU": 1}


def shown(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def weights(kind: str) -> StepWeights:
    rows = 8 * GATES[kind]
    of_input = Int8Weight.of(shown(rows, 6), shown(rows, seed=1))
    of_state = Int8Weight.of(shown(rows, 8, seed=2) / 3, shown(rows, seed=3))
    of_state = of_state if kind == "GRU" else Int8Weight(of_state.values, of_state.scales)
    return StepWeights(Int8Rows(of_input, 127), Int8Rows(of_state, 127))


def state(kind: str, batch: int) -> tuple[torch.Tensor, ...]:
    return (shown(batch, 8, seed=5), shown(batch, 8, seed=6))[: 1 + (kind == "LSTM")]


@pytest.mark.parametrize("kind", GATES)
def test_torchscript_gives_the_bits_of_python(kind, monkeypatch):
    given = kind, weights(kind), shown(5, 3, 6, seed=4).unbind(0), state(kind, 3)
    assert recurrence._loop(True) is not None
    found, end = gone_over(*given)
    monkeypatch.setattr(recurrence, "_loop", lambda _: None)
    by_python, same = gone_over(*given)
    assert torch.equal(torch.stack(found), torch.stack(by_python))
    assert torch.equal(torch.stack(end), torch.stack(same))


@pytest.mark.parametrize("kind", GATES)
def test_the_kernel_of_a_linear_layer_takes_the_same_steps(kind):
    given = shown(5, 3, 6, seed=4).unbind(0), state(kind, 3)
    found, _ = gone_over(kind, weights(kind), *given)
    assert recurrence._loop(False) is not None
    others = weights(kind)
    others.of_state.by_convolution = others.of_input.by_convolution = False
    other, _ = gone_over(kind, others, *given)
    assert torch.allclose(torch.stack(found), torch.stack(other), atol=1e-5)


@pytest.mark.parametrize("together", [1, 5])
def test_how_many_steps_are_multiplied_at_once_changes_nothing(together, monkeypatch):
    given = "GRU", weights("GRU"), shown(7, 2, 6, seed=4).unbind(0), state("GRU", 2)
    found, _ = gone_over(*given)
    monkeypatch.setattr(recurrence, "_TOGETHER", together)
    assert torch.equal(torch.stack(gone_over(*given)[0]), torch.stack(found))


def test_plain_arithmetic_computes_where_a_kernel_is_wrong():
    one = weights("LSTM")
    given = shown(4, 2, 6, seed=4).unbind(0), state("LSTM", 2)
    found, _ = gone_over("LSTM", one, *given)
    for kernel in one[:2]:
        kernel.exact = True
    exact, _ = gone_over("LSTM", one, *given)
    assert (torch.stack(found) - torch.stack(exact)).abs().max() < 1e-4
