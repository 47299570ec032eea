"""Two processes that train a model for int8 together."""

import json
from datetime import timedelta

import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch.strategies import DDPStrategy
from lit_scenes import Lit, points, trainer
from qat_scenes import ConvLit, checkpoints, images, qat, ranges_in, val_images
from torch import nn
from torch.utils.data import DataLoader, DistributedSampler

import lpot_lightning

pytestmark = pytest.mark.filterwarnings("ignore:Checkpoint directory .* exists and is not empty")


@pytest.fixture(autouse=True)
def _one_thread():
    """A forked process has none of the threads that torch would wait for."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def two(*callbacks, **given):
    """Return a Trainer whose fit runs in two processes of its own."""
    strategy = DDPStrategy(start_method="fork", timeout=timedelta(seconds=30))
    return trainer(*callbacks, strategy=strategy, devices=2, **{"max_epochs": 2, **given})


def one(*callbacks, **given):
    return trainer(*callbacks, **{"max_epochs": 2, **given})


class Still(ConvLit):
    """Learns nothing, and has no norm that differs between processes."""

    def __init__(self):
        super().__init__(lr=0.0)
        for part in (self.net[1], self.net[3].norm):
            part.eval().requires_grad_(False)

    def train_dataloader(self):
        """Deal the samples out in turn: two halves of 8 are a batch of 16."""
        world, rank = self.trainer.world_size, self.trainer.global_rank
        dealt = DistributedSampler(images(96, 0), world, rank, shuffle=False)
        return DataLoader(images(96, 0), batch_size=16 // world, sampler=dealt)

    def on_train_epoch_start(self):
        for part in (self.net[1], self.net[3].norm):
            part.eval()


def test_ranges_are_those_of_one_process_that_sees_the_batches_of_both(tmp_path):
    found = []
    for make in (two, one):
        saved = checkpoints(tmp_path / make.__name__)
        torch.manual_seed(0)
        callback = qat(tmp_path / f"ws_{make.__name__}")
        fit = make(callback, saved, enable_checkpointing=True)
        fit.fit(Still(), val_dataloaders=val_images())
        found.append(ranges_in(tmp_path / make.__name__ / "last.ckpt"))
    both, alone = found
    for name in ("low", "high", "scale"):
        assert torch.equal(both[name][0], alone[name][0])  # of the input
        assert torch.allclose(both[name], alone[name], rtol=0.05)  # of what was rounded before


class Noted(pl.Callback):
    """Writes each process's ranges and weights down after each batch."""

    def __init__(self, callback, folder):
        self._callback, self._folder = callback, folder

    def on_train_batch_end(self, trainer, module, *_):
        state = {
            **self._callback._fit.training.state()["ranges"],
            **{name: value.clone() for name, value in module.named_parameters()},
        }
        path = self._folder / f"{trainer.global_step}_{trainer.global_rank}.pt"
        torch.save(state, path)


def test_ranges_and_weights_are_equal_in_both_after_each_batch(tmp_path):
    callback = qat(tmp_path / "workspace")
    noted = Noted(callback, tmp_path)
    two(callback, noted).fit(ConvLit(), DataLoader(images(96, 0), batch_size=8), val_images())
    steps = sorted(tmp_path.glob("*_0.pt"))
    assert len(steps) == 12
    for path in steps:
        own, other = (
            torch.load(one, weights_only=True)
            for one in (path, path.with_name(path.name.replace("_0", "_1")))
        )
        assert all(torch.equal(own[name], other[name]) for name in own)


def test_the_result_and_a_fit_that_goes_on(tmp_path):
    loose = {"tuning": {"accuracy_criterion": {"absolute": 0.3}}}
    saved, callback = checkpoints(tmp_path / "saved"), qat(tmp_path / "workspace", **loose)
    loader = DataLoader(images(96, 0), batch_size=8)
    two(callback, saved, enable_checkpointing=True, max_epochs=3).fit(
        ConvLit(), loader, val_images()
    )
    result = callback.result
    assert (result.status, result.fp32_ops, result.evaluations) == ("met", (), 4.0)
    path = tmp_path / "saved" / "last.ckpt"
    restored = lpot_lightning.load_from_checkpoint(ConvLit, path)
    (found,) = trainer().validate(restored, val_images(), verbose=False)
    assert found["val_acc"] == pytest.approx(result.accuracy, abs=0.05)
    again, more = qat(tmp_path / "again", **loose), checkpoints(tmp_path / "saved")
    going_on = two(again, more, enable_checkpointing=True, max_epochs=4)
    going_on.fit(ConvLit(), loader, val_images(), ckpt_path=str(path))
    assert (again.result.status, again.result.fp32_ops) == ("met", ())


class Told(pl.Callback):
    """Writes down what each process's result tells of the training."""

    def __init__(self, callback, folder):
        self._callback, self._folder = callback, folder

    def teardown(self, trainer, module, stage):
        log = self._callback.result.training.to_dict()
        (self._folder / f"{trainer.global_rank}.json").write_text(json.dumps(log))


def test_all_processes_tell_of_the_training_as_the_first_saw_it(tmp_path):
    callback = qat(tmp_path / "workspace")
    loader = DataLoader(images(96, 0), batch_size=8)
    two(callback, Told(callback, tmp_path)).fit(ConvLit(), loader, val_images())
    first, second = (json.loads((tmp_path / f"{rank}.json").read_text()) for rank in range(2))
    assert len(first["epochs"]) == 2
    assert first == second


class Astray(Lit):
    """Goes past its net in one of the processes only."""

    def __init__(self):
        super().__init__(0.05)
        self.net = nn.Sequential(nn.Sequential(nn.Linear(8, 16), nn.ReLU()), nn.Linear(16, 3))

    def training_step(self, batch, batch_idx):
        past = self.global_rank == 1
        logits = self.net[1](self.net[0](batch[0])) if past else self.net(batch[0])
        return nn.functional.cross_entropy(logits, batch[1])


def test_what_one_process_calls_past_its_module_rounds_in_both(tmp_path):
    callback, saved = qat(tmp_path / "workspace"), checkpoints(tmp_path / "saved")
    loader = DataLoader(points(120), batch_size=8)
    values = DataLoader(points(48, seed=1), batch_size=8)
    two(callback, saved, enable_checkpointing=True).fit(Astray(), loader, values)
    state = torch.load(tmp_path / "saved" / "last.ckpt", weights_only=True)
    assert state["lpot_lightning"]["qat"]["training"]["places"] == ["net.0.0", "net.1"]
    assert callback.result.status == "met"


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("precision", ["16-mixed", "bf16-mixed"])
def test_trained_on_a_gpu_and_judged_on_the_cpu(tmp_path, precision):
    callback, module = qat(tmp_path / "workspace"), ConvLit()
    gpu = trainer(callback, accelerator="gpu", devices=1, precision=precision, max_epochs=6)
    gpu.fit(module, DataLoader(images(96, 0), batch_size=16), val_images())
    assert (callback.result.status, callback.result.fp32_ops) == ("met", ())
    assert {value.device.type for value in module.parameters()} == {"cpu"}
    assert next(callback.result.model.buffers()).device.type == "cpu"
