"""The validation loop is borrowed, and given back."""

import random
import warnings

import lightning.pytorch as pl
import numpy as np
import pytest
import torch
from lightning.pytorch.loggers import CSVLogger
from lightning.pytorch.trainer.states import RunningStage, TrainerFn
from lightning.pytorch.utilities import CombinedLoader
from lit_scenes import Lit, trainer, val_loader
from users_world import kept

from lpot_lightning.errors import EvaluationError
from lpot_lightning.machine.ranks import Ranks
from lpot_lightning.module.copying import second_model
from lpot_lightning.trainer.borrowed_loop import (
    BorrowedLoop,
    HeldBatches,
    Warned,
    directions_in,
    quiet,
    run,
)


def at_work(fn=TrainerFn.FITTING, **given):
    """Return a trainer that is at the end of a fit, with its module."""
    one, module = trainer(**given), Lit()
    one.strategy.connect(module)
    module.trainer = one
    one.state.fn, one.state.stage = fn, RunningStage.TRAINING
    return one, module


def validated(one, module, *callbacks, loader=None):
    copied = second_model(module)
    loader = CombinedLoader(val_loader(), "sequential") if loader is None else loader
    loop = BorrowedLoop(one, loader, [3])
    with quiet(one, copied, callbacks, seed=1, ranks=Ranks()):
        return run(one, loop), loop


@pytest.mark.parametrize("fn", [TrainerFn.FITTING, TrainerFn.VALIDATING])
def test_a_validation_gives_what_was_logged_and_the_world_back(fn):
    one, module = at_work(fn)
    with kept(one, module):
        logged, loop = validated(one, module)
    assert logged == {"val_acc": 1.0}
    assert loop.batches_seen == 3
    assert directions_in(loop) == {"val_acc": True}


def test_callbacks_loggers_strategy_and_profiler_are_others_meanwhile():
    class Looking(pl.Callback):
        def on_validation_batch_end(self, trainer, module, *_):
            seen.append((trainer, list(trainer.callbacks), list(trainer.loggers)))
            assert trainer.strategy.root_device.type == "cpu"
            assert trainer.lightning_module is module is not user
            assert trainer.state.stage is RunningStage.VALIDATING

    seen, looking = [], Looking()
    one, user = at_work(logger=CSVLogger("csv"))
    with kept(one, user):
        validated(one, user, looking)
    assert seen[0][1] == [looking]
    assert seen[0][2] != one.loggers
    assert one.loggers[0].root_dir


def test_an_error_in_the_middle_gives_everything_back():
    class Raising(pl.Callback):
        def on_validation_batch_end(self, trainer, *_):
            torch.rand(1), random.random(), np.random.rand()
            raise RuntimeError("in the middle")

    one, module = at_work()
    loader = CombinedLoader(val_loader(num_workers=1, persistent_workers=True), "sequential")
    with kept(one, module), pytest.raises(RuntimeError, match="in the middle"):
        validated(one, module, Raising(), loader=loader)
    assert loader.limits is None
    assert loader.flattened[0]._iterator is None
    with kept(one, module):
        assert validated(one, module)[0] == {"val_acc": 1.0}


def test_metrics_of_the_user_are_there_again():
    one, module = at_work()
    one._logger_connector._callback_metrics["val_acc"] = torch.tensor(0.5)
    validated(one, module)
    assert one.callback_metrics == {"val_acc": torch.tensor(0.5)}


def test_the_copy_is_left_without_a_trainer():
    one, module = at_work()
    copied = second_model(module)
    with quiet(one, copied, [], seed=1, ranks=Ranks()):
        assert copied.trainer is one
    assert copied._trainer is None
    assert module.trainer is one


def test_the_copy_stays_in_eval_mode_whatever_its_hooks_do():
    class Training(Lit):
        def on_validation_model_train(self):
            self.train()

    one, _ = at_work()
    copied = second_model(Training())
    loop = BorrowedLoop(one, CombinedLoader(val_loader(), "sequential"), [3])
    with quiet(one, copied, [], seed=1, ranks=Ranks()):
        run(one, loop)
    assert not any(part.training for part in copied.modules())


def test_an_optimizer_that_cannot_be_copied_is_shown_itself():
    class Wrapper(torch.optim.SGD):
        def __copy__(self):
            raise TypeError

    one, module = at_work()
    one.strategy.optimizers = [Wrapper(module.parameters(), lr=0.5)]
    copied = second_model(module)
    with quiet(one, copied, [], seed=1, ranks=Ranks()):
        assert one.optimizers == [one.strategy.optimizers[0]]
        assert copied.optimizers().param_groups[0]["lr"] == 0.5


def test_optimizers_can_be_read_and_changing_them_changes_copies():
    one, module = at_work()
    sgd = torch.optim.SGD(module.parameters(), lr=0.5)
    one.strategy.optimizers = [sgd]
    copied = second_model(module)
    with quiet(one, copied, [], seed=1, ranks=Ranks()):
        copied.optimizers().param_groups[0]["lr"] = 0.1
    assert sgd.param_groups[0]["lr"] == 0.5


def complain(warned, error=None):
    with warned.once():
        warnings.warn("look out", UserWarning, stacklevel=1)
        if error is not None:
            raise error


def test_a_warning_is_shown_once():
    def three_times(warned):
        for _ in range(3):
            complain(warned)

    with pytest.warns(UserWarning, match="look out") as caught:
        three_times(Warned())
    assert len(caught) == 1


def test_a_warning_is_shown_before_an_error():
    with pytest.warns(UserWarning, match="look out"):  # noqa: SIM117
        with pytest.raises(RuntimeError, match="stop"):
            complain(Warned(), RuntimeError("stop"))


def test_held_batches_are_a_loader_of_batches_and_no_collection():
    user = val_loader()
    held = HeldBatches([[1, 2], [3, 4]], user)
    assert CombinedLoader([held], "sequential").flattened == [held]
    assert list(held) == [[1, 2], [3, 4]]
    assert len(held) == 2
    assert held.dataset is user.dataset
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        held.nothing  # noqa: B018


def test_the_end_of_an_iterator_in_a_step_is_not_the_end_of_the_data():
    class Nothing(Lit):
        def validation_step(self, batch, batch_idx):
            next(iter([]))

    one, _ = at_work()
    module = Nothing()
    with kept(one, module), pytest.raises(EvaluationError, match="raises StopIteration"):
        validated(one, module)


@pytest.mark.filterwarnings("ignore:Found `dataloader_iter`")
def test_a_step_that_reads_its_loader_itself_may_come_to_the_end():
    class Reader(Lit):
        def validation_step(self, dataloader_iter):
            batch, number, _ = next(dataloader_iter)
            super().validation_step(batch, number)

    one, _ = at_work()
    module = Reader()
    with kept(one, module):
        assert validated(one, module)[0] == {"val_acc": 1.0}
