"""What examples of the int8 engine take for granted."""

from __future__ import annotations

from collections.abc import Callable
from time import perf_counter
from typing import Any

import torch
from example_inside import Inside
from int8_scenes import BACKEND, Batch, all_int8, calibrated, converted, seeded
from torch import Tensor, nn

from lpot_lightning.module.calls import recorded
from lpot_lightning.quantization.capability import DYNAMIC
from lpot_lightning.quantization.kernels.arithmetic import Int8Weight
from lpot_lightning.quantization.kernels.grid import Grid
from lpot_lightning.quantization.kernels.layers import Int8Linear
from lpot_lightning.quantization.kernels.pack import Pack
from lpot_lightning.quantization.kernels.recurrence import StepWeights
from lpot_lightning.quantization.kernels.rows import Int8Rows
from lpot_lightning.quantization.quantized_layer import quantized
from lpot_lightning.recipe import Recipe


class Attention(nn.Module):
    """Multiplies activations with each other."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.matmul(x, x.transpose(-1, -2))


class Mix(nn.Module):
    """Gives its weight to a function."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(8, 8))

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.linear(x, self.weight)


class Net(nn.Module):
    """A weight that goes into a function, attention, a layer."""

    def __init__(self) -> None:
        super().__init__()
        self.mix, self.attn, self.fc = Mix(), Attention(), nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.attn(self.mix(x)))


class Quantizing(Inside):
    """A small net, its dry run, and kernels of it."""

    def make_net(self) -> nn.Module:
        return seeded(Net)

    make_model = make_net

    def make_batch(self) -> Tensor:
        return torch.rand(2, 4, 8, generator=torch.Generator().manual_seed(0))

    def make_calls(self) -> Any:
        self._bring_all("net", "batch")
        with recorded(self.names["net"]) as calls, torch.no_grad():
            self.names["net"](self.names["batch"])
        return calls

    def make_prepared(self) -> Any:
        self._bring_all("model", "batch")
        return calibrated(self.names["model"], Batch(self.names["batch"]))

    def make_recipe(self) -> Recipe:
        self._bring_all("prepared")
        return all_int8(self.names["prepared"])

    def make_graphs(self) -> Any:
        self._bring_all("prepared", "recipe")
        prepared = self.names["prepared"]
        self.names["made"] = converted(self.names["model"], prepared, self.names["recipe"])
        return prepared.graphs(self.names["made"]).values()

    def make_forwards(self) -> Any:
        return self.names["prepared"]._forwards

    def make_convert(self) -> Any:
        return self.names["prepared"].convert

    def make_step(self) -> Callable[[int], list[float]]:
        def step(times: int) -> list[float]:
            for _ in range(times):
                Batch(self.names["batch"])(self.names["made"])
            return [0.001] * times

        return step

    def make_graph(self) -> Any:
        return torch.fx.symbolic_trace(nn.Linear(8, 4))

    def make_backend(self) -> Any:
        return BACKEND

    def make_module(self) -> nn.Module:
        return nn.Sequential(quantized(nn.Linear(8, 4), Grid.over(-1.0, 1.0)))

    def make_lower(self) -> Any:
        return lambda graph, inputs: graph

    def make_fit(self) -> Callable[[nn.Module], object]:
        return lambda model: model.train()(self.make_batch()).sum().backward()

    def make_DYNAMIC(self) -> Any:  # noqa: N802
        return DYNAMIC

    def make_perf_counter(self) -> Any:
        return perf_counter

    def make_fp32(self) -> nn.Linear:
        return nn.Linear(8, 4)

    def make_x(self) -> Tensor:
        return torch.randn(4, 8)

    def make_layer(self) -> Int8Linear:
        fp32 = nn.Linear(64, 8)
        return Int8Linear(Int8Weight.of(fp32.weight, fp32.bias), Grid.over(-1.0, 1.0))

    def make_integers(self) -> Tensor:
        return torch.zeros(8, 64, dtype=torch.uint8)

    def make_pack(self) -> Pack:
        return Pack()

    def make_weight(self) -> Tensor:
        return torch.zeros(8, 4, dtype=torch.int8)

    def make_weights(self) -> StepWeights:
        of_input, of_state = (
            Int8Weight.of(torch.randn(16, size), torch.randn(16)) for size in (8, 4)
        )
        bare = Int8Weight(of_state.values, of_state.scales)
        return StepWeights(Int8Rows(of_input, 127), Int8Rows(bare, 127))

    def make_h(self) -> Tensor:
        return torch.zeros(4, 4)

    make_c = make_h
