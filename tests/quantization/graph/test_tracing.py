"""Traces of modules that graphs compute for: saved, loaded, of other sizes."""

from __future__ import annotations

import copy
import io
import pickle
import subprocess
import sys
import threading
import warnings
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from grid_scenes import grid_over
from torch import nn

from lpot_lightning.quantization.graph.capture import Captured
from lpot_lightning.quantization.layer_forward import LayerForward
from lpot_lightning.quantization.program.program import Program
from lpot_lightning.quantization.quantized_layer import kind_of, quantized


def shown(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


class Image(nn.Module):
    """Borders of all kinds, a residual, a pool, sizes as numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm = nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8)
        self.deep = nn.Conv2d(8, 8, 3, padding=1, groups=8)
        self.around = nn.Conv2d(8, 8, 3, padding=1, padding_mode="circular")
        self.back = nn.Conv2d(8, 8, (3, 2), padding=(1, 0), padding_mode="reflect")
        self.head, self.scale = nn.Linear(8, 4), 0.5

    def forward(self, x):
        y = F.relu(self.norm(self.first(x)))
        y = F.relu(y + self.deep(y))
        y = self.back(F.hardswish(self.around(F.max_pool2d(y, 2))))
        return self.head(y.view(x.shape[0], 8, -1).mean(2)) * self.scale


class Text(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.table, self.mix = nn.Embedding(20, 8), nn.Conv1d(8, 8, 3, padding="same")
        self.wide, self.narrow = nn.Linear(8, 32), nn.Linear(32, 8)

    def forward(self, ids):
        y = self.mix(self.table(ids).transpose(1, 2)).transpose(1, 2)
        return self.narrow(F.gelu(self.wide(y))) + y + torch.arange(ids.shape[1])[:, None]


class Volume(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv3d(1, 4, 2, groups=1), nn.Conv3d(4, 2, 2, padding="valid")

    def forward(self, x):
        return [self.b(F.relu(self.a(x)))], self.a(x).mean()


class Branch(nn.Module):
    """No one graph."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(8, 8), nn.Linear(8, 3)

    def forward(self, x):
        y = self.a(x)
        torch._dynamo.graph_break()
        return self.b(y * 2)


class Broadcast(Branch):
    """Takes a mask of one column, for which a graph of all sizes cannot be made."""

    def forward(self, x, mask):
        return self.b(self.a(x).relu() * mask)


class Same(nn.Module):
    """Pads by what it computes of sizes."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, stride=2)

    def forward(self, x):
        more = max((-(-x.shape[-1] // 2) - 1) * 2 + 3 - x.shape[-1], 0)
        return self.conv(F.pad(x, [0, more, 0, more]))


class Changing(Branch):
    def forward(self, x):
        return self.b(self.a(x.mul_(2)))


NETS: dict[str, tuple[type[nn.Module], list[Any]]] = {
    "image": (Image, [(shown(n, 3, 8, 9),) for n in (2, 1, 8, 5)]),
    "text": (Text, [(torch.randint(20, (n, 8)),) for n in (2, 1, 8, 5)]),
    "volume": (Volume, [(shown(n, 1, 4, 4, 5),) for n in (2, 1, 5)]),
    "linear of one size": (Broadcast, [(shown(n, 8), shown(n, 8)) for n in (8, 3, 1)]),
    "in place": (Changing, [(shown(n, 8),) for n in (2, 5)]),
}
BY_LAYERS = {
    "broadcast": (Broadcast, [(shown(n, 8), shown(n, 1)) for n in (4, 3)]),
    "branch": (Branch, [(shown(n, 8),) for n in (4, 3)]),
    "sizes": (Same, [(shown(n, 3, 8, 8),) for n in (4, 3)]),
}


def int8(kind: type[nn.Module], *, by_graph: bool = True) -> nn.Module:
    torch.manual_seed(0)
    model = kind().eval()
    for layer in [one for one in model.modules() if kind_of(one)]:
        grid = None if isinstance(layer, nn.Embedding) else grid_over(-4, 4)
        vars(layer)["forward"] = LayerForward(layer, quantized(layer, grid))
    if by_graph:
        vars(model)["forward"] = Captured(model, Program)
    return model


def traced(model: nn.Module, batch: Any, **how: Any) -> torch.jit.ScriptModule:
    with warnings.catch_warnings(), torch.no_grad():
        warnings.filterwarnings("ignore", message=".*torch.jit")
        return torch.jit.trace(model, copy.deepcopy(batch), strict=False, **how)


def loaded(model: torch.jit.ScriptModule, *, frozen: bool = False) -> torch.jit.ScriptModule:
    file = io.BytesIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*torch.jit")
        torch.jit.save(torch.jit.freeze(model) if frozen else model, file)
        file.seek(0)
        return torch.jit.load(file)


def answer(model: nn.Module, batch: Any) -> Any:
    with torch.no_grad():
        return model(*copy.deepcopy(batch))


def same(one: Any, other: Any) -> None:
    torch.testing.assert_close(one, other, rtol=0, atol=0)


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")
@pytest.mark.parametrize("first", [0, 1, 2])
@pytest.mark.parametrize("name", NETS)
def test_a_trace_gives_what_the_graph_gives_for_batches_of_any_size(name, first):
    kind, batches = NETS[name]
    model = int8(kind)
    trace = traced(model, batches[min(first, len(batches) - 1)])
    assert "lpot" not in "".join(one.kind() for one in trace.inlined_graph.nodes())
    for one in (trace, loaded(trace), loaded(trace, frozen=True)):
        for batch in batches:
            same(answer(one, batch), answer(model, batch))
    assert model.forward.counts.by_graph == model.forward.counts.calls > 0


@pytest.mark.filterwarnings("ignore:Converting a tensor to a Python boolean")  # `max` of sizes
@pytest.mark.parametrize("name", BY_LAYERS)
def test_what_is_no_one_graph_is_recorded_layer_by_layer(name):
    kind, batches = BY_LAYERS[name]
    trace = loaded(traced(int8(kind), batches[0]))
    for batch in batches:
        same(answer(trace, batch), answer(int8(kind, by_graph=False), batch))


def test_attributes_are_those_of_the_moment():
    model = int8(Image)
    batch = (shown(2, 3, 8, 8),)
    before = traced(model, batch)
    model.scale = 0.25
    after = traced(model, batch)
    same(answer(before, batch), 2 * answer(after, batch))


def test_layers_that_were_chosen_later_are_recorded():
    model = int8(Changing)
    batch = (shown(2, 8),)
    model.b.forward.int8 = None
    trace = loaded(traced(model, batch))
    same(answer(trace, batch), answer(model, batch))


def test_a_trace_can_be_copied_and_called_from_threads():
    model, batch = int8(Image), (shown(2, 3, 8, 8),)
    trace = copy.deepcopy(traced(model, batch))
    found: list[torch.Tensor] = []
    threads = [
        threading.Thread(target=lambda: found.append(answer(trace, batch))) for _ in range(4)
    ]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert len(found) == 4
    for one in found:
        same(one, answer(model, batch))


SCRIPT = """
import sys, torch
x, wanted = torch.load("x.pt", weights_only=True)
assert torch.equal(torch.jit.load("model.ts")(x), wanted)
assert not [name for name in sys.modules if name.startswith(("lpot", "lightning"))]
"""


def test_a_file_needs_torch_alone(tmp_path):
    model, x = int8(Image), shown(5, 3, 8, 8)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*torch.jit")
        torch.jit.save(traced(model, (x[:1],)), tmp_path / "model.ts")
    torch.save((x, answer(model, (x,))), tmp_path / "x.pt")
    run = [sys.executable, "-I", "-c", SCRIPT]  # with nothing imported before
    done = subprocess.run(run, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("called", [False, True])
def test_a_pickle_holds_the_model_and_none_of_its_graphs(called):
    model, batch = int8(Image), (shown(2, 3, 8, 8),)
    if called:
        answer(model, batch)
    again = pickle.loads(pickle.dumps(model))  # noqa: S301
    same(answer(again, batch), answer(model, batch))
    assert again.forward.counts.calls == again.forward.counts.by_graph == 1
    assert again.head.forward.layer is again.head
    assert again.head.forward.name != model.head.forward.name
    same(answer(traced(copy.deepcopy(again), batch), batch), answer(model, batch))


def test_what_computes_can_be_pickled_by_itself():
    model, batch = int8(Image), (shown(2, 3, 8, 8),)
    forward = pickle.loads(pickle.dumps(model.forward))  # noqa: S301
    same(answer(forward, batch), answer(model, batch))
