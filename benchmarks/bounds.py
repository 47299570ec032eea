"""What a CPU without VNNI costs: the error of ten small nets under each bound of their integers.

Such a CPU adds up two products in 16 bits, so either activations keep to 7 bits or any two weights
of an output to 128; with VNNI both have 8 bits, which plain arithmetic computes elsewhere. All ops
are int8, with ranges as they come first and no repair. Signal over noise is that of the logits.

    make bench
"""

from __future__ import annotations

import argparse
import logging
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from classifier import say_nothing
from table import markdown
from torch import Tensor, nn

from lpot_lightning import Quantization
from lpot_lightning.quantization import onednn
from lpot_lightning.quantization.kernels.bounds import PAIRED, SEVEN_BITS, WHOLE, Bounds

sys.path.append(str(Path(__file__).parent / "comparison"))
from families import FAMILIES  # noqa: E402
from training import trained  # noqa: E402

IMAGES, QUICK = 500, ("ResNet", "BERT")
WAYS = {"7 bits": SEVEN_BITS, "paired": PAIRED, "8 bits": WHOLE}


def int8(net: nn.Module, calibration: Tensor, bounds: Bounds) -> nn.Module:
    """Return ``net`` with all ops in int8, on ``bounds``."""
    conf: dict[str, Any] = {
        "model": {"name": "bounds", "framework": "pytorch_fx"},
        "quantization": {"calibration": {"sampling_size": len(calibration)}},
        "tuning": {"objective": "footprint"},
    }
    batches = list(calibration.split(10))
    with (
        tempfile.TemporaryDirectory() as folder,
        mock.patch.multiple(onednn, PAIRED=bounds, WHOLE=bounds),
    ):
        conf["tuning"]["workspace"] = {"path": folder}
        made: nn.Module = Quantization(conf)(net, q_dataloader=batches, eval_func=lambda _: 1.0)
        return made


def logits(net: nn.Module, images: Tensor) -> Tensor:
    """Return those of all ``images``."""
    with torch.inference_mode():
        return torch.cat([net(part) for part in images.split(50)]).double()


def row(name: str, *, quick: bool) -> Iterator[str]:
    """Yield the cells of a net: signal over noise on each bound, and how many answers differ."""
    told: dict[str, Any] = trained(name, quick=quick)
    net = FAMILIES[name].build()
    net.load_state_dict(told["state"])
    images = told["images"][:IMAGES]
    exact = logits(net.eval(), images)
    found = [logits(int8(net, told["calibration"], one), images) for one in WAYS.values()]
    yield name
    for one in found:
        yield f"{float(10 * torch.log10(exact.var() / (one - exact).square().mean())):.1f}"
    for one in found:
        yield str(int((one.argmax(1) != exact.argmax(1)).sum()))


def main() -> None:
    """Train, quantize, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="two nets, two epochs each")
    asked = parser.parse_args()
    say_nothing()
    logging.getLogger("lpot_lightning").setLevel(logging.ERROR)
    torch.set_num_threads(1)
    heads = [*(f"{way}, dB" for way in WAYS), *(f"{way}, answers" for way in WAYS)]
    rows = [list(row(name, quick=asked.quick)) for name in (QUICK if asked.quick else FAMILIES)]
    print(markdown(["net", *heads], rows))


if __name__ == "__main__":
    main()
