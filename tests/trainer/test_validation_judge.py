"""The user's validation loop judges, whatever it looks like."""

import random
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger
from lit_scenes import (
    KINDS,
    Late,
    Lit,
    LossLit,
    Points,
    files_in,
    fitted,
    points,
    same,
    small_net,
    train_loader,
    trainer,
    val_loader,
    weights_of,
)
from torch import nn
from torch.utils.data import DataLoader, IterableDataset
from torchmetrics import MetricCollection
from torchmetrics.classification import MulticlassAccuracy, MulticlassF1Score

from lpot_lightning import load_from_checkpoint
from lpot_lightning.data.batches import few_samples
from lpot_lightning.errors import ConfError, DataError, EvaluationError, QuantizationError


def counting(module_class):
    """Return a class of which all copies count the batches they validate, in ``seen``."""

    class Counting(module_class):
        seen: list[int] = []

        def validation_step(self, batch, batch_idx):
            self.seen.append(len(batch[1]))
            super().validation_step(batch, batch_idx)

    Counting.seen = []
    return Counting


def is_int8(module):
    return any(one.dtype == torch.int8 for one in module.buffers())


def judged(callback, module, *data, **given):
    fitted(callback, module, *data, **given)
    return callback.result


def test_several_loaders_have_metrics_of_their_own(callback):
    class Two(Lit):
        def validation_step(self, batch, batch_idx, dataloader_idx=0):
            self.log("hits", (self.net(batch[0]).argmax(1) == batch[1]).float().mean())

    quantization = callback(monitor="hits/dataloader_idx_1")
    one = fitted(quantization, Two(), train_loader(), [val_loader(), val_loader(32)])
    assert quantization.result.monitor == "hits/dataloader_idx_1"
    assert quantization.result.evaluations == 2
    assert one.callback_metrics == {}


def test_the_direction_of_a_metric_object_counts_for_each_loader(callback):
    class Losses(Lit):
        def __init__(self):
            super().__init__()
            self.losses = nn.ModuleList([LowMetric() for _ in range(2)])

        def validation_step(self, batch, batch_idx, dataloader_idx=0):
            self.losses[dataloader_idx].update(F.cross_entropy(self.net(batch[0]), batch[1]))
            self.log("loss", self.losses[dataloader_idx])

    quantization = callback(
        monitor="loss/dataloader_idx_0", tuning={"accuracy_criterion": {"absolute": 0.5}}
    )
    result = judged(quantization, Losses(), train_loader(), [val_loader(), val_loader()])
    assert not result.criterion.higher_is_better


def test_a_metric_logged_by_step_and_by_epoch_is_one_metric(callback):
    class Both(Lit):
        def validation_step(self, batch, batch_idx):
            self.acc(self.net(batch[0]), batch[1])
            self.log("val_acc", self.acc, on_step=True, on_epoch=True)

    assert judged(callback(), Both()).monitor == "val_acc"


def test_dict_batches_and_dict_outputs_go_through(callback):
    class Dicts(Lit):
        def training_step(self, batch, batch_idx):
            return F.cross_entropy(self.net(batch["x"]), batch["y"])

        def validation_step(self, batch, batch_idx):
            hits = self.net(batch["x"]).argmax(1) == batch["y"]
            self.log("val_acc", hits.float().mean())
            return {"hits": hits}

    x, y = points(120).tensors
    rows = [{"x": one, "y": label} for one, label in zip(x, y, strict=True)]
    loader = DataLoader(rows, batch_size=16)
    assert judged(callback(), Dicts(), loader, loader).status == "met"


def test_a_loss_is_better_when_lower(callback):
    quantization = callback(
        monitor="val_loss",
        tuning={"accuracy_criterion": {"absolute": 0.5, "higher_is_better": False}},
    )
    result = judged(quantization, LossLit())
    assert result.status == "met"
    assert result.baseline < 0.1


def test_a_collection_of_metrics_is_known_by_its_names(callback):
    class Many(Lit):
        def __init__(self):
            super().__init__()
            self.scores = MetricCollection([MulticlassAccuracy(KINDS), MulticlassF1Score(KINDS)])

        def validation_step(self, batch, batch_idx):
            self.scores.update(self.net(batch[0]), batch[1])
            self.log_dict(self.scores)

    assert judged(callback(monitor="MulticlassF1Score"), Many()).baseline == 1.0


