"""How much accuracy a conf allows to lose."""

from __future__ import annotations

from lpot_lightning.conf.schema import Conf
from lpot_lightning.tuning.score import Criterion


def criterion_of(conf: Conf, higher_is_better: bool) -> Criterion:
    """Return the criterion of ``tuning.accuracy_criterion``."""
    asked = conf.tuning.accuracy_criterion
    relative = asked.relative is not None
    goal = asked.relative if asked.relative is not None else asked.absolute
    return Criterion(float(goal or 0.0), relative, higher_is_better)
