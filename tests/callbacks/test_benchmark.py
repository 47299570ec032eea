"""`BenchmarkCallback`: fp32 when a fit is over, and int8 against it."""

from __future__ import annotations

import threading

import lightning.pytorch as pl
import pytest
import torch
from lit_scenes import Lit, conf, fitted, train_loader, trainer, val_loader
from users_world import watched

from lpot_lightning import BenchmarkCallback, ConfError, QuantizationCallback
from lpot_lightning.errors import EvaluationError, QuantizationError
from lpot_lightning.timing.in_turns import threads


def timed(**performance):
    asked = {"warmup": 1, "iteration": 4, **performance}
    return {**conf(), "evaluation": {"performance": asked}}


def quantization(workspace, **given):
    return QuantizationCallback(conf(workspace), **given)


def test_fp32_alone():
    callback = BenchmarkCallback(timed())
    assert callback.result is None
    fitted(callback)
    result = callback.result
    assert (result.label, result.speed.iterations, result.warmup) == ("model", 3, 1)
    assert (result.speed.batch_size, result.fp32, result.speedup) == (16, None, None)
    assert result.latency.p50 > 0


def test_int8_of_the_callback_before_against_fp32(workspace):
    callback, before = BenchmarkCallback(timed()), quantization(workspace)
    fitted(callback, others=(before,))
    result = callback.result
    assert (result.label, result.name) == ("int8", "net")
    assert result.speed.iterations == result.fp32.iterations == 3
    low, high = result.speedup_spread
    assert low <= result.speedup <= high
    assert trainer().test(before.result.model, val_loader(), verbose=False) == [{"val_acc": 1.0}]


def test_what_is_timed_is_one_batch_by_the_users_step_in_eval_mode(monkeypatch):
    seen = []
    step = Lit.validation_step

    def noting(self, batch, batch_idx):
        seen.append((len(batch[0]), batch_idx, self.training, torch.is_grad_enabled()))
        step(self, batch, batch_idx)

    monkeypatch.setattr(Lit, "validation_step", noting)
    fitted(BenchmarkCallback(timed()), Lit(), train_loader(), val_loader(batch_size=20))
    assert seen == [(20, 0, False, False)] * 4


def test_without_a_number_of_iterations_there_are_twenty():
    callback = BenchmarkCallback(timed(iteration=-1))
    fitted(callback)
    assert callback.result.speed.iterations == 20


def test_a_fast_dev_run_takes_one_step():
    callback = BenchmarkCallback(timed())
    fitted(callback, fast_dev_run=1)
    assert (callback.result.speed.iterations, callback.result.warmup) == (1, 0)


def test_threads_that_are_asked_for_and_as_before():
    before = torch.get_num_threads()
    callback = BenchmarkCallback(timed(configs={"intra_num_of_threads": 1}))
    fitted(callback)
    assert (callback.result.threads, torch.get_num_threads()) == (1, before)


def test_the_users_world_is_as_before_where_it_fails():
    class Broken(Lit):
        def validation_step(self, batch, batch_idx):
            raise RuntimeError("no labels")

    callback = watched(BenchmarkCallback(timed()))
    with pytest.raises(EvaluationError, match="the validation loop fails: RuntimeError: no labels"):
        trainer(callback).fit(Broken(), train_loader(), val_loader())
    assert (callback.watched, callback.result) == (1, None)


def test_the_table_is_printed(capsys):
    callback = BenchmarkCallback(timed())
    fitted(callback)
    assert callback.result.table() in capsys.readouterr().out


def test_what_quantizes_has_to_stand_before(workspace):
    callback = BenchmarkCallback(timed())
    with pytest.raises(ConfError) as caught:
        trainer(callback, quantization(workspace)).fit(Lit(), train_loader(), val_loader())
    assert str(caught.value) == (
        "`QuantizationCallback` stands after `BenchmarkCallback`, which would find no int8 model:"
        " `callbacks=[QuantizationCallback(…), BenchmarkCallback(…)]`"
    )


def test_processes_of_its_own_are_refused():
    with pytest.raises(ConfError) as caught:
        BenchmarkCallback(timed(configs={"num_of_instance": 2}))
    assert str(caught.value) == (
        "<mapping>: `evaluation.performance.configs` asks for processes of their own, which cannot"
        " be started inside of a fit: allowed for `BenchmarkCallback`: `intra_num_of_threads`; use"
        " `Benchmark` for the rest"
    )


def test_another_conf_is_refused():
    with pytest.raises(ConfError, match="conf is a `int`; allowed: a path, a mapping"):
        BenchmarkCallback(3)
    with pytest.raises(
        ConfError, match="`evaluation.performance.warmup` is `two`; allowed: a whole"
    ):
        BenchmarkCallback(timed(warmup="two"))


def test_data_in_the_yaml_is_said_to_be_the_trainers():
    data = {"dataset": {"dummy": {"shape": [4, 8]}}}
    with pytest.warns(
        UserWarning, match="`evaluation.performance.dataloader` is replaced by the v"
    ):
        BenchmarkCallback(timed(dataloader=data))


def test_trainers_that_cannot_be_used():
    with pytest.raises(EvaluationError, match="there is no validation data: pass `val_dataloaders"):
        trainer(BenchmarkCallback(timed()), limit_val_batches=0).fit(Lit(), train_loader())


def test_a_module_without_a_validation_step():
    class Blind(pl.LightningModule):
        training_step, configure_optimizers = Lit.training_step, Lit.configure_optimizers

    callback = BenchmarkCallback(timed())
    with pytest.raises(EvaluationError, match="`Blind` has no `validation_step`"):
        callback.setup(trainer(callback), Blind(), "fit")


def test_a_second_fit_has_no_result_of_the_first():
    callback = BenchmarkCallback(timed())
    fitted(callback)
    with pytest.raises(EvaluationError):
        trainer(callback, limit_val_batches=0).fit(Lit(), train_loader())
    assert callback.result is None


@pytest.mark.skipif(not torch.distributed.is_available(), reason="several processes are needed")
def test_the_result_comes_back_from_processes_of_the_fits_own(workspace):
    callback = BenchmarkCallback(timed())
    with threads(1):  # a forked process has none of those that torch would wait for
        one = trainer(quantization(workspace), callback, strategy="ddp_fork", devices=2)
        one.fit(Lit(), train_loader(), val_loader())
    result = callback.result
    assert (result.label, result.speed.iterations, result.fp32.iterations) == ("int8", 3, 3)


def test_a_module_that_cannot_be_copied_is_told_before_the_training():
    module, one = Lit(), trainer(BenchmarkCallback(timed()), max_epochs=1)
    module.lock = threading.Lock()
    with pytest.raises(QuantizationError, match="`Lit` cannot be copied, and what is made of it"):
        one.fit(module, train_loader(), val_loader())
    assert one.global_step == 0