def test_a_metric_that_computes_on_the_cpu_and_never_syncs_works(callback):
    class Careful(Lit):
        def __init__(self):
            super().__init__()
            self.acc = MulticlassAccuracy(
                KINDS, compute_on_cpu=True, sync_on_compute=False, average="micro"
            )

        def validation_step(self, batch, batch_idx):
            self.acc(self.net(batch[0]), batch[1])
            self.log("val_acc", self.acc, sync_dist=True)

    assert judged(callback(), Careful()).status == "met"


@pytest.mark.parametrize(("limit", "batches"), [(2, 2), (0.34, 1), (1.0, 3)])
def test_limit_val_batches_is_obeyed(callback, limit, batches):
    module = counting(Lit)()
    result = judged(callback(), module, limit_val_batches=limit)
    judging = [size for size in module.seen if size == 16]
    assert result.evaluations == 2
    assert judging[:batches] == [16] * batches
    # two first looks, baseline, calibration on 7 batches, one trial, and 2 steps of timing
    assert len(module.seen) == 2 + batches + 7 + batches + 2


def test_evaluation_accuracy_iteration_limits_the_batches_of_a_pass(callback):
    module = counting(Lit)()
    judged(callback(evaluation={"accuracy": {"iteration": 2}}), module)
    assert len(module.seen) == 2 + 2 + 7 + 2 + 2


def test_shuffled_validation_data_gives_every_trial_the_same_batches(callback):
    class Recording(Lit):
        def on_validation_epoch_start(self):
            passes.append([])

        def validation_step(self, batch, batch_idx):
            passes[-1].append(batch[0].sum().item())
            super().validation_step(batch, batch_idx)

    passes = []
    generator = torch.Generator().manual_seed(3)
    loader = val_loader(shuffle=True, generator=generator)
    quantization = callback(tuning={"accuracy_criterion": {"absolute": -2.0}})
    judged(quantization, Recording(), train_loader(), loader, limit_val_batches=2)
    full = [one for one in passes if len(one) == 2]
    assert len(full) >= 3
    assert full == [full[0]] * len(full)


def test_augmentation_by_any_library_is_the_same_in_every_trial(callback):
    class Noisy(Lit):
        def on_validation_epoch_start(self):
            drawn.append((random.random(), np.random.rand(), torch.rand(1).item()))

    drawn = []
    judged(callback(), Noisy())
    # of torch's there are two: a DataLoader draws one number first, batches in memory none
    assert [len(set(numbers)) for numbers in zip(*drawn, strict=True)] == [1, 1, 2]


def test_a_warning_of_the_validation_step_is_shown_once(callback):
    class Old(Lit):
        def validation_step(self, batch, batch_idx):
            warnings.warn("this is old", UserWarning, stacklevel=1)
            super().validation_step(batch, batch_idx)

    with pytest.warns(UserWarning, match="this is old") as caught:
        judged(callback(), Old())
    assert len([one for one in caught if str(one.message) == "this is old"]) == 1


def test_the_module_sees_trainer_logger_and_optimizers_as_in_a_fit(callback):
    class Curious(Lit):
        def on_validation_epoch_end(self):
            self.logger.experiment.log_metrics({"own": 1.0}, 0)
            rates.append(self.optimizers().param_groups[0]["lr"])
            self.lr_schedulers().step()
            seen.add((type(self.trainer.datamodule), self.trainer.max_epochs, self.global_step))

        def configure_optimizers(self):
            sgd = torch.optim.SGD(self.parameters(), lr=0.01)
            scheduler = torch.optim.lr_scheduler.StepLR(sgd, 1)
            return [sgd], [{"scheduler": scheduler, "interval": "step", "frequency": 100}]

    seen, rates = set(), []
    given = {"datamodule": Points(), "max_epochs": 1, "logger": CSVLogger("csv")}
    quantization = callback()
    fitted(quantization, Curious(), **given, log_every_n_steps=1)
    assert quantization.result.status == "met"
    assert {kind for kind, *_ in seen} == {Points}
    assert rates[0] == 0.01  # in the fit; its scheduler was stepped once, ours are copies
    assert len(set(rates[1:])) == 1
    head, *lines = Path("csv/lightning_logs/version_0/metrics.csv").read_text().splitlines()
    own = head.split(",").index("own")
    assert [line.split(",")[own] for line in lines if line.split(",")[own]] == ["1.0"]


