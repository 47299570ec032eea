"""The int8 model that comes back has been shown no data."""

from __future__ import annotations

import torch
from plain_scenes import corners, net, quantization

from lpot_lightning.runs.speed import measure_speedup


def test_the_model_that_is_returned_has_seen_no_data(workspace, monkeypatch):
    timed = []

    def measure(runner, model, parts, *given):
        timed.extend(part.graph for part in parts.values())
        return measure_speedup(runner, model, parts, *given)

    monkeypatch.setattr("lpot_lightning.runs.best_model.measure_speedup", measure)
    int8 = quantization(workspace)(net())
    (graph,) = timed
    assert int8.lpot_int8 is not graph
    images = corners(50, seed=1).tensors[0]
    with torch.no_grad():
        assert torch.equal(int8(images), graph(images))
