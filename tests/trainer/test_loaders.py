"""Each process takes batches of its own."""

import pytest
from torch.utils.data import DataLoader, DistributedSampler

from lpot_lightning.machine.ranks import Ranks
from lpot_lightning.trainer.loaders import share


def rank(number, of):
    """Return one of several processes, as far as a loader is concerned."""
    ranks = Ranks()
    ranks.rank, ranks.size = number, of
    return ranks


def shares(loader, of):
    return [[batch.tolist() for batch in share(loader, [loader], rank(n, of))] for n in range(of)]


def test_batches_are_dealt_out():
    loader = DataLoader(range(5), batch_size=1)
    assert shares(loader, 2) == [[[0], [2], [4]], [[1], [3]]]
    assert shares(loader, 1) == [[[n] for n in range(5)]]


@pytest.mark.parametrize("of", [2, 3])
def test_nobody_goes_away_empty_handed(of):
    assert shares(DataLoader(range(2), batch_size=2), of) == [[[0, 1]]] * of


def test_what_is_dealt_out_by_its_sampler_is_taken_as_it_is():
    loader = DataLoader(range(4), sampler=DistributedSampler(range(4), 2, 0, shuffle=False))
    assert shares(loader, 2) == [[[0], [2]]] * 2