def test_validation_data_without_a_length_is_read_to_its_end(callback):
    class Stream(IterableDataset):
        def __iter__(self):
            return iter(points(48, seed=1))

    result = judged(callback(), Lit(), train_loader(), DataLoader(Stream(), batch_size=16))
    assert (result.status, result.evaluations) == ("met", 2)


def test_batch_hooks_are_asked_of_the_model_that_is_judged(callback):
    class Augmenting(Lit):
        def on_after_batch_transfer(self, batch, dataloader_idx):
            modes.append(self.training)
            return batch

    modes = []
    assert judged(callback(), Augmenting()).status == "met"
    assert set(modes) == {False}


def test_epoch_end_hooks_that_gather_outputs_work(callback):
    class Gathering(Lit):
        def __init__(self):
            super().__init__()
            self.hits = []

        def validation_step(self, batch, batch_idx):
            self.hits.append((self.net(batch[0]).argmax(1) == batch[1]).float())

        def on_validation_epoch_end(self):
            self.log("val_acc", torch.cat(self.hits).mean())
            self.hits.clear()

    assert judged(callback(), Gathering(), max_epochs=1).status == "met"


def test_a_nested_lightning_module_logs_through_its_own_trainer(callback):
    class Inner(Lit):
        def forward(self, x):
            assert self.trainer is not None
            return self.net(x)

    class Outer(Lit):
        def __init__(self):
            super().__init__()
            self.net = Inner()

    result = judged(callback(), Outer())
    assert result.int8_ops == ("net.net.0", "net.net.2")
    assert result.model.net._trainer is None


def test_layers_of_the_lightning_module_itself_are_quantized(callback):
    class Flat(Lit):
        def __init__(self):
            super().__init__()
            first, _, last = self.net
            del self.net
            self.first, self.last = first, last

        def forward(self, x):
            return self.last(F.relu(self.first(x)))

        def training_step(self, batch, batch_idx):
            return F.cross_entropy(self(batch[0]), batch[1])

        def validation_step(self, batch, batch_idx):
            self.acc(self(batch[0]), batch[1])
            self.log("val_acc", self.acc)

        test_step = validation_step

    quantization, module = callback(), Flat()
    assert judged(quantization, module).int8_ops == ("first", "last")
    int8 = quantization.result.model
    assert trainer().test(int8, val_loader(), verbose=False) == [{"val_acc": 1.0}]


def test_layers_that_configure_model_builds_are_quantized(callback):
    assert judged(callback(), Late()).int8_ops == ("net.0", "net.2")


def test_a_module_that_sets_its_own_eval_mode_keeps_it(callback):
    class Own(Lit):
        def on_validation_model_eval(self):
            self.net.eval()

        def on_validation_model_train(self):
            self.net.train()

    module = Own()
    module.acc.train()
    assert judged(callback(), module, max_epochs=1).status == "met"


def test_example_input_array_and_strict_loading_are_no_trouble(callback):
    class Loose(Lit):
        def __init__(self):
            super().__init__()
            self.example_input_array = torch.zeros(1, 8)
            self.strict_loading = False

    assert judged(callback(), Loose()).status == "met"


def test_workers_that_persist_and_loaders_that_are_reloaded_work(callback):
    loader = val_loader(num_workers=1, persistent_workers=True)
    result = judged(
        callback(), Lit(), train_loader(), loader, reload_dataloaders_every_n_epochs=1, max_epochs=1
    )
    assert result.status == "met"


def test_a_trial_that_raises_fails_and_the_world_is_given_back(callback, workspace):
    class Fragile(Lit):
        def validation_step(self, batch, batch_idx):
            if is_int8(self) and batch_idx == 1:
                raise RuntimeError("int8 is not for me")
            super().validation_step(batch, batch_idx)

    quantization = callback()
    with pytest.raises(QuantizationError, match="RuntimeError: int8 is not for me"):
        fitted(quantization, Fragile())
    assert quantization.result is None
    assert files_in(workspace) == ["history.jsonl", "report.html"]


