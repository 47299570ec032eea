"""What a run was asked for, and where it ran."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lpot_lightning.machine.typed import check_typed, look_up_hints


@dataclass(frozen=True, kw_only=True)
class About:
    """What a run was asked for, and where it ran: whoever reads of it needs both.

    Args:
        model: its name in the conf.
        approach: ``quantization.approach``, or ``"pruning"``.
        monitor: name of the metric that judges.
        goal: how much worse than the baseline is allowed.
        relative: whether that is a share of the baseline.
        higher_is_better: direction of the metric.
        strategy: the order in which recipes are tried; ``""`` where nothing is searched.
        objective: what a trial is to have least of.
        most: how many trials there are at most; 0 where nothing is searched.
        timeout: seconds to go on improving; 0 stops at the first success.
        seed: of random numbers.
        versions: of Python and of the packages that have a say in numbers.
        machine: processor, instructions, cores, threads, system.
    """

    model: str
    approach: str
    monitor: str
    goal: float
    relative: bool
    higher_is_better: bool
    strategy: str = ""
    objective: str = ""
    most: int = 0
    timeout: float = 0.0
    seed: int
    versions: Mapping[str, str]
    machine: Mapping[str, str]

    def to_dict(self) -> dict[str, Any]:
        """Return plain values."""
        return {**vars(self), "versions": dict(self.versions), "machine": dict(self.machine)}

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> About:
        """Build from what ``to_dict`` gave.

        Raises:
            TypeError: if it is anything else.
        """
        found = cls(**plain)
        check_typed(found, cls, "about")
        return found


look_up_hints(About)
