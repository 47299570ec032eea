"""Which batches the observers see."""

import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch.utilities import CombinedLoader
from lit_scenes import (
    Lit,
    Points,
    conf,
    files_in,
    fitted,
    points,
    sampling,
    train_loader,
    trainer,
    val_loader,
)
from torch.utils.data import DataLoader, IterableDataset, RandomSampler, SubsetRandomSampler

from lpot_lightning import quantize
from lpot_lightning.errors import DataError
from lpot_lightning.machine.ranks import Ranks
from lpot_lightning.trainer.calibration import collect_train

X, Y = points(120).tensors


class Stream(IterableDataset):
    def __iter__(self):
        return zip(X, Y, strict=True)


class Keyed(Lit):
    """Takes dicts, from one loader or from several."""

    def training_step(self, batch, batch_idx):
        return super().training_step(batch["a"], batch_idx)

    def validation_step(self, batch, batch_idx):
        super().validation_step(batch["a"] if isinstance(batch, dict) else batch, batch_idx)


def collected(loader, size=40, **given):
    return collect_train(trainer(**given), loader, size, Ranks())


def said(caught):
    """Return how often the validation data was said to take the place of the training data."""
    return sum("calibrating on" in str(warning.message) for warning in caught)


def rows(data):
    return torch.cat([batch[0] for batch in data.batches[0]])


@pytest.mark.parametrize(
    "loader",
    [
        train_loader(),
        train_loader(generator=torch.Generator()),
        train_loader(shuffle=False, sampler=SubsetRandomSampler(range(120))),
        train_loader(shuffle=False, sampler=RandomSampler(range(120), replacement=True)),
        CombinedLoader(train_loader(), "max_size"),
        DataLoader(Stream(), batch_size=16),
    ],
)
def test_the_order_is_that_of_the_dataset(loader):
    data = collected(loader)
    assert torch.equal(rows(data), X[:48])
    assert data.samples == 48


def test_a_loader_that_cannot_be_made_again_stays_as_it_is():
    class Own(DataLoader):
        def __init__(self, secret):
            super().__init__(points(120), batch_size=16, shuffle=True)

    assert collected(Own(1)).samples == 48


def test_the_generator_of_a_loader_is_given_back():
    generator = torch.Generator().manual_seed(7)
    before = generator.get_state()
    collected(train_loader(generator=generator))
    assert torch.equal(generator.get_state(), before)


def test_workers_are_ended():
    loader = train_loader(shuffle=False, num_workers=1, persistent_workers=True)
    assert collected(loader).samples == 48
    assert loader._iterator is None


def test_several_loaders_give_their_combined_batches():
    data = collected({"a": train_loader(), "b": train_loader(32)}, size=32)
    assert [sorted(batch) for batch in data.batches[0]] == [["a", "b"]] * len(data.batches[0])


def test_limit_train_batches_is_not_obeyed(callback):
    quantization = callback(quantization=sampling(100))
    fitted(quantization, limit_train_batches=1)
    text = (quantization.result.workspace / "best_configure.yaml").read_text()
    assert "samples: 112" in text


def test_a_fast_dev_run_takes_its_few_batches():
    assert collected(train_loader(), fast_dev_run=2).samples == 32


@pytest.mark.parametrize("owner", ["datamodule", "module"])
def test_a_calib_dataloader_of_datamodule_or_module_comes_first(callback, owner):
    class Hooked:
        def calib_dataloader(self):
            asked.append(type(self).__name__)
            return DataLoader(points(120, seed=5), batch_size=60)

    class HookedLit(Hooked, Lit):
        pass

    class HookedPoints(Hooked, Points):
        pass

    asked = []
    data = HookedPoints() if owner == "datamodule" else Points()
    fitted(callback(), HookedLit(), datamodule=data)
    assert asked == ["HookedLit" if owner == "module" else "HookedPoints"]


def test_validation_data_is_taken_in_equal_shares(callback):
    class Two(Lit):
        def validation_step(self, batch, batch_idx, dataloader_idx=0):
            self.log("hits", (self.net(batch[0]).argmax(1) == batch[1]).float().mean())

    quantization = callback(calib="val", monitor="hits/dataloader_idx_0", quantization=sampling(64))
    fitted(quantization, Two(), train_loader(), [val_loader(), val_loader()])
    text = (quantization.result.workspace / "best_configure.yaml").read_text()
    assert "samples: 64" in text


