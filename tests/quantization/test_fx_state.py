"""Int8 as plain tensors, and back."""

import pytest
import torch
from int8_scenes import converted
from zoo import calibrated_made

from lpot_lightning.errors import ArtifactError
from lpot_lightning.quantization.fx import state


@pytest.mark.parametrize("name", ["residual", "embedding", "embedding bag"])
def test_plain_tensors_hold_everything(name):
    model, batches, found = calibrated_made(name)
    int8 = converted(model, found)
    plain = state.to_plain(int8)
    expected = batches[0](int8)
    state.fill(int8, {key: value.clone() for key, value in plain.items()})
    assert all(not value.is_quantized for value in plain.values())
    assert torch.equal(batches[0](int8), expected)


def test_a_wrong_axis_of_an_embedding_or_layer_is_refused():
    model, _, found = calibrated_made("residual")
    int8 = converted(model, found)
    plain = state.to_plain(int8)
    name = next(key for key in plain if key.endswith(".axis"))
    with pytest.raises(ArtifactError, match=f"tensor `{name}` is 1, must be 0"):
        state.fill(int8, {**plain, name: torch.tensor(1)})
