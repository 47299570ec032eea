"""Settings hold while Dynamo captures, and in no other call."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from lpot_lightning.quantization.graph.compiled import compiled


def twice(x: torch.Tensor) -> torch.Tensor:
    return x * 2


def test_they_are_entered_for_a_call_that_no_graph_was_made_for():
    entered = []

    @contextmanager
    def settings() -> Iterator[None]:
        entered.append("in")
        yield
        entered.append("out")

    call = compiled(twice, lambda graph, inputs: graph.forward, settings)
    grew = []
    for rows in (2, 2, 3, 4, 2):
        before = len(entered)
        assert torch.equal(call(torch.ones(rows, 2)), torch.full((rows, 2), 2.0))
        grew.append(len(entered) > before)
    assert grew == [True, False, True, False, False]
    assert entered == ["in", "out"] * (len(entered) // 2)
