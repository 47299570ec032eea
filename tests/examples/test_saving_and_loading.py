"""The example of saving and loading: each way in another process, bit for bit."""

from __future__ import annotations

import importlib
import pickle
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from warm_python import python

from lpot_lightning import Quantization

FOLDER = Path(__file__).parents[2] / "examples" / "saving_and_loading"


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """Return where the demo was run, and what it said."""
    folder = tmp_path_factory.mktemp("saving")
    done = subprocess.run(
        [python(), str(FOLDER / "demo.py")],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return folder / "saved", done.stdout


WAYS = [
    "state_dict, files of the workspace",
    "state_dict, torch's own",
    "entire model",
    "TorchScript",
    "general checkpoint",
    "training that goes on from the checkpoint",
]


@pytest.mark.parametrize("way", WAYS)
def test_it_comes_back_bit_for_bit(demo: tuple[Path, str], way: str) -> None:
    assert f"{way}: bit-equal True" in demo[1].splitlines()


def test_an_entire_model_is_for_own_files_only(demo: tuple[Path, str]) -> None:
    with pytest.raises(pickle.UnpicklingError, match="Weights only load failed"):
        torch.load(demo[0] / "entire.pt", weights_only=True)


def test_a_checkpoint_and_the_files_hold_nothing_but_tensors_and_numbers(demo) -> None:
    saved = torch.load(demo[0] / "checkpoint.tar", weights_only=True)
    assert sorted(saved) == [
        "best_configure.yaml",
        "best_model_weights.pt",
        "epoch",
        "loss",
        "model_state_dict",
        "optimizer_state_dict",
    ]
    assert torch.load(demo[0] / "workspace" / "best_model_weights.pt", weights_only=True)


ALONE = """
import runpy, sys
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], None, "__main__")
assert not [one for one in sys.modules if one.startswith(("lpot", "lightning"))]
"""


def test_torchscript_needs_nothing_of_ours(demo: tuple[Path, str]) -> None:
    said = (
        "import runpy, sys; sys.argv = sys.argv[1:]; runpy.run_path(sys.argv[0], None, '__main__');"
    )
    said += "assert not [one for one in sys.modules if one.startswith(('lpot', 'lightning'))]"
    files = [demo[0] / "torchscript.pt", demo[0] / "images.pt"]
    script = [sys.executable, "-I", "-c", said, FOLDER / "torchscript.py", *files]
    done = subprocess.run(script, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr


class Several(nn.Module):
    """Cannot become one graph: two parts, and Python between them."""

    def __init__(self) -> None:
        super().__init__()
        self.one = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU())
        self.other = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU())

    def forward(self, images: Tensor) -> Tensor:
        first = self.one(images)
        torch._dynamo.graph_break()
        return first + self.other(images)


def test_torchscript_takes_what_is_no_graph(tmp_path, monkeypatch) -> None:
    monkeypatch.syspath_prepend(str(FOLDER))
    monkeypatch.delitem(sys.modules, "torchscript", raising=False)
    torchscript = importlib.import_module("torchscript")
    asked = {
        "model": {"name": "several", "framework": "pytorch_fx"},
        "quantization": {"calibration": {"sampling_size": 8}},
        "tuning": {"workspace": {"path": str(tmp_path)}},
    }
    images = torch.randn(8, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    int8 = Quantization(asked)(Several(), q_dataloader=[images], eval_func=lambda _: 1.0)
    torchscript.export(int8, images[:2], tmp_path / "several.pt")
    with torch.no_grad():
        found = torchscript.load(tmp_path / "several.pt")(images)
        torch.testing.assert_close(found, int8(images), rtol=1e-2, atol=1e-2)


def test_torchscript_packs_once(demo, monkeypatch) -> None:
    monkeypatch.syspath_prepend(str(FOLDER))
    monkeypatch.delitem(sys.modules, "torchscript", raising=False)
    torchscript = importlib.import_module("torchscript")
    code = torchscript.load(demo[0] / "torchscript.pt").code
    assert "prepack" not in code
    assert code.count("self.pack_") == 5


def test_the_int8_files_are_a_quarter_of_fp32(demo: tuple[Path, str]) -> None:
    fp32 = 4 * sum(
        value.numel()
        for value in torch.load(demo[0] / "checkpoint.tar", weights_only=True)[
            "model_state_dict"
        ].values()
    )
    sample = 16 << 10  # which the model is asked when it is loaded
    for name in ("own_state.pt", "torchscript.pt"):
        assert (demo[0] / name).stat().st_size < fp32 / 3
    assert (demo[0] / "workspace/best_model_weights.pt").stat().st_size < fp32 / 3 + sample


def test_every_test_of_the_readme_is_there() -> None:
    own = Path(__file__).read_text()
    for line in (FOLDER / "README.md").read_text().splitlines():
        for name in line.split("`"):
            if name.startswith("test_"):
                assert f"def {name}(" in own, name
