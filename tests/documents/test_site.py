"""The site of the documents: all is in it, and all links lead somewhere."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

from warm_python import python

import lpot_lightning

ROOT = Path(__file__).parents[2]


def test_each_public_name_has_one_place_in_the_reference() -> None:
    named = [
        name
        for page in (ROOT / "docs" / "reference").glob("*.md")
        for name in re.findall(r"^\.\. auto\w+:: (\w+)$", page.read_text(), re.MULTILINE)
    ]
    assert {
        name: named.count(name) for name in lpot_lightning.__all__ if named.count(name) != 1
    } == {}


def test_it_is_built_without_a_warning(tmp_path: Path) -> None:
    build = [python(), "-m", "sphinx", "-c", "docs", "-W", "--keep-going", "-q", "-E", ".", "-d"]
    command = [*build, str(tmp_path / "doctrees"), str(tmp_path / "site")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    page = (tmp_path / "site/docs/reference/callbacks.html").read_text()
    assert "quantization.result.table" in re.sub("<[^>]+>", "", page)
