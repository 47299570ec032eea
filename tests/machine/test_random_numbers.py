"""Random numbers are borrowed, and given back."""

import random

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from lpot_lightning.machine.random_numbers import generators_kept, seeded


def test_random_numbers_start_from_the_seed_and_come_back_after_an_error():
    def drawn():
        return random.random(), np.random.rand(), torch.rand(1).item()

    def fail():
        with seeded(3):
            numbers.append(drawn())
            raise RuntimeError("stop")

    numbers = []
    before = random.getstate(), torch.get_rng_state()
    with pytest.raises(RuntimeError, match="stop"):
        fail()
    with seeded(3):
        assert [drawn()] == numbers
    assert before[0] == random.getstate()
    assert torch.equal(before[1], torch.get_rng_state())


def test_generators_of_loaders_and_samplers_come_back():
    own = torch.Generator().manual_seed(1)
    loader = DataLoader(range(8), shuffle=True, generator=own)
    before = own.get_state()
    with generators_kept([loader, object()]):
        list(loader)
        assert not torch.equal(own.get_state(), before)
    assert torch.equal(own.get_state(), before)
