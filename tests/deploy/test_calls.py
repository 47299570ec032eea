"""Calls as flat tensors, and back."""

from __future__ import annotations

from typing import NamedTuple

import pytest
import torch
from torch.utils import _pytree as pytree

from lpot_lightning.deploy.calls import ResultForm, Signature, tensors_in
from lpot_lightning.deploy.origin import Call
from lpot_lightning.errors import ConfError, ExportError

ONE, TWO = torch.zeros(1, 3), torch.ones(4, 3)


def nothing(*_, **__):
    """Be called."""


def named(x, mask=None, *rest, scale=1.0, **more):
    """Be called by names."""


def names(function, *args, **kwargs):
    signature = Signature.of("forward", function, Call(args, kwargs))
    return [one.name for one in signature.inputs]


def shapes(*args, dynamic=True, **kwargs):
    found = Signature.of("forward", named, Call(args, kwargs), dynamic)
    return {one.name: one.shape for one in found.inputs}


def test_tensors_are_called_as_arguments_and_keys_are():
    assert names(named, TWO) == ["x"]
    assert names(named, TWO, TWO) == ["x", "mask"]
    assert names(named, TWO, scale=TWO) == ["x", "scale"]
    assert names(named, {"image": TWO, "mask": TWO}) == ["image", "mask"]
    assert names(named, [TWO, TWO]) == ["x_0", "x_1"]
    assert names(nothing, TWO, extra=TWO) == ["__0" if False else "__0", "extra"]
    assert names(named, {"a": TWO}, {"a": TWO}) == ["a", "a_1"]


def test_the_first_size_may_be_any_unless_it_is_another_ones():
    assert shapes(TWO, torch.zeros(4, 2)) == {"x": ("batch", 3), "mask": ("batch", 2)}
    assert shapes(TWO, torch.zeros(7)) == {"x": ("batch", 3), "mask": (7,)}
    assert shapes(TWO, torch.tensor(1.0)) == {"x": ("batch", 3), "mask": ()}
    assert shapes(TWO, dynamic=False) == {"x": (4, 3)}


def test_sizes_can_be_named():
    tokens = torch.zeros(4, 4)
    found = Signature.of("m", named, Call((tokens,)), {"x": {0: "batch", -1: "length"}})
    (one,) = found.inputs
    assert one.shape == ("batch", "length")
    assert one.value.shape == (4, 5)  # a size of each name of its own


def test_a_single_sample_is_two_for_the_capture():
    (one,) = Signature.of("m", named, Call((torch.full((1, 3), 5.0),))).inputs
    assert torch.equal(one.value, torch.full((2, 3), 5.0))


@pytest.mark.parametrize(
    ("dynamic", "said"),
    [
        ({"y": {0: "n"}}, "the inputs are `x`"),
        ({"x": {2: "n"}}, "dimension 2 of `x`, which has 2"),
    ],
)
def test_sizes_that_are_not_there_are_told(dynamic, said):
    with pytest.raises(ConfError, match=said):
        shapes(TWO, dynamic=dynamic)


def test_one_name_has_one_size():
    both = {"x": {0: "n"}, "mask": {0: "n"}}
    with pytest.raises(ConfError, match="two sizes for `n` in `dynamic`: 4 and 1"):
        shapes(TWO, ONE, dynamic=both)


def test_what_does_not_fit_the_method_is_told():
    with pytest.raises(ExportError, match="`example` does not fit `forward`: missing"):
        names(named, scale=TWO)
    with pytest.raises(ExportError, match="is called with no tensor"):
        names(named, 3)
    with pytest.raises(ConfError, match="`input_names` has 2 names; there are 1 tensors: `x`"):
        Signature.of("m", named, Call((TWO,)), True, ["a", "b"])


def test_other_calls_have_other_tensors():
    signature = Signature.of("forward", named, Call((ONE, None), {"scale": 2.0}))
    assert signature.tensors_of(Call((TWO, None), {"scale": 2.0}))[0] is TWO
    assert signature.call_of([TWO]).args == (TWO, None)


@pytest.mark.parametrize(
    "call", [Call((TWO, None), {"scale": 3.0}), Call((TWO, TWO), {"scale": 2.0}), Call((TWO,))]
)
def test_a_call_of_another_form_is_told(call):
    signature = Signature.of("forward", named, Call((ONE, None), {"scale": 2.0}))
    with pytest.raises(ExportError, match="called in another way than the one"):
        signature.tensors_of(call)


class Answer(NamedTuple):
    logits: torch.Tensor
    kind: str


@pytest.mark.parametrize(
    ("result", "called"),
    [
        (TWO, ("output",)),
        ((TWO, ONE), ("output", "output_1")),
        ({"logits": TWO, "hidden": ONE}, ("logits", "hidden")),
        (Answer(TWO, "x"), ("logits",)),
    ],
)
def test_results_have_names_and_come_back_in_their_form(result, called):
    given = ResultForm.of(result)
    assert given.names == called
    again = given.result_of(tensors_in(result))
    assert type(again) is type(result)
    assert torch.equal(tensors_in(again)[0], tensors_in(result)[0])


def test_what_gives_no_tensor_is_told():
    with pytest.raises(ExportError, match="gives no tensor"):
        ResultForm.of(3.0)


class Outputs(dict):  # as the outputs of transformers
    """A mapping whose type tells torch no keys."""


pytree.register_pytree_node(
    Outputs,
    lambda one: (list(one.values()), list(one)),
    lambda values, keys: Outputs(zip(keys, values, strict=True)),
)


def test_a_mapping_that_tells_torch_no_keys_has_names_too():
    result = {"first": Outputs(logits=ONE, hidden=(ONE, TWO), loss=None), "last": TWO}
    form = ResultForm.of(result)
    assert form.names == ("logits", "hidden_0", "hidden_1", "last")
    assert tensors_in(form.result_of([TWO] * 4)["first"]) == [TWO] * 3
    assert names(named, Outputs(tokens=TWO), mask=ONE) == ["tokens", "mask"]