def test_a_trial_that_gives_nan_fails_and_is_not_chosen(callback):
    class Broken(Lit):
        def validation_step(self, batch, batch_idx):
            self.log("val_acc", torch.tensor(float("nan") if is_int8(self) else 1.0))
            self.net(batch[0])

    quantization = callback()
    with pytest.raises(QuantizationError, match="every trial failed: the accuracy is `nan`"):
        fitted(quantization, Broken())


def test_an_interrupted_trial_gives_the_world_back(callback):
    class Stopped(Lit):
        def validation_step(self, batch, batch_idx):
            if is_int8(self):
                raise KeyboardInterrupt
            super().validation_step(batch, batch_idx)

    quantization = callback()
    with pytest.raises(SystemExit):
        fitted(quantization, Stopped())
    assert quantization.watched == 1


def test_validation_data_that_can_be_read_once_is_refused(callback):
    batches = iter(list(val_loader()))
    with pytest.raises(
        DataError, match="gave no batch this time: it is empty, or it can be read only once"
    ):
        fitted(callback(), Lit(), train_loader(), batches)


def test_the_users_metrics_are_neither_reset_nor_used(callback):
    module = Lit()
    module.acc.update(torch.eye(KINDS), torch.arange(KINDS))
    before = weights_of(module.acc), module.acc.tp.clone()
    fitted(callback(), module)
    assert same(before[0], weights_of(module.acc))
    assert torch.equal(before[1], module.acc.tp)


class LowMetric(MulticlassAccuracy):
    """A mean of losses, as a torchmetrics object that says that lower is better."""

    higher_is_better = False

    def __init__(self):
        super().__init__(KINDS)
        self.add_state("losses", [], dist_reduce_fx="cat")

    def update(self, loss):
        self.losses.append(loss)

    def compute(self):
        return torch.stack(self.losses).mean()


def test_a_module_that_is_called_as_a_whole_stays_a_lightning_module(callback):
    class Whole(Lit):
        def __init__(self) -> None:
            super().__init__()
            del self.acc

        def validation_step(self, batch, batch_idx):
            self.log("val_acc", (self(batch[0]).argmax(1) == batch[1]).float().mean())

    result = judged(callback(), Whole())
    assert isinstance(result.model, Whole)
    assert result.int8_ops == ("net.0", "net.2")


@pytest.mark.filterwarnings("ignore:Found keys that are in the model state dict")
def test_a_state_dict_that_leaves_a_frozen_part_out_loses_nothing(callback, workspace):
    class Frozen(Lit):
        strict_loading = False

        def state_dict(self, *args, **kwargs):
            whole = super().state_dict(*args, **kwargs)
            return {name: value for name, value in whole.items() if not name.startswith("net.0")}

    result = judged(callback(), Frozen())
    restored = load_from_checkpoint(Frozen, workspace / "best_quantized.ckpt")
    x = points(8).tensors[0]
    assert torch.equal(restored(x), result.model(x))


def test_a_contradicted_direction_is_told_before_any_training(callback):
    class Trained(Lit):
        steps = 0

        def training_step(self, batch, batch_idx):
            Trained.steps += 1
            return super().training_step(batch, batch_idx)

    watching = ModelCheckpoint(monitor="val_acc", mode="min")
    given = {"max_epochs": 1, "num_sanity_val_steps": 1, "enable_checkpointing": True}
    with pytest.raises(ConfError, match="whether a higher `val_acc` is better is contradicted"):
        trainer(callback(), watching, **given).fit(Trained(), datamodule=Points())
    assert Trained.steps == 0


def test_a_wrong_monitor_is_told_at_the_first_validation(callback):
    one = trainer(callback(monitor="val_ac"), max_epochs=5)
    with pytest.raises(EvaluationError, match=r"Did you mean `val_acc`\?"):
        one.fit(Lit(), datamodule=Points())
    assert one.current_epoch == 0


def test_single_ops_are_tried_on_a_few_samples_only():
    big = {"x": torch.zeros(256, 3), "y": torch.zeros(256)}
    assert len(few_samples(big)["x"]) == len(few_samples(big)["y"]) == 32
    odd = {"x": torch.zeros(256, 3), "edges": torch.zeros(2, 900)}
    assert few_samples(odd) is odd
    assert few_samples([torch.zeros(256), "text"])[0].shape == (256,)


