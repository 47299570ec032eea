"""What users do with an int8 model: modes, copies, states, threads, a Trainer, an older CPU."""

from __future__ import annotations

import copy
import os
import subprocess
import sys
import warnings
from concurrent.futures import ThreadPoolExecutor

import lightning.pytorch as pl
import pytest
import torch
from plain_scenes import corners, net, quantization
from torch import nn
from torch.utils.data import DataLoader

from lpot_lightning.quantization.graph.capture import counts_of
from lpot_lightning.quantization.program.program import programs_of

IMAGES = corners(40, seed=1).tensors[0]


@pytest.fixture(scope="module")
def int8(tmp_path_factory) -> nn.Module:
    return quantization(tmp_path_factory.mktemp("ws"))(net())


@pytest.fixture(scope="module")
def wanted(int8) -> torch.Tensor:
    with torch.no_grad():
        return int8(IMAGES)


def test_inference_mode_and_none_give_the_same(int8, wanted):
    with torch.inference_mode():
        assert torch.equal(int8(IMAGES), wanted)
    assert torch.equal(int8(IMAGES), wanted)
    assert not int8(IMAGES.clone().requires_grad_()).requires_grad


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast_is_no_reason_for_another_answer(int8, wanted, dtype):
    with torch.no_grad(), torch.autocast("cpu", dtype):
        found = int8(IMAGES)
    assert float((found - wanted).norm() / wanted.norm()) < 0.01


def test_a_state_goes_from_one_int8_model_to_another(int8, wanted):
    other = copy.deepcopy(int8)
    with torch.no_grad():
        for one in other.buffers():
            one.zero_()
        assert not torch.equal(other(IMAGES), wanted)
        other.load_state_dict(int8.state_dict())
        assert torch.equal(other(IMAGES), wanted)


def test_threads_get_their_own_answers(int8):
    sizes = [1 + n % 5 for n in range(40)]
    with torch.no_grad():
        expected = [int8(IMAGES[:size]) for size in sizes]

    def asked(size: int) -> torch.Tensor:
        with torch.no_grad():
            return int8(IMAGES[:size])

    with ThreadPoolExecutor(4) as pool:
        assert all(map(torch.equal, pool.map(asked, sizes), expected))


class Predicting(pl.LightningModule):
    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def predict_step(self, batch, index):
        return self.net(batch)


def test_a_trainer_predicts_with_it(int8):
    trainer = pl.Trainer(
        accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False
    )
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*does not have many workers")
        found = trainer.predict(Predicting(int8), DataLoader(list(IMAGES), batch_size=16))
    with torch.no_grad():  # of the same batches: another size moves last bits where AMX computes
        assert all(map(torch.equal, found, map(int8, IMAGES.split(16))))


def test_calls_are_counted_by_how_they_were_computed(int8):
    before = sum(one.by_graph for one in counts_of(int8).values())
    with torch.no_grad():
        int8(IMAGES)
    counts = counts_of(int8)
    assert sum(one.by_graph for one in counts.values()) == before + 1
    assert all(one.by_layers == 0 for one in counts.values())


def test_a_program_can_be_read(int8):
    with torch.no_grad():
        int8(IMAGES)
    ((program, *_),) = programs_of(int8).values()
    assert "Int8Conv(" in program.code
    assert "# chains" in program.code


WITHOUT_VNNI = """
import sys
sys.path.insert(0, {scenes!r})
import torch
from plain_scenes import corners, net, quantization
from lpot_lightning.quantization.kernels.layers import Int8Layer
from lpot_lightning.quantization.kernels.saturation import may_saturate
fp32, images = net().eval(), corners(200, seed=1).tensors[0]
made = quantization("ws")
int8 = made(net())
with torch.no_grad():
    found, wanted = int8(images), fp32(images)
layers = [one for one in int8.modules() if isinstance(one, Int8Layer)]
print({{one.x.high for one in layers}}, {{one.x.low for one in layers}},
      {{one.exact or may_saturate(one.weight, 255) for one in layers}},
      float((found - wanted).norm() / wanted.norm()) < 0.1)
"""


def test_without_vnni_paired_weights_are_right(tmp_path):
    scenes = os.path.dirname(sys.modules["plain_scenes"].__file__ or "")
    environment = {**os.environ, "ONEDNN_MAX_CPU_ISA": "AVX2", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", WITHOUT_VNNI.format(scenes=scenes)],
        env={**environment, "PYTHONPATH": os.pathsep.join(sys.path)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.stdout.splitlines()[-1:] == ["{255} {0} {False} True"], done.stderr[-2000:]
