"""Int8 models as files of TorchScript: bit-equal where there is torch and nothing else."""

from __future__ import annotations

import json
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from plain_scenes import conf
from torch import Tensor, nn

from lpot_lightning import Quantization
from lpot_lightning.quantization.kernels.loaded import packed_on_load

SIZES = 2, 1, 5
"""Of batches; the first one is traced."""


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.norm = nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8)
        self.a, self.b = nn.Conv2d(8, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8)
        self.down, self.head = nn.Conv2d(8, 16, 1, stride=2), nn.Linear(16, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.norm(self.stem(x)))
        x = F.relu(self.b(self.a(x)) + x)
        return self.head(F.max_pool2d(F.relu(self.down(x)), 2).mean((2, 3)))


class Gated(nn.Module):
    """A block of MobileNetV3, with squeeze and excitation."""

    def __init__(self) -> None:
        super().__init__()
        self.wide, self.narrow = nn.Conv2d(3, 16, 1), nn.Conv2d(16, 3, 1)
        self.deep, self.norm = nn.Conv2d(16, 16, 3, padding=1, groups=16), nn.BatchNorm2d(16)
        self.less, self.more = nn.Conv2d(16, 4, 1), nn.Conv2d(4, 16, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = F.hardswish(self.norm(self.deep(F.hardswish(self.wide(x)))))
        gate = F.relu(self.less(F.adaptive_avg_pool2d(y, 1)))
        return x + self.narrow(y * F.hardsigmoid(self.more(gate)))


class Text(nn.Module):
    """An embedding, attention by torch and by hand, and GELU."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.norm = nn.Embedding(20, 16), nn.LayerNorm(16)
        self.attend = nn.MultiheadAttention(16, 2, batch_first=True)
        self.qkv, self.out = nn.Linear(16, 48), nn.Linear(16, 16)
        self.wide, self.narrow = nn.Linear(16, 32), nn.Linear(32, 16)

    def forward(self, ids: Tensor) -> Tensor:
        x = self.table(ids)
        x = x + self.attend(x, x, x, need_weights=False)[0]
        q, k, v = self.qkv(self.norm(x)).view(*x.shape[:2], 3, 16).unbind(2)
        x = x + self.out((q @ k.transpose(1, 2) / 4).softmax(-1) @ v)
        return x + self.narrow(F.gelu(self.wide(x)))


class Sound(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.norm, self.b = nn.Conv1d(3, 8, 5, 2), nn.BatchNorm1d(8), nn.Conv1d(8, 8, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.norm(self.a(x)))
        return F.relu(self.b(x) + x)


class Bags(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.bags, self.head = nn.EmbeddingBag(20, 8, mode="mean", padding_idx=0), nn.Linear(8, 3)

    def forward(self, ids: Tensor) -> Tensor:
        return self.head(F.relu(self.bags(ids)))


def images(count: int) -> Tensor:
    return torch.randn(count, 3, 8, 8)


def ids(count: int) -> Tensor:
    return torch.randint(20, (count, 6))


NETS: dict[str, tuple[type[nn.Module], Callable[[int], Tensor]]] = {
    "residual": (Residual, images),
    "gated": (Gated, images),
    "text": (Text, ids),
    "sound": (Sound, lambda count: torch.randn(count, 3, 20)),
    "bags": (Bags, ids),
}
SERVE = """
import json, sys, torch, warnings
found = {}
for name in sys.argv[1:]:
    batches, wanted = torch.load(f"{name}.pt", weights_only=True)
    trace, packed = torch.jit.load(f"{name}.trace"), torch.jit.load(f"{name}.packed")
    for way, model in (("trace", trace), ("frozen", torch.jit.freeze(trace)), ("packed", packed)):
        found[f"{name} {way}"] = [torch.equal(*one) for one in zip(map(model, batches), wanted)]
    found[f"{name} packs"] = "prepack" in packed.code
ours = [name for name in sys.modules if name.startswith(("lpot", "lightning"))]
print(json.dumps({**found, "ours": ours}))
"""


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[bool]]:
    """Return what a process with torch alone, nothing of it imported before, says of the files."""
    folder = tmp_path_factory.mktemp("served")
    with pytest.MonkeyPatch.context() as here, torch.no_grad():
        here.chdir(folder)
        for name in NETS:
            _save(name, folder)
    done = subprocess.run(
        [sys.executable, "-I", "-W", "ignore", "-c", SERVE, *NETS],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def _save(name: str, folder: Path) -> None:
    kind, batch = NETS[name]
    torch.manual_seed(0)
    model = kind()
    model(batch(16))  # norms learn
    asked = conf(folder / name, calibration={"sampling_size": 8})
    int8 = Quantization(asked)(model.eval(), q_dataloader=[batch(8)], eval_func=lambda _: 1.0)
    batches = [batch(size) for size in SIZES]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*torch.jit")
        warnings.filterwarnings("ignore", message="Converting a tensor")  # in torch's attention
        trace = torch.jit.trace(int8, batches[0])
        torch.jit.save(trace, f"{name}.trace")
        torch.jit.save(packed_on_load(trace), f"{name}.packed")
    torch.save((batches, [int8(one) for one in batches]), f"{name}.pt")


@pytest.mark.parametrize("name", NETS)
def test_every_batch_has_the_same_bits(served, name):
    for way in ("trace", "frozen", "packed"):
        assert served[f"{name} {way}"] == [True] * len(SIZES)
    assert not served[f"{name} packs"]


def test_nothing_of_ours_is_there(served):
    assert served["ours"] == []
