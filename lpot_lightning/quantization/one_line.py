"""What computes in int8 for a layer, as `print` shows it: one line, no second tree."""

from __future__ import annotations

from torch import nn

from lpot_lightning.recipe import Rung


class OneLine(nn.Module):
    """Shown in one line below the user's layer, for which it computes.

    Attributes:
        rung: in what precision it computes.
    """

    rung = Rung.STATIC

    def _told(self) -> str:
        """Return what else there is to say, in short."""
        return ""

    def __repr__(self) -> str:
        """Say how the layer computes, and nothing of how that is built."""
        return f"{self.rung.value}({self._told()})"


def of_weight(group_size: int | None) -> str:
    """Return for what part of a weight there is a scale."""
    return "one a channel" if group_size is None else f"one a group of {group_size}"
