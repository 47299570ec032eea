"""The benchmarks are scripts that lie side by side, outside of the package."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[2] / "benchmarks"))
