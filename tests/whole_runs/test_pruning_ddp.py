"""Two processes that prune a model together."""

import pickle
import signal
import time
from datetime import timedelta

import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch.strategies import DDPStrategy
from lit_scenes import conf, files_in, points, same, trainer, val_loader, weights_of
from qat_scenes import ConvLit, train_images, val_images
from sparse_scenes import (
    GRADIENT,
    WEIGHTS,
    Rolling,
    checkpoints,
    halved,
    pruned,
    pruning,
    pruning_conf,
    weights_at,
    weights_in,
    zeros,
)
from torch.multiprocessing.spawn import ProcessException
from torch.utils.data import DataLoader, IterableDataset
from users_world import kept

import lpot_lightning
from lpot_lightning import PruningCallback, QuantizationCallback
from lpot_lightning.errors import PruningError
from lpot_lightning.runs import prune as pruning_run

pytestmark = [
    pytest.mark.filterwarnings("ignore:Checkpoint directory .* exists and is not empty"),
    pytest.mark.filterwarnings("ignore:The dirpath has changed from"),
    pytest.mark.filterwarnings("ignore:Be aware that when using `ckpt_path`, callbacks used"),
]
LOOSE = {"accuracy_criterion": {"absolute": 0.3}}
BOTH = pytest.mark.parametrize("kind", [{}, GRADIENT], ids=["magnitude", "sensitivity"])


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
    return trainer(*callbacks, strategy=strategy, devices=2, **{"max_epochs": 3, **given})


def halves():
    """Return batches that Lightning deals out to both processes, and their validation data."""
    return DataLoader(points(64), batch_size=8), val_loader(24, batch_size=6)


class Noted(pl.Callback):
    """Writes each process's weights down after each batch, and its result when the fit is over."""

    def __init__(self, folder):
        self._folder = folder

    def on_train_batch_end(self, one, module, *_):
        path = self._folder / f"{one.global_step:02}_{one.global_rank}.pt"
        torch.save(weights_in(module), path)

    def teardown(self, one, module, stage):
        result = one.callbacks[0].result
        told = [result.status, result.reached, result.accuracy, result.baseline, result.sparsity]
        (self._folder / f"result_{one.global_rank}").write_text(repr(told))
        torch.save(weights_of(result.model), self._folder / f"model_{one.global_rank}.pt")


@BOTH
def test_masks_weights_and_results_are_equal_in_both(tmp_path, workspace, kind):
    callback, module = pruning(workspace, kind, tuning=LOOSE), Rolling()
    two(callback, Noted(tmp_path)).fit(module, *halves())
    steps = sorted(tmp_path.glob("*_0.pt"))[:-1]
    assert len(steps) == 12
    for path in steps:
        own, other = (torch.load(tmp_path / f"{path.stem[:2]}_{rank}.pt") for rank in (0, 1))
        assert same(own, other)
    assert halved(own)
    assert halved(module)  # the weights come back to the process that began the fit
    told = [(tmp_path / f"result_{rank}").read_text() for rank in (0, 1)]
    assert told[0] == told[1]
    assert same(*(torch.load(tmp_path / f"model_{rank}.pt") for rank in (0, 1)))
    result = callback.result
    assert (result.status, result.reached, result.sparsity) == ("met", True, 0.5)
    with pytest.raises(PruningError, match="the fit ran in processes of its own"):
        _ = result.model


@BOTH
def test_schedules_in_steps_of_data_without_end(tmp_path, workspace, kind):
    """Each process has data of its own; they step together."""

    class Endless(IterableDataset):
        def __iter__(self):
            ours = torch.distributed.get_rank()
            while True:
                yield from points(64, seed=ours)

    callback = pruning(
        workspace, {**kind, "start_step": 2, "end_step": 7}, tuning=LOOSE, baseline=0.9
    )
    data = DataLoader(Endless(), batch_size=8), val_loader(24, batch_size=6)
    ends = {"max_epochs": -1, "max_steps": 9, "val_check_interval": 4}
    two(callback, Noted(tmp_path), check_val_every_n_epoch=None, **ends).fit(Rolling(), *data)
    shares = []
    for step in range(1, 10):
        own, other = (torch.load(tmp_path / f"{step:02}_{rank}.pt") for rank in (0, 1))
        assert same(own, other)
        shares.append(zeros(own)[WEIGHTS[0]])
    assert shares[:3] == [0.0] * 3
    assert shares == sorted(shares)
    assert 0 < shares[3] < shares[5] < 0.5
    assert shares[7:] == [0.5] * 2
    assert (callback.result.status, callback.result.reached) == ("met", True)


