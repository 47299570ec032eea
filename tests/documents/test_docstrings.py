"""What stands below `Example::` in a docstring runs, in an empty folder."""

from __future__ import annotations

from typing import Any

import pytest
from example_things import ROOT, things_of
from shown_code import Block, examples_of
from users_things import Made

EXAMPLES = [one for path in sorted(ROOT.rglob("*.py")) for one in examples_of(path)]
LONG = {"deploy/native/aoti.py": "compiles for a minute, as does a test beside it"}
pytestmark = [
    pytest.mark.filterwarnings("ignore:.*`tensorboardX` has been removed"),
    pytest.mark.filterwarnings("ignore:.*torch.jit"),
]


def case(block: Block) -> Any:
    name = block.path.relative_to(ROOT).as_posix()
    return pytest.param(block, id=f"{name}:{block.line}", marks=[pytest.mark.soak] * (name in LONG))


def test_there_are_many() -> None:
    assert len(EXAMPLES) > 180


@pytest.mark.parametrize("example", [case(one) for one in EXAMPLES])
def test_an_example_runs(example: Block, made: Made) -> None:
    things_of(made, example.path).run(example)
