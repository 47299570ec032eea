"""Random numbers from a seed, and as they were afterwards."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import numpy as np
import torch


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Start the random numbers of torch, NumPy and Python from ``seed``, and put them back.

    Lightning's ``isolate_rng`` does not put them back after an error.
    """
    python, own_numpy, own_torch = random.getstate(), np.random.get_state(), torch.get_rng_state()
    devices = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
    try:
        random.seed(seed)
        np.random.seed(seed % 2**32)
        torch.manual_seed(seed)
        yield
    finally:
        random.setstate(python)
        np.random.set_state(own_numpy)
        torch.set_rng_state(own_torch)
        if devices:
            torch.cuda.set_rng_state_all(devices)


def drawn() -> bytes:
    """Return what changes whenever a random number of torch, NumPy or Python is drawn.

    Example::

        before = drawn()
        torch.rand(1)
        drawn() == before  # False
    """
    kind, key, *rest = np.random.get_state(legacy=True)
    others = repr((hash(random.getstate()), kind, rest)).encode()
    return b"".join((torch.get_rng_state().numpy().tobytes(), np.asarray(key).tobytes(), others))


@contextmanager
def generators_kept(loaders: Iterable[object]) -> Iterator[None]:
    """Put the random generators back that belong to ``loaders`` themselves."""
    owners = [owner for one in loaders for owner in (one, getattr(one, "sampler", None))]
    found = [getattr(owner, "generator", None) for owner in owners]
    before = [(one, one.get_state()) for one in found if isinstance(one, torch.Generator)]
    try:
        yield
    finally:
        for generator, state in before:
            generator.set_state(state)
