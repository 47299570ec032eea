"""Tensors that nobody can have written are refused, though all hashes are right."""

import pytest
import torch
from torch import Tensor

from lpot_lightning.artifacts.believable import check_believable, check_fields, not_finite
from lpot_lightning.errors import ArtifactError

SAID = {"fp32_model": {"w": "float32[2]", "n": "int64[]"}}
HELD = {"w": torch.ones(2), "n": torch.tensor(3)}


@pytest.mark.parametrize("dtype", [torch.float16, torch.float8_e4m3fn, torch.float64])
def test_what_is_not_finite_is_found_in_any_type(dtype):
    odd = torch.tensor([1.0, float("nan")]).to(dtype)
    assert not_finite({"a": odd, "b": odd[:1], "c": odd[:0], "d": torch.tensor(1)}) == ["a"]


def test_a_sum_may_be_infinite_where_no_number_is():
    large = torch.full((4,), 3e38)
    assert not_finite({"a": large, "b": torch.complex(large, -large)}) == []
    assert not_finite({"b": torch.complex(large, large / 0)}) == ["b"]
    assert not_finite({"c": torch.tensor([float("inf"), -float("inf")])}) == ["c"]


def test_what_the_tune_config_names_may_be_infinite():
    mask: dict[str, Tensor] = {**HELD, "w": torch.tensor([0.0, -torch.inf])}
    with pytest.raises(ArtifactError, match="tensor `w` holds NaN or infinity, and `not_finite`"):
        check_believable(SAID, mask, whole=True)
    check_believable({**SAID, "not_finite": ["w"]}, mask, whole=True)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"w": torch.ones(2).half()}, "tensor `w` is float16[2], but the tune config says float32"),
        ({"w": torch.ones(3)}, "tensor `w` is float32[3], but"),
        ({"x": torch.ones(2)}, "tensor `x` is unknown to the tune config"),
    ],
)
def test_each_tensor_is_what_the_tune_config_says(change, said):
    with pytest.raises(ArtifactError) as told:
        check_believable(SAID, {**HELD, **change}, whole=True)
    assert said in str(told.value)
    with pytest.raises(ArtifactError, match="tensor `n` is missing"):
        check_believable(SAID, {"w": HELD["w"]}, whole=True)


def test_int8_has_tensors_of_other_names_and_a_probe_is_no_part_of_the_model():
    more = {"fc._int8.weight": torch.ones(2), ".probe..given.0": torch.ones(5)}
    check_believable(SAID, {"w": HELD["w"], **more}, whole=False)
    check_believable(SAID, {**HELD, ".probe..given.0": torch.ones(5)}, whole=True)


@pytest.mark.parametrize("found", ["w", [1], {"w": 1}, None])
def test_the_field_is_a_list_of_names(found):
    with pytest.raises(ArtifactError, match="`not_finite` is no list of names"):
        check_fields(found)
