"""What a file takes, and what it does not."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from lpot_lightning.deploy.running.runtime import Intake, Port
from lpot_lightning.errors import ExportError

FLOATS = Port("x", torch.float32, ("batch", 3))
TOKENS = Port("tokens", torch.int64, ("batch", "length"))
ANY = Port("input")


def taken(*tensors, ports=(FLOATS,)):
    return Intake(Path("model.onnx"), ports)(tensors)


def test_what_fits_is_given_on_as_it_is():
    x = torch.ones(2, 3)
    assert taken(x)[0] is x
    assert taken(x, ports=[ANY])[0] is x


def test_numbers_become_what_the_file_wants():
    mask = Port("mask", torch.bool, ("batch",))
    ports = [FLOATS, TOKENS, mask]
    given = (
        torch.ones(2, 3, dtype=torch.int32),
        torch.ones(2, 5, dtype=torch.int32),
        torch.ones(2, dtype=torch.int64),
    )
    assert [one.dtype for one in taken(*given, ports=ports)] == [port.dtype for port in ports]
    assert taken(torch.ones(2, 3).double())[0].dtype == torch.float32


def test_what_is_no_plain_memory_is_copied():
    (made,) = taken(torch.arange(6.0).view(3, 2).T.requires_grad_())
    assert made.is_contiguous()
    assert not made.requires_grad
    assert made.tolist() == [[0, 2, 4], [1, 3, 5]]


REFUSED = {
    "none": ((), "`model.onnx` is called with 0 tensors (none); allowed: 1, `x` [batch, 3]"),
    "too many": (
        (torch.ones(2, 3), torch.ones(1)),
        "`model.onnx` is called with 2 tensors ([2, 3], [1]); allowed: 1, `x` [batch, 3]",
    ),
    "rank": ((torch.ones(3),), "`model.onnx`: `x` is [3]; allowed: [batch, 3]"),
    "size": ((torch.ones(2, 4),), "`model.onnx`: `x` is [2, 4]; allowed: [batch, 3]"),
}


@pytest.mark.parametrize(("given", "text"), REFUSED.values(), ids=REFUSED)
def test_what_does_not_fit(given, text):
    with pytest.raises(ExportError) as caught:
        taken(*given)
    assert str(caught.value) == text


def test_floats_where_whole_numbers_are_wanted():
    with pytest.raises(ExportError) as caught:
        taken(torch.ones(2, 5), ports=[TOKENS])
    assert str(caught.value) == (
        "`model.onnx`: `tokens` is of `float32`; allowed: `int64`, or whole numbers, which become"
        " it"
    )


def test_a_second_shape_is_looked_at_too():
    intake = Intake(Path("model.onnx"), [FLOATS])
    intake([torch.ones(2, 3)])
    with pytest.raises(ExportError, match=r"`x` is \[2, 5\]"):
        intake([torch.ones(2, 5)])
