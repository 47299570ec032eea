"""Fixtures of the pruning tests."""

import pytest
import torch


@pytest.fixture(autouse=True)
def _calmly():
    """The same random numbers in every test, and one thread: two are slower on small layers."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    yield
    torch.set_num_threads(before)