def test_without_training_data_the_validation_data_is_taken_and_said(workspace):
    with pytest.warns(UserWarning, match="no training data that can be read") as caught:
        result = quantize(
            trainer(),
            Lit(),
            val_dataloaders=val_loader(),
            conf=conf(workspace, quantization=sampling(48)),
        )
    assert said(caught) == 1
    assert result.status == "met"


def test_a_generator_that_the_training_has_read_gives_way_to_the_validation_data(callback):
    quantization = callback(quantization=sampling(48))
    batches = iter(list(train_loader()))
    with pytest.warns(UserWarning, match="no training data that can be read") as caught:
        fitted(quantization, Lit(lr=0.01), batches, val_loader(), max_epochs=1)
    assert said(caught) == 1
    assert quantization.result.status == "met"


def test_training_batches_of_another_kind_give_way_with_one_warning(callback):
    quantization = callback(quantization=sampling(48))
    loaders = [{"a": train_loader()}, val_loader()]

    class Picky(Keyed):
        def validation_step(self, batch, batch_idx):
            Lit.validation_step(self, batch, batch_idx)

    with pytest.warns(UserWarning, match=r"`validation_step` cannot .*KeyError: 0") as caught:
        fitted(quantization, Picky(), *loaders)
    assert said(caught) == 1
    assert quantization.result.status == "met"


def test_a_dict_of_training_loaders_calibrates_where_validation_takes_it(callback):
    quantization = callback()
    fitted(quantization, Keyed(), {"a": train_loader(), "b": train_loader(32)}, val_loader())
    assert quantization.result.status == "met"


def test_fewer_samples_than_asked_for_are_said_with_both_numbers(callback):
    quantization = callback(quantization=sampling(500))
    with pytest.warns(
        UserWarning, match="has 120 samples, .* asks for 500: all are used"
    ) as caught:
        fitted(quantization)
    assert len([w for w in caught if "samples" in str(w.message)]) == 1


def test_nothing_is_said_of_a_number_that_nobody_asked_for(callback):
    quantization = callback(quantization={})
    fitted(quantization, Lit(), train_loader(48), val_loader())  # the default is 100
    assert quantization.result.status == "met"


def test_a_stream_is_calibrated_on_what_comes_first(callback):
    quantization = callback()
    fitted(quantization, Lit(), DataLoader(Stream(), batch_size=16), val_loader())
    assert quantization.result.status == "met"


def test_an_empty_calib_dataloader_is_refused(callback, workspace):
    class Empty(Points):
        def calib_dataloader(self):
            return []

    quantization = callback()
    with pytest.raises(DataError, match=r"`Empty.calib_dataloader\(\)` has no batch to calibrate"):
        fitted(quantization, datamodule=Empty())
    assert quantization.result is None
    assert files_in(workspace) == []


@pytest.mark.parametrize("kind", [iter, DataLoader])
def test_data_that_fails_while_it_is_read_is_named(kind):
    def broken():
        yield X[:16], Y[:16]
        raise OSError("disk gone")

    data = broken() if kind is iter else DataLoader(Generated(broken), batch_size=None)
    with pytest.raises(DataError, match="training data cannot be read after 1 batches .*disk gone"):
        collected(data)


class Generated(IterableDataset):
    def __init__(self, make):
        self.make = make

    def __iter__(self):
        return self.make()


def test_batches_without_tensors_count_as_one_sample_each():
    loader = DataLoader(range(5), batch_size=1, collate_fn=lambda rows: object())
    assert collected(loader, size=2).samples == 2


def test_calibration_is_the_same_whatever_happened_to_the_random_numbers(callback, workspace):
    fitted(callback())
    first = (workspace / "best_model_weights.pt").read_bytes()
    (workspace / "history.jsonl").unlink()
    torch.manual_seed(123)
    pl.seed_everything(5, verbose=False)
    fitted(callback())
    assert (workspace / "best_model_weights.pt").read_bytes() == first
