"""What ops take in int8 and in fp32, and which of them do not pay: as it is kept and shown."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from lpot_lightning.machine.typed import Positive


@dataclass(frozen=True)
class OpTimes:
    """Seconds of one op in one step, its way to integers and back included.

    Args:
        int8: of its kernel, and of what is done to get there.
        fp32: of the op, and of those that its kernel does with it.
    """

    int8: float
    fp32: float


@dataclass(frozen=True, kw_only=True)
class NotPaying:
    """Why an op is in fp32 though it can be int8: it was measured to be faster.

    Args:
        ops: that were measured together, all of those of one chain that are in fp32.
        int8: seconds that they take in one step in int8.
        fp32: those that they take in fp32, what that costs the rest of the chain included.
        spread: of fp32 over int8: two ratios between which that lies, 95 of 100 times.
        share: of the step that they take in int8.
    """

    ops: tuple[str, ...]
    int8: float
    fp32: float
    spread: tuple[Positive, Positive]
    share: float

    @property
    def why(self) -> str:
        """One line for people."""
        many = f" for {len(self.ops)} ops together" if len(self.ops) > 1 else ""
        return (
            f"int8 is slower: {in_ms(self.int8)} ms against {in_ms(self.fp32)} ms{many},"
            f" at least {1 / self.spread[1]:.2f}x as long, {self.share:.1%} of a step"
        )

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> NotPaying:
        """Build from plain values."""
        low, high = plain["spread"]
        return cls(**{**plain, "ops": tuple(plain["ops"]), "spread": (low, high)})


@dataclass(frozen=True)
class Paying:
    """What ops cost in both precisions, and which of them do not pay.

    Args:
        times: of each op that was timed.
        slower: the ops that stay in fp32, with what was measured.
        all_slower: whether it were all of them: then none does.
    """

    times: Mapping[str, OpTimes] = field(default_factory=dict)
    slower: Mapping[str, NotPaying] = field(default_factory=dict)
    all_slower: bool = False

    def to_dict(self) -> dict[str, Any]:
        """Return plain values."""
        groups = dict.fromkeys(self.slower.values())
        return {
            "times": {op: [one.int8, one.fp32] for op, one in self.times.items()},
            "slower": [{**vars(one), "ops": [*one.ops], "spread": [*one.spread]} for one in groups],
            "all_slower": self.all_slower,
        }

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> Paying:
        """Build from what ``to_dict`` gave."""
        groups = map(NotPaying.from_dict, plain["slower"])
        return cls(
            {str(op): OpTimes(*one) for op, one in plain["times"].items()},
            {op: one for one in groups for op in one.ops},
            bool(plain["all_slower"]),
        )


def in_ms(seconds: float) -> str:
    """Return milliseconds for people."""
    return f"{seconds * 1e3:.3g}"
