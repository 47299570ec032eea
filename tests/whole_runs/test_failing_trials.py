"""A trial that fails is one of many; a baseline that fails is the end."""

import gc
import json
import math
import weakref

import pytest
import torch
from lit_scenes import Lit, conf, fitted, train_loader, trainer, val_loader
from users_world import kept

from lpot_lightning import quantize
from lpot_lightning.errors import EvaluationError

FAILURES = {
    "it raises": (RuntimeError("no kernel"), "RuntimeError: no kernel"),
    "a key is missing": (KeyError("batch"), "KeyError: 'batch'"),
    "the device is full": (torch.OutOfMemoryError("8 GiB"), "OutOfMemoryError: 8 GiB"),
    "the memory is full": (MemoryError("8 GiB"), "MemoryError: 8 GiB"),
    "no number": (math.nan, "the accuracy is `nan`"),
    "infinite": (math.inf, "the accuracy is `inf`"),
    "infinitely bad": (-math.inf, "the accuracy is `-inf`"),
}


def failing(failure, nets):
    """Return a module that fails in its second and third trial; ``nets`` get those of all."""

    class Failing(Lit):
        def validation_step(self, batch, batch_idx):
            self.net(batch[0])
            value = 1.0
            if any("quantized" in str(type(one)) for one in self.modules()):
                if batch_idx == 0:
                    nets.append(weakref.ref(self.net))
                if batch_idx == 1 and len(nets) in (2, 3):
                    if isinstance(failure, Exception):
                        raise failure
                    value = failure
            self.log("val_acc", torch.tensor(value))

    return Failing()


def tuned(workspace, module, trials):
    """Try ``trials`` recipes, none of which is good enough."""
    tuning = {
        "strategy": {"name": "basic"},
        "accuracy_criterion": {"absolute": -1.0},
        "exit_policy": {"max_trials": trials},
    }
    asked, one = conf(workspace, tuning=tuning), trainer()
    with kept(one, module):
        return quantize(one, module, train_loader(), val_loader(), conf=asked)


@pytest.mark.parametrize("name", FAILURES)
def test_a_failed_trial_is_kept_with_its_reason_and_the_next_one_runs(workspace, name):
    failure, reason = FAILURES[name]
    result = tuned(workspace, failing(failure, []), 4)
    assert [trial.score.failure for trial in result.trials] == [None, reason, reason, None]
    lines = map(json.loads, (workspace / "history.jsonl").read_text().splitlines())
    kept_there = [one["score"]["failure"] for one in lines if one["kind"] == "trial"]
    assert kept_there == [None, reason, reason, None]
    assert result.accuracy == 1.0


def test_a_failed_trial_is_not_repeated(workspace):
    tuned(workspace, failing(RuntimeError("no kernel"), []), 3)
    nets = []
    result = tuned(workspace, failing(None, nets), 4)
    assert [trial.replayed for trial in result.trials] == [True, True, True, False]
    assert [trial.score.failed for trial in result.trials] == [False, True, True, False]


@pytest.mark.parametrize("failure", [RuntimeError("no kernel"), math.nan])
def test_the_model_of_a_failed_trial_is_not_kept(workspace, failure):
    nets = []
    result = tuned(workspace, failing(failure, nets), 4)
    del failure
    gc.collect()
    alive = [net for net in nets if net() is not None and net() is not result.model.net]
    assert len(alive) <= 1  # the last conversion
    assert result.status == "budget_exhausted"


def refused(callback, module) -> EvaluationError:
    with pytest.raises(EvaluationError) as told:
        fitted(callback(), module)
    return told.value


@pytest.mark.parametrize("fault", [RuntimeError("mine"), torch.OutOfMemoryError("8 GiB")])
def test_a_baseline_that_fails_on_a_batch_names_it_and_the_cause(callback, fault):
    class Faulty(Lit):
        def validation_step(self, batch, batch_idx):
            if batch_idx == 2:
                raise fault
            super().validation_step(batch, batch_idx)

    error = refused(callback, Faulty())
    said = "the validation of the fp32 model fails on batch 3 of the pass"
    assert str(error).startswith(f"{said} ({type(fault).__name__}: {fault}); it has to work")
    assert error.__cause__ is fault


def test_a_baseline_that_fails_behind_its_batches_says_so(callback):
    class Gathering(Lit):
        def on_validation_epoch_start(self):
            self.gathered = []

        def validation_step(self, batch, batch_idx):
            self.gathered.append(batch_idx)
            super().validation_step(batch, batch_idx)

        def on_validation_epoch_end(self):
            if len(self.gathered) > 2:
                raise KeyError("mean")

    assert "fails after 3 batches (KeyError: 'mean')" in str(refused(callback, Gathering()))


def test_a_baseline_that_fails_in_a_dataset_says_so(callback):
    class Torn(torch.utils.data.Dataset):
        def __len__(self):
            return 48

        def __getitem__(self, number):
            if number == 40:
                raise OSError("image 40 is torn")
            return val_loader().dataset[number]

    broken = torch.utils.data.DataLoader(Torn(), batch_size=16)
    with pytest.raises(EvaluationError, match=r"fails after 2 batches \(OSError: image 40 is torn"):
        fitted(callback(), Lit(), train_loader(), broken)
