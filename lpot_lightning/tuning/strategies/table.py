"""The strategies by name."""

from __future__ import annotations

from importlib.util import find_spec

from lpot_lightning.errors import ConfError, did_you_mean, quoted
from lpot_lightning.tuning.strategies.auto import search_auto
from lpot_lightning.tuning.strategies.basic import search_basic
from lpot_lightning.tuning.strategies.bayesian import search_bayesian
from lpot_lightning.tuning.strategies.exhaustive import search_exhaustive
from lpot_lightning.tuning.strategies.mse import search_mse
from lpot_lightning.tuning.strategies.random import search_random
from lpot_lightning.tuning.strategies.strategy import Strategy
from lpot_lightning.tuning.strategies.tpe import search_tpe

STRATEGIES = {
    "auto": Strategy(name="auto", search=search_auto, finishes=True),
    "basic": Strategy(name="basic", search=search_basic, in_full=True),
    "mse": Strategy(name="mse", search=search_mse, in_full=True),
    "random": Strategy(name="random", search=search_random),
    "exhaustive": Strategy(name="exhaustive", search=search_exhaustive),
    "bayesian": Strategy(name="bayesian", search=search_bayesian, needs=("optuna", "scipy")),
    "tpe": Strategy(name="tpe", search=search_tpe, needs=("optuna",)),
}


def find_strategy(name: str) -> Strategy:
    """Return the strategy of this name.

    Raises:
        ConfError: if there is none of this name, or a package that it needs is not installed.

    Example::

        find_strategy("auto").finishes  # True
    """
    if name in STRATEGIES:
        return _installed(STRATEGIES[name])
    hint = did_you_mean(name, STRATEGIES)
    raise ConfError(f"`tuning.strategy.name` is `{name}`; allowed: {quoted(STRATEGIES)}.{hint}")


def _installed(strategy: Strategy) -> Strategy:
    for package in strategy.needs:
        if find_spec(package) is None:
            others = quoted(one.name for one in STRATEGIES.values() if not one.needs)
            raise ConfError(
                f"`tuning.strategy.name` is `{strategy.name}`, which needs `{package}`, and that is"
                " not installed: `pip install 'lpot-lightning[optuna]'`, or choose one that needs"
                f" nothing more: {others}"
            )
    return strategy
