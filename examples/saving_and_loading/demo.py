"""Save an int8 model in each way, and load each file in another process.

python examples/saving_and_loading/demo.py
"""

from __future__ import annotations

import logging
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import checkpoint
import entire_model
import state_dict
import torch
import torchscript
from net import Net, accuracy, images, quantized, train_epoch
from torch import Tensor, nn

HERE = Path(__file__).parent
FOLDER = Path("saved")
WORKSPACE = FOLDER / "workspace"


def main() -> None:
    """Train, quantize, save; or with the argument ``load`` restore and compare."""
    logging.getLogger("lpot_lightning").setLevel(logging.WARNING)
    if sys.argv[1:] == ["load"]:
        _compare(_loaded())
        return
    torch.manual_seed(0)
    model = Net()
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    loss = [train_epoch(model, optimizer, epoch) for epoch in range(2)][-1]
    int8 = quantized(model, WORKSPACE)
    print(f"fp32 {accuracy(model.eval()):.4f}, int8 {accuracy(int8):.4f}", flush=True)
    _save(model, int8, optimizer, loss)
    subprocess.run([sys.executable, HERE / "demo.py", "load"], check=True)
    _run_without_the_class(FOLDER / "torchscript.pt")
    _go_on(model, optimizer)


def _save(model: nn.Module, int8: nn.Module, optimizer: torch.optim.Optimizer, loss: float) -> None:
    batch = _images()
    torch.save(batch, FOLDER / "images.pt")
    with torch.no_grad():
        torch.save(int8(batch), FOLDER / "scores.pt")
    state_dict.save_own(int8, FOLDER / "own_state.pt")
    entire_model.save(int8, FOLDER / "entire.pt")
    torchscript.export(int8, batch[:2], FOLDER / "torchscript.pt")
    checkpoint.save(FOLDER / "checkpoint.tar", model, optimizer, 1, loss, WORKSPACE)


def _loaded() -> Iterator[tuple[str, nn.Module]]:
    yield "state_dict, files of the workspace", state_dict.load_files(WORKSPACE)
    own = state_dict.load_own(FOLDER / "own_state.pt", WORKSPACE)
    yield "state_dict, torch's own", own
    yield "entire model", entire_model.load(FOLDER / "entire.pt")
    yield "general checkpoint", checkpoint.int8_of(FOLDER / "checkpoint.tar", Net())


def _compare(loaded: Iterator[tuple[str, nn.Module]]) -> None:
    batch = torch.load(FOLDER / "images.pt", weights_only=True)
    for name, model in loaded:
        with torch.no_grad():
            _say(name, model(batch))


def _run_without_the_class(file: Path) -> None:
    """Run a file of TorchScript where neither ``Net`` nor lpot_lightning is imported."""
    script = [sys.executable, HERE / "torchscript.py", file, FOLDER / "images.pt"]
    subprocess.run(script, check=True)
    scores = torch.load(f"{file}.scores", weights_only=True)
    _say("TorchScript", scores)


def _go_on(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """Train an epoch more, here and from the checkpoint, and compare the weights."""
    resumed = Net()
    again = torch.optim.Adam(resumed.parameters(), lr=2e-3)
    epoch, _ = checkpoint.resume(FOLDER / "checkpoint.tar", resumed, again)
    train_epoch(resumed, again, epoch + 1)
    train_epoch(model, optimizer, epoch + 1)
    expected, found = model.state_dict(), resumed.state_dict()
    equal = all(torch.equal(value, found[name]) for name, value in expected.items())
    print(f"training that goes on from the checkpoint: bit-equal {equal}")


def _say(name: str, scores: Tensor) -> None:
    expected = torch.load(FOLDER / "scores.pt", weights_only=True)
    print(f"{name}: bit-equal {torch.equal(scores, expected)}", flush=True)


def _images() -> Tensor:
    return images(64, 2).tensors[0]


if __name__ == "__main__":
    main()
