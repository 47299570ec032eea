"""What files know of the calls of their model."""

from __future__ import annotations

import torch

from lpot_lightning.deploy.origin import UNKNOWN
from lpot_lightning.deploy.stored import origin_of

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


def test_the_call_of_what_is_asked_for():
    for method in ("body", "body.forward"):
        assert origin_of({"probe": PROBE, "op": OPS}, TENSORS, method).root == "body"
    assert origin_of({"probe": PROBE, "op": OPS}, TENSORS, "encode").root == "head"


def test_what_was_judged():
    found = origin_of({"accuracy": {"monitor": "acc", "int8": 0.5}}, {})
    assert (found.monitor, found.accuracy) == ("acc", 0.5)


def test_files_that_know_nothing():
    assert origin_of({}, {}) == UNKNOWN
    assert origin_of({"probe": {"net": "its call is too large"}, "op": OPS}, {}) == UNKNOWN
