"""The example of image classification, on small generated images."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import yaml
from torch import Tensor, nn
from warm_python import python

from lpot_lightning import Benchmark, Quantization
from lpot_lightning.conf.reader import read_conf
from lpot_lightning.data.block import loader_of

FOLDER = Path(__file__).parents[2] / "examples" / "image_classification"
NAMES = ("images", "manual", "resnest", "resnet", "training", "usages")
KINDS = ("bars", "checks", "half", "ring")
SIZE, SHAPE = 32, [4, 3, 32, 32]


@pytest.fixture(scope="module")
def example() -> Iterator[SimpleNamespace]:
    """Return the modules of the example, as its programs import them."""
    sys.path.insert(0, str(FOLDER))
    before = {name: sys.modules.pop(name) for name in NAMES if name in sys.modules}
    try:
        yield SimpleNamespace(**{name: __import__(name) for name in NAMES})
    finally:
        sys.path.remove(str(FOLDER))
        for name in NAMES:
            sys.modules.pop(name, None)
        sys.modules.update(before)


@pytest.fixture(scope="module")
def data(example: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("images")
    return example.images.generate(folder, train=100, val=50, edge=36, kinds=KINDS)


@pytest.fixture(scope="module")
def trained(example: Any, data: Path) -> dict[str, Tensor]:
    """Return the weights of a narrow ResNet-18 that has learned something."""
    with torch.random.fork_rng():
        torch.manual_seed(1)
        net = example.resnet.resnet18(len(KINDS), width=16)
        example.training.train(net, data / "train", size=SIZE, epochs=14)
    return net.state_dict()


@pytest.fixture
def model(example: Any, trained: dict[str, Tensor], tmp_path, monkeypatch) -> nn.Module:
    """Return it; the test runs in an empty folder."""
    monkeypatch.chdir(tmp_path)
    net = example.resnet.resnet18(len(KINDS), width=16)
    net.load_state_dict(trained)
    return net.eval()


def conf(example: Any, data: Path, file: str = "ptq.yaml") -> dict[str, Any]:
    """Return a YAML of the example, with a loose goal: 200 images are a coarse measure."""
    asked = example.usages.conf_of(file, "resnet", data, SIZE)
    asked["tuning"]["accuracy_criterion"] = {"absolute": 0.05}
    if "evaluation" in asked:
        timed = asked["evaluation"]["performance"]
        timed |= {"warmup": 1, "iteration": 4}
        timed["dataloader"]["dataset"]["dummy"]["shape"] = SHAPE
    return asked


def check(quantization: Quantization) -> None:
    result = quantization.result
    assert result is not None
    assert result.status == "met"
    assert result.baseline > 0.6  # of four kinds
    assert not result.fp32_ops


@pytest.mark.parametrize(
    ("name", "parameters", "tensors"),
    [("resnet18", 11_689_512, 122), ("resnet50", 25_557_032, 320), ("resnest50", 27_483_240, 476)],
)
def test_the_models_have_the_published_sizes(example, name, parameters, tensors) -> None:
    made = getattr(example.resnest if name == "resnest50" else example.resnet, name)
    with torch.device("meta"):
        net = made()
    assert sum(one.numel() for one in net.parameters()) == parameters
    assert len(net.state_dict()) == tensors


def test_the_data_set_in_code_is_that_of_the_yaml(example: Any, data: Path) -> None:
    block = read_conf(conf(example, data)).evaluation.accuracy.dataloader
    images, kinds = next(iter(loader_of(block, "here")))
    own = example.images.Images(data / "val", SIZE)
    assert len(own) == 200
    torch.testing.assert_close(images, torch.stack([own[number][0] for number in range(30)]))
    assert kinds.tolist() == [own[number][1] for number in range(30)]


def test_all_in_the_yaml_and_timed_by_the_yaml(example: Any, model: nn.Module, data: Path) -> None:
    quantization = example.usages.all_in_the_yaml(model, conf(example, data))
    check(quantization)
    benchmark = Benchmark("lpot_workspace/pytorch_fx/resnet/deploy.yaml")
    timed = benchmark(quantization.result.model, fp32=model)
    assert (timed.speed.iterations, timed.speed.batch_size) == (3, 1)
    judged = benchmark(quantization.result.model, fp32=model, mode="accuracy")
    assert judged.accuracy == pytest.approx(quantization.result.accuracy)
    assert judged.fp32_accuracy == pytest.approx(quantization.result.baseline)


def test_loaders_in_code(example: Any, model: nn.Module, data: Path) -> None:
    check(example.usages.loaders_in_code(model, conf(example, data), data, SIZE))


def test_the_walk_through(example: Any, model: nn.Module, data: Path) -> None:
    asked = conf(example, data, "resnest.yaml")
    check(example.usages.own_function(model, asked, data, SIZE))
    assert Path("lpot_workspace/pytorch/resnet/best_configure.yaml").is_file()


def test_the_yaml_of_the_walk_through() -> None:
    asked = yaml.safe_load((FOLDER / "resnest.yaml").read_text())
    assert asked == {
        "model": {"name": "blendcnn", "framework": "pytorch"},
        "tuning": {
            "accuracy_criterion": {"relative": 0.01},
            "exit_policy": {"timeout": 0},
            "random_seed": 9527,
        },
    }


def test_the_training_for_int8(example: Any, model: nn.Module, data: Path) -> None:
    asked = conf(example, data, "qat.yaml")
    asked["quantization"]["train"]["iteration"] = 4
    check(example.usages.all_in_the_yaml(model, asked))


def test_the_manual_way(example: Any, model: nn.Module, data: Path) -> None:
    stubbed = example.manual.stubbed(model)
    images = torch.stack([image for image, _ in example.images.Images(data / "val", SIZE)])
    with torch.no_grad():
        torch.testing.assert_close(stubbed(images), model(images), rtol=1e-4, atol=1e-4)
    assert type(stubbed.layer1[0].conv1).__name__ == "ConvReLU2d"
    by_hand = example.usages.own_function(stubbed, conf(example, data, "resnest.yaml"), data, SIZE)
    check(by_hand)
    assert len(by_hand.result.int8_ops) == 21  # as many as without stubs


def test_split_attention(example: Any, data: Path, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    net = example.resnest.ResNeSt((1, 1, 1, 1), len(KINDS), width=16).eval()
    for stage in (net.layer1, net.layer2, net.layer3, net.layer4):
        nn.init.ones_(stage[0].bn3.weight)
    asked = example.usages.without_data(conf(example, data))
    asked["quantization"]["calibration"]["sampling_size"] = 200
    images = torch.stack([image for image, _ in example.images.Images(data / "val", SIZE)])
    with torch.no_grad():
        expected = net(images)
    quantization = Quantization(asked)
    calibrated = quantization.dataloader(
        list(zip(images, expected.argmax(1), strict=True)), batch_size=50
    )
    int8 = quantization(net, q_dataloader=calibrated, eval_dataloader=calibrated)
    assert {"layer1.0.conv2.conv", "layer1.0.conv3"} <= set(quantization.result.int8_ops)
    with torch.no_grad():
        error = int8(images) - expected
    assert float(error.norm() / (expected - expected.mean(0)).norm()) < 1


def test_the_program(tmp_path: Path) -> None:
    program = [python(), str(FOLDER / "main.py"), "--model", "resnet18", "--width", "8"]
    program += ["--size", "32", "--images", "16", "--epochs", "1"]
    done = subprocess.run(program, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    row = r"\| resnet18_ptq \| [01]\.\d+ \| [01]\.\d+ \| (met|not_met) \| \d+ of 21 \| "
    assert re.search(row + r"[\d.]+ \| [\d.]+ \| [\d.]+x \| [\d.]+x \|", done.stdout), done.stdout
    assert (tmp_path / "lpot_workspace" / "weights" / "resnet18.pt").is_file()
