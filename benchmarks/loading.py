"""What loading an int8 model costs, against `torch.load` and `load_state_dict` of the same file.

Each file is loaded by both in turns, after a first load of each, which also brings PyTorch's
compiler and proves the kernels. `load` copies the structure of the fp32 model, reads and checks
both files, and asks the model what they hold an answer to. What no int8 model that is checked can
be loaded without is that of torch, the SHA-256 of the file, and the packing of the weights.

    make bench
"""

from __future__ import annotations

import argparse
import hashlib
import logging
import statistics
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from time import perf_counter
from typing import Any

import torch
from resnets import resnet18, resnet50
from table import markdown
from torch import Tensor, nn

from lpot_lightning import Quantization, load

ROUNDS = 9
PROBE = ".probe."


class Transformer(nn.Module):
    """Layers of a transformer over tokens of ``width`` floats."""

    def __init__(self, layers: int, width: int) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(width, width // 64, 4 * width, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, layers, enable_nested_tensor=False)
        self.head = nn.Linear(width, 10)

    def forward(self, tokens: Tensor) -> Tensor:
        """Return one answer a sample."""
        found: Tensor = self.head(self.encoder(tokens).mean(1))
        return found


def linears() -> nn.Sequential:
    """Return six linear layers of 4 million weights each."""
    pairs = [(nn.Linear(2048, 2048), nn.ReLU()) for _ in range(6)]
    return nn.Sequential(*[layer for pair in pairs for layer in pair])


NETS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "6 linear layers": (linears, (32, 2048)),
    "8 transformer layers": (lambda: Transformer(8, 512), (32, 50, 512)),
    "ResNet-18": (resnet18, (32, 3, 64, 64)),
    "ResNet-50": (resnet50, (32, 3, 64, 64)),
}


def quantized(net: nn.Module, data: Tensor, folder: Path) -> tuple[Path, Path]:
    """Quantize ``net`` and return its two files."""
    conf = {
        "model": {"name": "loading", "framework": "pytorch_fx"},
        "quantization": {"calibration": {"sampling_size": 16}},
        "tuning": {"workspace": {"path": str(folder)}},
    }
    batches = list(
        data.split(16)
    )  # more than eight samples: as many are stored as are asked of such a net
    Quantization(conf)(
        net, q_dataloader=batches, eval_func=lambda model: float(model(data) is not None)
    )
    return folder / "best_configure.yaml", folder / "best_model_weights.pt"


def seconds(call: Callable[[], Any]) -> float:
    """Return how long a call takes."""
    started = perf_counter()
    call()
    return perf_counter() - started


class Packing:
    """Counts the seconds in which oneDNN packs weights, from now on.

    Attributes:
        seconds: so far.
    """

    def __init__(self) -> None:
        self.seconds = 0.0
        for name in ("qlinear_prepack", "qconv_prepack"):
            setattr(torch.ops.onednn, name, self._timed(getattr(torch.ops.onednn, name)))

    def _timed(self, pack: Callable[..., Tensor]) -> Callable[..., Tensor]:
        def timed(*given: Any) -> Tensor:
            started = perf_counter()
            packed = pack(*given)
            self.seconds += perf_counter() - started
            return packed

        return timed


def cells(name: str, rounds: int, packing: Packing) -> list[str]:
    """Return a row of the table."""
    make, shape = NETS[name]
    torch.manual_seed(0)
    net = make().eval()
    with tempfile.TemporaryDirectory() as folder:
        configure, weights = quantized(net, torch.randn(shape), Path(folder))
        size = weights.stat().st_size / 2**20
        int8 = load(configure, weights, net)

        def plainly() -> None:
            state = torch.load(weights, weights_only=True)
            own = {name: one for name, one in state.items() if not name.startswith(PROBE)}
            int8.load_state_dict(own, strict=False)

        def turn() -> tuple[float, float, float, float]:
            before = seconds(plainly), seconds(hashed), packing.seconds
            ours = seconds(lambda: load(configure, weights, net))
            return before[0], before[1], packing.seconds - before[2], ours

        def hashed() -> None:
            hashlib.sha256(weights.read_bytes())

        plainly()
        turns = [turn() for _ in range(rounds)]
    parts = [1000 * statistics.median(found) for found in zip(*turns, strict=True)]
    over_plain = statistics.median(one[3] / one[0] for one in turns)
    over_all = statistics.median(one[3] / sum(one[:3]) for one in turns)
    shown = [f"{one:.0f}" for one in parts]
    return [name, f"{size:.1f}", *shown, f"{over_plain:.1f}", f"{over_all:.1f}"]


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="the first net alone")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    logging.getLogger("lpot_lightning").setLevel(logging.ERROR)
    names = list(NETS)[:1] if asked.quick else list(NETS)
    heads = ["net", "MiB", "torch, ms", "SHA-256, ms", "packing, ms", "`load`, ms"]
    heads += ["`load` / torch", "`load` / all three"]
    packing = Packing()
    print(markdown(heads, [cells(name, ROUNDS, packing) for name in names]))


if __name__ == "__main__":
    main()
