"""The page about data and metrics names all that there are."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

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
