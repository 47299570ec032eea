"""An int8 model as a pickle, in other processes, and as TorchScript."""

from __future__ import annotations

import copy
import io
import multiprocessing
import os
import pickle
import warnings
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from lightning.fabric import Fabric
from lightning.pytorch import LightningModule
from plain_scenes import APPROACHES, QAT, conf, corners, net, quantization
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from lpot_lightning import Quantization
from lpot_lightning.errors import QuantizationError

IMAGES = corners(40, seed=1).tensors[0]


def answer(model: nn.Module, images: Tensor = IMAGES) -> Tensor:
    with torch.no_grad():
        return model(images)


class Answers(Dataset):
    """Asks an int8 model in a worker of a loader."""

    def __init__(self, model: nn.Module) -> None:
        self.model = model

    def __len__(self) -> int:
        return len(IMAGES)

    def __getitem__(self, place: int) -> tuple[int, Tensor]:
        return os.getpid(), answer(self.model, IMAGES[place : place + 1])[0]


class Lit(LightningModule):
    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, images: Tensor) -> Tensor:
        return self.net(images)


class Gated(nn.Linear):
    """Has its weight, and the same by a sign that its input has: now and then what was rounded."""

    def forward(self, x: Tensor) -> Tensor:
        gated = F.linear(x, self.weight * x.mean().sign(), self.bias)
        return F.linear(x, self.weight, self.bias) + 2 * gated


class Narrow(nn.Conv2d):
    def forward(self, x: Tensor) -> Tensor:
        weight = self.weight - self.weight.mean((1, 2, 3), keepdim=True)
        return F.conv2d(x, weight, self.bias, self.stride, self.padding)


class Own(nn.Module):
    """Modules that compute with weights of their own, attention, bags."""

    def __init__(self) -> None:
        super().__init__()
        self.narrow, self.attend = Narrow(1, 8, 3), nn.MultiheadAttention(8, 2, batch_first=True)
        self.bags = nn.EmbeddingBag(9, 8, padding_idx=0)

    def forward(self, images: Tensor) -> Tensor:
        tokens = self.narrow(images).flatten(2).transpose(1, 2)
        tokens = self.attend(tokens, tokens, tokens, need_weights=False)[0]
        bags = (images.flatten(1)[:, :6] > 0).long() * 8
        return tokens.mean(1) + self.bags(bags)


@pytest.mark.filterwarnings("ignore:Converting a tensor")  # in torch's own functions
@pytest.mark.parametrize("images", [IMAGES[:1], IMAGES[:8]], ids=["one", "some"])
def test_functions_with_weights_are_traced_and_pickled(workspace, images):
    asked = conf(workspace, calibration={"sampling_size": len(images)})
    int8 = Quantization(asked)(Own(), q_dataloader=[images], eval_func=lambda _: 1.0)
    wanted = answer(int8)
    trace = traced(int8, images)
    assert "lpot" not in "".join(one.kind() for one in trace.inlined_graph.nodes())
    torch.testing.assert_close(answer(trace), wanted)  # of one image no graph can be recorded
    assert len(images) == 1 or torch.equal(answer(trace), wanted)
    assert torch.equal(answer(pickle.loads(pickle.dumps(int8))), wanted)  # noqa: S301


def test_a_weight_that_comes_of_the_input_is_not_baked_into_a_trace(workspace):
    asked = conf(workspace, calibration={"sampling_size": 8})
    made = nn.Sequential(nn.Flatten(), Gated(64, 4))
    int8 = Quantization(asked)(made, q_dataloader=[IMAGES[:8]], eval_func=lambda _: 1.0)
    trace = traced(int8, IMAGES[:8], check_trace=False)
    for images in (IMAGES[:8], -IMAGES[:8]):
        torch.testing.assert_close(answer(trace, images), answer(int8, images), rtol=0.1, atol=0.1)


@pytest.mark.parametrize("called", [False, True])
def test_a_pickle_gives_the_same_answers(quantized, called):
    _, int8 = quantized
    before = answer(int8) if called else None
    file = io.BytesIO()
    torch.save(int8, file)
    file.seek(0)
    saved = torch.load(file, weights_only=False)
    for again in (saved, pickle.loads(pickle.dumps(int8)), copy.deepcopy(saved)):  # noqa: S301
        assert torch.equal(answer(again), answer(int8) if before is None else before)
        assert again.forward.counts.by_graph == 1
        assert again.head.weight.shape == (4, 128)
        with pytest.raises(QuantizationError, match="weights of `head` are int8 now"):
            again.head.weight.sum()


def test_an_int8_file_is_small(quantized):
    fp32, int8 = quantized
    sizes = [sum(one.nbytes for one in model.state_dict().values()) for model in quantized]
    assert len(pickle.dumps(int8)) < sizes[1] + 40_000
    assert not any(
        one.dtype == torch.float32 and one.dim() > 1 for one in int8.state_dict().values()
    )


def test_what_was_trained_for_int8_can_be_pickled(workspace):
    int8 = quantization(workspace, QAT)(net())
    again = pickle.loads(pickle.dumps(int8))  # noqa: S301  # its own bytes
    assert torch.equal(answer(again, IMAGES), answer(int8, IMAGES))
    assert APPROACHES[1] == QAT


@pytest.mark.usefixtures("warm_processes")
@pytest.mark.parametrize("way", ["spawn", "fork"])
def test_workers_of_a_loader_have_it(quantized, way):
    _, int8 = quantized
    wanted = torch.cat([answer(int8, one[None]) for one in IMAGES])
    loader = DataLoader(
        Answers(int8), batch_size=20, num_workers=1, multiprocessing_context=way, timeout=100
    )
    processes, found = zip(*loader, strict=True)
    assert os.getpid() not in torch.cat(processes)
    assert torch.equal(torch.cat(found), wanted)


def _answer(model: nn.Module) -> Tensor:
    return answer(model)


@pytest.mark.usefixtures("warm_processes")
def test_a_process_that_is_spawned_has_it(quantized):
    _, int8 = quantized
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert torch.equal(pool.apply(_answer, (int8,)), answer(int8))


def traced(model: nn.Module, images: Tensor, again: int = 1, **how: Any) -> torch.jit.ScriptModule:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*torch.jit")
        return [torch.jit.trace(model, images, **how) for _ in range(again)][-1]


@pytest.mark.parametrize("images", [IMAGES[:1], IMAGES[:8]], ids=["one", "some"])
def test_a_trace_gives_the_same_answers(quantized, images):
    _, int8 = quantized
    for model in (int8, pickle.loads(pickle.dumps(int8))):  # noqa: S301
        assert torch.equal(answer(traced(model, images)), answer(int8))


def test_a_module_is_traced_as_often_as_one_likes(quantized):
    _, int8 = quantized
    assert torch.equal(answer(traced(int8, IMAGES[:2], again=20)), answer(int8))


def test_lightning_traces_it(quantized):
    model = Lit(quantized[1]).eval()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*torch.jit")
        warnings.filterwarnings("ignore", message=".*to_torchscript")
        trace = model.to_torchscript(method="trace", example_inputs=IMAGES[:2])
    assert torch.equal(answer(trace), answer(model))


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_fabric(precision: str, quantized: tuple[nn.Module, nn.Module]) -> None:
    int8 = quantized[1]
    given = Fabric(accelerator="cpu", precision=precision).setup(copy.deepcopy(int8))
    torch.testing.assert_close(answer(given), answer(int8), atol=0.1, rtol=0.1)
