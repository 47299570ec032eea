"""What ops cost in floating point, measured."""

import torch
from int8_scenes import Batch, calibrated
from torch import nn


class Uneven(nn.Module):
    def __init__(self):
        super().__init__()
        self.small = nn.Linear(16, 16)
        self.large = nn.Linear(16, 4096)
        self.never = nn.Linear(4, 4)

    def forward(self, x):
        return self.large(self.small(x) + x)


def test_every_op_that_ran_has_its_seconds_and_its_bytes():
    x = torch.randn(64, 16)
    found = calibrated(Uneven().eval(), Batch(x))
    profile = found.profile()
    assert profile.keys() == {"small", "large", "#add_0"}
    assert profile["large"].activation_bytes == 64 * 4096 * 4
    assert all(one.seconds > 0 for one in profile.values())


def test_a_layer_that_is_called_twice_costs_twice():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(8, 8)

        def forward(self, x):
            return self.layer(self.layer(x) * 2)

    found = calibrated(Twice().eval(), Batch(torch.randn(4, 8)))
    assert found.profile()["layer"].activation_bytes == 2 * 4 * 8 * 4