def test_the_result_is_read_back_and_has_one_writer(tmp_path, workspace, monkeypatch):
    write = pruning_run.save_pruned

    def noted(*given):
        with (tmp_path / "written").open("a") as file:
            file.write("x")
        write(*given)

    monkeypatch.setattr(pruning_run, "save_pruned", noted)
    callback = pruning(workspace, tuning=LOOSE)
    assert callback.result is None
    two(callback).fit(Rolling(), *halves())
    assert (tmp_path / "written").read_text() == "x"
    assert files_in(workspace) == [
        "pruned_configure.yaml", "pruned_model_weights.pt", "pruning_result.json",
        "report.html",
    ]  # fmt: skip
    restored = lpot_lightning.load(
        workspace / "pruned_configure.yaml", workspace / "pruned_model_weights.pt", Rolling()
    )
    assert halved(restored)
    (found,) = trainer().validate(restored, val_loader(24), verbose=False)
    assert found["val_acc"] == pytest.approx(callback.result.accuracy)


def test_processes_that_are_started_after_a_fit_in_this_one(workspace):
    """Spawned ones take half a minute to import everything; to be sent is what they ask of us."""
    callback = pruning(workspace, tuning=LOOSE)
    pruned(callback, Rolling(), max_epochs=3)
    before = callback.result
    assert pickle.dumps(callback)
    two(callback).fit(Rolling(), *halves())
    assert (callback.result.status, callback.result.reached) == ("met", True)
    assert callback.result is not before
    assert callback.result is callback.result
    assert callback.result.held is None


def test_results_of_several_fits_of_processes(workspace):
    callback, found = pruning(workspace, tuning=LOOSE), []
    for module in (Rolling(), Rolling(lr=0.0)):
        two(callback).fit(module, *halves())
        found.append(callback.result)
    assert found[0] is not found[1]
    pruned(callback, Rolling(), max_epochs=3)
    assert callback.result.held is not None


@pytest.mark.parametrize("struck", [0, 1])
def test_a_signal_to_one_ends_all_and_the_weights_are_kept(tmp_path, workspace, struck):
    """The other one does not wait for it; the first one writes, if it is the one that is told."""

    class Struck(Rolling):
        def validation_step(self, batch, batch_idx):
            if self.trainer.fit_loop.done and self.trainer.global_rank == struck:
                signal.raise_signal(signal.SIGTERM)
            super().validation_step(batch, batch_idx)

    began = time.monotonic()
    with pytest.raises(ProcessException):
        two(pruning(workspace, tuning=LOOSE, baseline=1.0)).fit(Struck(), *halves())
    assert time.monotonic() - began < 20
    if struck == 0:
        assert (workspace / "unjudged.ckpt").exists()


def test_processes_that_leave_no_result(workspace):
    """That of the fit before is not taken for theirs."""

    class Failing(Rolling):
        def on_train_epoch_end(self):
            raise RuntimeError("no")

    callback = pruning(workspace, tuning=LOOSE)
    pruned(callback, Rolling(), max_epochs=3)
    with pytest.raises(Exception, match="RuntimeError: no"):
        two(callback).fit(Failing(), *halves())
    assert callback.result is None


class Watched(PruningCallback):
    """Checks the user's world around the judging, in each process."""

    def on_fit_start(self, one, module):
        with kept(one, module):
            super().on_fit_start(one, module)

    def on_fit_end(self, one, module):
        with kept(one, module):
            super().on_fit_end(one, module)


