"""Trainers with a profiler, whose hooks hang at the module while it is copied."""

import pytest
import torch
from lightning.pytorch.profilers import PyTorchProfiler
from lit_scenes import Lit, conf, train_loader, trainer, val_loader
from qat_scenes import qat

from lpot_lightning import BenchmarkCallback, PruningCallback, QuantizationCallback, quantize

WEIGHTS = {"target_sparsity": 0.5, "start_epoch": 0, "end_epoch": 1, "pruners": [{}]}
PRUNING = {"approach": {"weight_compression": WEIGHTS}}
pytestmark = pytest.mark.filterwarnings("ignore:.*[Pp]rofiler.*", "ignore:.*lr_scheduler.step.*")


class Learning(Lit):
    """Learns a little."""

    def __init__(self):
        super().__init__(0.01)


def scheduled():
    plan = torch.profiler.schedule(wait=1, warmup=1, active=2)
    return PyTorchProfiler("profiled", "steps", schedule=plan)


CALLBACKS = {
    "quantization": lambda folder: QuantizationCallback(conf(folder)),
    "training": qat,
    "pruning": lambda folder: PruningCallback(conf(folder, pruning=PRUNING)),
}


def fitted(callbacks, profiler):
    module = Learning()
    one = trainer(*callbacks, max_epochs=2, profiler=profiler)
    one.fit(module, train_loader(), val_loader())
    assert not any(layer._forward_hooks for layer in module.net)  # the profiler took them away


@pytest.mark.parametrize("profiler", ["simple", "advanced", "pytorch"])
def test_quantization(profiler, workspace):
    quantization = QuantizationCallback(conf(workspace))
    fitted([quantization], profiler)
    assert quantization.result.int8_ops == ("net.0", "net.2")


@pytest.mark.parametrize("name", CALLBACKS)
def test_a_profiler_with_a_schedule(name, workspace):
    callback = CALLBACKS[name](workspace)
    benchmark = BenchmarkCallback(conf())
    fitted([callback, benchmark], scheduled())
    assert callback.result.status == "met"
    assert benchmark.result is not None


def test_without_a_fit(workspace):
    one = trainer(profiler="pytorch")
    result = quantize(one, Lit(), train_loader(), val_loader(), conf=conf(workspace))
    assert result.int8_ops == ("net.0", "net.2")
