"""Every kind of validation and training data: quantized, or refused by name."""

import pytest
from lightning.pytorch.utilities import CombinedLoader
from lit_scenes import Lit, Points, points, sampling, train_loader, trainer, val_loader
from torch.utils.data import (
    BatchSampler,
    ConcatDataset,
    DataLoader,
    IterableDataset,
    SequentialSampler,
    Subset,
    SubsetRandomSampler,
    WeightedRandomSampler,
)
from users_world import watched

from tests.whole_runs.test_trainer_zoo import quantized


class Stream(IterableDataset):
    """Points without a length."""

    def __iter__(self):
        return iter(points(48, seed=1))


class Plain:
    """A loader that is no DataLoader."""

    def __iter__(self):
        return iter(val_loader())


def batched(count=48):
    sampler = BatchSampler(SequentialSampler(points(count)), batch_size=16, drop_last=False)
    return DataLoader(points(count), batch_sampler=sampler)


def unbatched(count=48):
    """A dataset whose samples are batches already."""
    sampler = BatchSampler(SequentialSampler(points(count)), batch_size=16, drop_last=True)
    return DataLoader(points(count), sampler=sampler, batch_size=None)


LOADERS = {
    "a batch sampler": batched,
    "a class of one's own": Plain,
    "a last batch that is dropped": lambda: train_loader(50, drop_last=True),
    "a stream": lambda: DataLoader(Stream(), batch_size=16),
    "a subset": lambda: DataLoader(Subset(points(96), range(0, 96, 2)), batch_size=16),
    "a weighted sampler": lambda: DataLoader(
        points(48), batch_size=16, sampler=WeightedRandomSampler([1.0] * 48, 48)
    ),
    "a random part": lambda: DataLoader(
        points(96), batch_size=16, sampler=SubsetRandomSampler(range(48))
    ),
    "batches as samples": unbatched,
    "persistent workers": lambda: val_loader(num_workers=1, persistent_workers=True),
    "shuffled": lambda: val_loader(shuffle=True),
    "single samples": lambda: val_loader(36, batch_size=1),
    "several in one": lambda: DataLoader(ConcatDataset([points(20), points(28)]), batch_size=16),
    "workers": lambda: val_loader(num_workers=1),
}


def either_side():
    """Yield each loader on both sides; one of them, in turn, is for `make soak`."""
    for number, (name, loader) in enumerate(LOADERS.items()):
        for side in ("train", "val"):
            marks = [pytest.mark.soak] if (side == "val") == number % 2 else []
            yield pytest.param(loader, side, id=f"{side}-{name}", marks=marks)


@pytest.mark.parametrize(("loader", "side"), list(either_side()))
def test_loaders(callback, loader, side):
    data = (loader(), val_loader()) if side == "train" else (train_loader(), loader())
    quantized(callback(quantization=sampling(32)), Lit(lr=0.01), *data)


class Indexed(Lit):
    def validation_step(self, batch, batch_idx, dataloader_idx=0):
        hits = (self.net(batch[0]).argmax(1) == batch[1]).float().mean()
        self.log("hits", hits, add_dataloader_idx=dataloader_idx > 0)

    test_step = validation_step


class Both(Lit):
    """Takes batches of several loaders at once."""

    def _parts(self, batch):
        return list(batch.values()) if isinstance(batch, dict) else list(batch)

    def training_step(self, batch, batch_idx):
        parts = [one for one in self._parts(batch) if one is not None]
        return sum(super(Both, self).training_step(one, batch_idx) for one in parts)

    def validation_step(self, batch, batch_idx, dataloader_idx=0):
        first = next(one for one in self._parts(batch) if one is not None)
        super().validation_step(first, batch_idx)

    def test_step(self, batch, batch_idx):
        super().validation_step(batch, batch_idx)


@pytest.mark.filterwarnings("ignore:Trying to infer the `batch_size`")
@pytest.mark.parametrize("mode", ["min_size", "max_size", "max_size_cycle"])
def test_combined_batches(callback, mode):
    def combined():
        return CombinedLoader({"a": val_loader(), "b": val_loader(32)}, mode)

    quantized(callback(quantization=sampling(32)), Both(lr=0.01), combined(), combined())


def test_a_list_and_a_dict_of_training_loaders(callback):
    class Dicts(Both):
        validation_step = Lit.validation_step

    for loaders in ([train_loader(), train_loader(64)], {"a": train_loader(), "b": train_loader()}):
        with pytest.warns(UserWarning, match="cannot take a batch of the training data"):
            quantized(callback(quantization=sampling(32)), Dicts(lr=0.01), loaders, val_loader())


def test_loaders_in_sequence(callback):
    quantization = callback(monitor="hits")
    quantized(quantization, Indexed(lr=0.01), train_loader(), [val_loader(), val_loader(32)])
    assert quantization.result.evaluations == 1


def test_a_dict_of_validation_loaders(callback):
    loaders = {"a": val_loader(), "b": val_loader(32)}
    quantized(callback(monitor="hits"), Indexed(lr=0.01), train_loader(), loaders)


def test_a_combined_loader_in_sequence(callback):
    loader = CombinedLoader([val_loader(), val_loader(32)], "sequential")
    quantized(callback(monitor="hits"), Indexed(lr=0.01), train_loader(), loader)


def test_a_datamodule_that_reloads(callback):
    class Counting(Points):
        asked = 0

        def train_dataloader(self):
            self.asked += 1
            return super().train_dataloader()

    data = Counting()
    quantized(callback(), datamodule=data, reload_dataloaders_every_n_epochs=1, max_epochs=2)
    assert data.asked == 2


def test_loaders_of_the_module_itself(callback):
    class Own(Lit):
        def train_dataloader(self):
            return train_loader()

        def val_dataloader(self):
            return val_loader()

    quantization = watched(callback())
    trainer(quantization, max_epochs=1).fit(Own(lr=0.01))
    assert quantization.watched == 1
    assert quantization.result.status == "met"
