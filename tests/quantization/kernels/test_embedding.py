from __future__ import annotations

import pytest
import torch

from lpot_lightning.quantization.kernels.embedding import Int8Embedding

WEIGHT = torch.randn(30, 8, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    "ids",
    [
        torch.arange(12),
        torch.arange(12).view(3, 4).t(),
        torch.arange(24).view(2, 3, 4)[..., ::2],
        torch.tensor(3),
        torch.tensor([], dtype=torch.long),
        torch.arange(6, dtype=torch.int32),
    ],
)
def test_rows_of_ids_in_any_shape_and_layout(ids):
    table = Int8Embedding.of(WEIGHT)
    found = table(ids)
    wanted = WEIGHT[ids.long()]
    assert found.shape == wanted.shape
    bound = table.scales[ids.long()][..., None] * 0.51
    assert bool(((found - wanted).abs() <= bound).all())


def test_a_row_of_one_value_and_a_row_of_zeros_are_exact():
    weight = torch.stack([torch.zeros(4), torch.full((4,), -3.5)])
    assert torch.equal(Int8Embedding.of(weight)(torch.tensor([0, 1])), weight)


def test_an_id_beyond_the_table_is_an_error():
    with pytest.raises(IndexError):
        Int8Embedding.of(WEIGHT)(torch.tensor([30]))
