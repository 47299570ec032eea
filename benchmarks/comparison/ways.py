"""Who is compared: which file makes it, in which environment, told which goals."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
OURS = "lpot_lightning"
BENCH, INC = ".venv-bench", ".venv-inc"
MAKE = {BENCH: "make .venv-bench/installed", INC: "make .venv-inc/installed"}
GOALS = (0.01, 0.001)


def percent(share: float) -> str:
    """Return a goal for people."""
    return f"{100 * share:g} %"


@dataclass(frozen=True)
class Way:
    """A tool and how it is asked.

    Args:
        name: for people.
        module: the file that asks it.
        home: the environment that it is installed in.
        goal: the share of the accuracy that may be lost; ``None`` for a tool that takes none.
    """

    name: str
    module: str
    home: str = BENCH
    goal: float | None = None

    @property
    def label(self) -> str:
        """The name and the goal."""
        return self.name if self.goal is None else f"{self.name}, {percent(self.goal)}"

    @property
    def python(self) -> Path:
        """The interpreter of its environment."""
        return ROOT / self.home / "bin" / "python"


WAYS = (
    *(Way(OURS, "way_ours", goal=goal) for goal in GOALS),
    *(Way("NNCF accuracy control", "way_nncf", goal=goal) for goal in GOALS),
    Way("ONNX Runtime static", "way_onnxruntime"),
    Way("torchao PT2E", "way_torchao"),
    Way("Neural Compressor autotune", "way_inc", INC, GOALS[0]),
)
"""In the order of the tables."""
