"""What all documents are run with."""

from __future__ import annotations

import pytest
from users_things import Made


@pytest.fixture(scope="package")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """Return what takes long, made once in a process."""
    return Made(tmp_path_factory.mktemp("made"))