@BOTH
def test_a_fit_that_goes_on(tmp_path, workspace, kind):
    """From the middle: the same bits as a fit that nothing disturbed."""
    first = Watched(pruning_conf(workspace, kind, tuning=LOOSE))
    whole = checkpoints(tmp_path / "whole")
    two(first, whole, enable_checkpointing=True).fit(Rolling(), *halves())
    (path,) = (tmp_path / "whole").glob("epoch=0-*")
    again, more = Watched(first.conf.to_dict()), checkpoints(tmp_path / "again")
    going_on = two(again, more, enable_checkpointing=True)
    going_on.fit(Rolling(), *halves(), ckpt_path=str(path))
    last, told = (tmp_path / one / "last.ckpt" for one in ("again", "whole"))
    assert same(weights_at(last), weights_at(told))
    assert halved(weights_at(last))
    assert again.result == first.result


@pytest.mark.parametrize("precision", ["bf16-true", "64-true"])
def test_other_types_of_weights(workspace, precision):
    class Cast(Rolling):
        def training_step(self, batch, batch_idx):
            return super().training_step((batch[0].to(self.dtype), batch[1]), batch_idx)

    callback, module = pruning(workspace, tuning=LOOSE), Cast()
    two(callback, precision=precision).fit(module, *halves())
    assert callback.result.reached
    assert halved(module)


def test_layers_in_channels_last(workspace):
    """A mask lies in memory as its weight does, and is sent all the same."""
    module = ConvLit().to(memory_format=torch.channels_last)
    callback = pruning(workspace, tuning={"accuracy_criterion": {"absolute": 1}})
    two(callback).fit(module, train_images(48, batch_size=8), val_images(24))
    assert callback.result.sparsity == pytest.approx(0.5, abs=0.01)


def test_the_first_process_decides(tmp_path, workspace):
    """Weights that drifted apart are pruned alike all the same."""

    class Astray(pl.Callback):
        def on_train_epoch_start(self, one, module):
            if one.current_epoch == 2:
                with torch.no_grad():
                    module.net[0].weight.add_(torch.randn(16, 8) * one.global_rank)

    class Masked(pl.Callback):
        def on_train_epoch_end(self, one, module):
            masks = {name: callback.masks.pruned(name) for name in WEIGHTS}
            torch.save(masks, tmp_path / f"masks_{one.global_rank}.pt")

    callback = pruning(workspace, tuning={"accuracy_criterion": {"absolute": 1}})
    two(Astray(), callback, Masked()).fit(Rolling(), *halves())
    assert same(*(torch.load(tmp_path / f"masks_{rank}.pt") for rank in (0, 1)))


def test_what_one_process_refuses_both_refuse(workspace):
    workspace.write_text("a file in the way")
    with pytest.raises(Exception, match="cannot write to the workspace") as told:
        two(pruning(workspace)).fit(Rolling(), *halves())
    assert "ArtifactError" in str(told.value)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("precision", ["16-mixed", "bf16-mixed", "32-true"])
@pytest.mark.parametrize(
    "kind",
    [{}, GRADIENT, {**GRADIENT, "names": "net.0.*", "parameters": {"target": 8}}],
    ids=["magnitude", "sensitivity", "heads"],
)
def test_trained_on_a_gpu_and_judged_on_the_cpu(tmp_path, workspace, precision, kind):
    callback, saved = pruning(workspace, kind, tuning=LOOSE), checkpoints(tmp_path / "saved")
    _, module = pruned(
        callback, None, saved, accelerator="gpu", devices=1, precision=precision
    )  # fmt: skip
    assert callback.result.status == "met"
    assert abs(zeros(module)[WEIGHTS[0]] - 0.5) < 0.05
    again = pruning(workspace, kind, tuning=LOOSE)
    (path,) = (tmp_path / "saved").glob("epoch=1-*")
    pruned(again, None, accelerator="gpu", devices=1, precision=precision, ckpt_path=str(path))
    assert again.result.status == "met"


def test_pruned_and_quantized_in_one_fit(workspace):
    """Both callbacks are in one workspace, of which the first process alone holds the lock."""
    few = {"calibration": {"sampling_size": 32}}
    quantization = QuantizationCallback(conf(workspace, quantization=few), monitor="val_acc")
    both = [pruning(workspace), quantization]
    two(*both).fit(Rolling(), *halves())
    assert both[0].result.reached
    assert both[1].result.workspace == workspace
    assert {"pruned_configure.yaml", "best_configure.yaml"} <= {p.name for p in workspace.iterdir()}