class Rich(nn.Module):
    """A net with more to it than its ``forward``."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = 1.0
        self.body = small_net()
        self.body.load_state_dict(Lit().net.state_dict())

    def forward(self, x):
        return self.body(x)

    def soften(self, logits):
        return logits / 2


class Reaching(Lit):
    """Reads an attribute of its net, and calls a method that is not ``forward``."""

    def __init__(self) -> None:
        super().__init__()
        self.net = Rich()
        self.outputs: list[int] = []

    def validation_step(self, batch, batch_idx):
        self.outputs.append(len(batch[1]))
        logits = self.net.soften(self.net(batch[0])) * self.net.scale
        self.log("val_acc", (logits.argmax(1) == batch[1]).float().mean())

    def on_validation_epoch_end(self):
        assert sum(self.outputs) in (16, 48, 112)
        self.outputs.clear()


def test_a_net_of_which_more_is_used_than_its_forward_stays_what_it_is(callback):
    result = judged(callback(), Reaching())
    assert result.int8_ops == ("net.body.0", "net.body.2")
    assert is_int8(result.model.net)
    assert type(result.model.net) is Rich
    assert result.status == "met"


def test_such_a_net_is_restored_the_same(callback, workspace):
    result = judged(callback(), Reaching())
    restored = load_from_checkpoint(Reaching, workspace / "best_quantized.ckpt")
    x = points(8).tensors[0]
    assert torch.equal(restored.net(x), result.model.net(x))


class Later(Lit):
    """Logs a second metric from the second epoch on."""

    def validation_step(self, batch, batch_idx):
        super().validation_step(batch, batch_idx)
        if self.current_epoch > 0:
            self.log("map", 0.5)


@pytest.mark.parametrize("sanity", [0, 2])
def test_a_metric_that_the_first_validation_does_not_log_ends_the_fit(callback, sanity):
    one = trainer(callback(monitor="map"), max_epochs=3, num_sanity_val_steps=sanity)
    with pytest.raises(EvaluationError, match="`map`, which the validation loop does not log"):
        one.fit(Later(), datamodule=Points())
    assert one.current_epoch == 0


def test_what_a_sanity_check_does_not_log_yet_is_waited_for(callback):
    class Shy(Lit):
        def validation_step(self, batch, batch_idx):
            self.log("val_loss", 0.5)
            if not self.trainer.sanity_checking:
                super().validation_step(batch, batch_idx)

    quantization = callback(monitor="val_acc")
    trainer(quantization, max_epochs=1, num_sanity_val_steps=2).fit(Shy(), datamodule=Points())
    assert quantization.result.monitor == "val_acc"


def test_several_metrics_are_told_in_the_sanity_check(callback):
    one = trainer(callback(), max_epochs=3, num_sanity_val_steps=2)
    with pytest.raises(EvaluationError, match="say which one is the accuracy"):
        one.fit(LossLit(), datamodule=Points())
    assert one.global_step == 0


def test_the_metric_of_the_first_validation_stays(callback):
    """Later ones may log more."""
    quantization = callback()
    trainer(quantization, max_epochs=2).fit(Later(), datamodule=Points())
    assert quantization.result.monitor == "val_acc"


def test_a_loss_that_alone_is_logged_in_a_sanity_check_is_no_fault(callback, tmp_path):
    class Shy(Lit):
        def validation_step(self, batch, batch_idx):
            self.log("val_loss", torch.tensor(0.5))
            if not self.trainer.sanity_checking:
                super().validation_step(batch, batch_idx)

    saver = ModelCheckpoint(tmp_path / "kept", monitor="val_acc", mode="max")
    quantization = callback()
    given = {"max_epochs": 1, "num_sanity_val_steps": 2, "enable_checkpointing": True}
    trainer(saver, quantization, **given).fit(Shy(), datamodule=Points())
    assert quantization.result.monitor == "val_acc"


def test_loaders_that_are_exchanged_while_it_trains_judge_its_end(workspace):
    class Grows(Lit):
        rows = 16

        def train_dataloader(self):
            return train_loader()

        def val_dataloader(self):
            return val_loader(self.rows)

        def on_train_epoch_end(self):
            self.rows = 48

    from sparse_scenes import pruning

    callback, module = pruning(workspace, monitor="val_acc"), counting(Grows)()
    one = trainer(callback, max_epochs=3, reload_dataloaders_every_n_epochs=1)
    one.fit(module)
    assert sum(module.seen[:1]) == 16
    assert sum(module.seen[-3:]) == 48
