"""The page about data and metrics names all there are, and its program runs."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest
from warm_python import python

from lpot_lightning.conf.buildable import NOT_BUILT
from lpot_lightning.data.datasets import DATASETS
from lpot_lightning.data.filters import FILTERS
from lpot_lightning.data.metrics import METRICS
from lpot_lightning.data.postprocess import POSTPROCESSES
from lpot_lightning.data.transforms import TRANSFORMS

PAGE = Path(__file__).parents[2] / "docs" / "data-and-metrics.md"
TABLES = [DATASETS, NOT_BUILT, FILTERS, METRICS, POSTPROCESSES, TRANSFORMS]


@pytest.mark.parametrize("name", [name for table in TABLES for name in table])
def test_every_name_is_on_the_page(name: str) -> None:
    assert re.search(rf"`([a-z_.]+\.)?{name}[`:]", PAGE.read_text())


def test_the_program_runs(tmp_path: Path) -> None:
    programs = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    (program,) = [one for one in programs if "class Digits" in one]
    done = subprocess.run(
        [python(), "-c", program],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(PAGE.parents[1])},
    )
    assert done.stdout == "right met\n"
