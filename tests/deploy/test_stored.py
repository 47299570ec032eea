"""What files know of the calls of their model."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

from lpot_lightning.deploy.options import ExportOptions
from lpot_lightning.deploy.origin import UNKNOWN, check_origin
from lpot_lightning.deploy.stored import origin_of
from lpot_lightning.errors import ExportError

PROBE = {
    "loss": "it gives no tensor of floats",
    "body": {"args": [{"tensor": 0}], "kwargs": {}, "tolerance": 0.02},
    "head": {"args": [], "kwargs": {"x": {"tensor": 0}, "scale": 2.0}, "tolerance": 0.02},
}
TENSORS = {".probe.body.given.0": torch.ones(1), ".probe.head.given.0": torch.zeros(2)}
OPS = {"head.0": {}}


def test_the_call_of_what_holds_an_op():
    found = origin_of({"probe": PROBE, "op": OPS}, TENSORS)
    (call,) = found.calls
    assert (found.root, call.args, call.kwargs["scale"]) == ("head", (), 2.0)
    assert call.kwargs["x"] is TENSORS[".probe.head.given.0"]


def test_a_metric_is_not_taken_for_the_model_whose_call_is_not_stored():
    probe = {"": "it answers one call in two ways", "head": PROBE["head"]}
    found = origin_of({"probe": probe, "op": {"body.0": {}}}, TENSORS)
    assert (found.root, found.calls) == (None, ())
    assert found.unknown == "it answers one call in two ways"
    assert origin_of({"probe": probe, "op": OPS}, TENSORS).root == "head"


def test_the_call_of_what_is_asked_for():
    for method in ("body", "body.forward"):
        assert origin_of({"probe": PROBE, "op": OPS}, TENSORS, method).root == "body"
    assert origin_of({"probe": PROBE, "op": OPS}, TENSORS, "encode").root == "head"


def test_what_was_judged():
    found = origin_of({"accuracy": {"monitor": "acc", "int8": 0.5}}, {})
    assert (found.monitor, found.accuracy) == ("acc", 0.5)


def test_files_that_know_nothing():
    assert origin_of({}, {}) == UNKNOWN
    found = origin_of({"probe": {"head": "its call is too large"}, "op": OPS}, {})
    assert found == replace(UNKNOWN, unknown="its call is too large")
    with pytest.raises(
        ExportError, match="called with .the files .*: its call is too large.: give"
    ):
        check_origin(nn.Linear(1, 1), ExportOptions(), found)
