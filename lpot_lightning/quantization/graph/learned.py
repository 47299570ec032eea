"""Whether norms may have learned since a graph folded them."""

from __future__ import annotations

from typing import ClassVar


class Learned:
    """Counts calls in which a BatchNorm may have learned.

    torch's kernels write running statistics without another version of the tensor (torch 2.13), so
    that what was folded of them is looked at again after such a call.

    Attributes:
        calls: in this process.
    """

    calls: ClassVar[int] = 0

    @classmethod
    def note(cls) -> None:
        """Count one."""
        cls.calls += 1
