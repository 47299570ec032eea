"""The strategies by name."""

from __future__ import annotations

from lpot_lightning.errors import ConfError, did_you_mean
from lpot_lightning.tuning.strategies.auto import search_auto
from lpot_lightning.tuning.strategies.basic import search_basic
from lpot_lightning.tuning.strategies.exhaustive import search_exhaustive
from lpot_lightning.tuning.strategies.mse import search_mse
from lpot_lightning.tuning.strategies.random import search_random
from lpot_lightning.tuning.strategies.strategy import Strategy

STRATEGIES = {
    "auto": Strategy("auto", search_auto, finishes=True),
    "basic": Strategy("basic", search_basic),
    "mse": Strategy("mse", search_mse),
    "random": Strategy("random", search_random),
    "exhaustive": Strategy("exhaustive", search_exhaustive),
}


def find_strategy(name: str) -> Strategy:
    """Return the strategy of this name.

    Raises:
        ConfError: if there is none of this name.

    Example::

        find_strategy("auto").finishes  # True
    """
    if name in STRATEGIES:
        return STRATEGIES[name]
    known = ", ".join(f"`{known}`" for known in STRATEGIES)
    hint = did_you_mean(name, STRATEGIES)
    raise ConfError(f"`tuning.strategy.name` is `{name}`; allowed: {known}.{hint}")
