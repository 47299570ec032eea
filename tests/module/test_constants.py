"""What comes of weights alone is known, through whatever computes it."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from lpot_lightning.module.constants import Constants


class Noting(TorchFunctionMode):
    def __init__(self, constants: Constants) -> None:
        self.constants = constants

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = func(*args, **(kwargs or {}))
        self.constants.note(func, (args, kwargs), found)
        return found


WEIGHT, OTHER = torch.ones(4, 6), torch.ones(6)
FIXED = {
    "a cast": lambda x: WEIGHT.to(torch.float64),
    "a view": lambda x: WEIGHT.T[1:],
    "a part of several": lambda x: WEIGHT.chunk(2)[1],
    "what two make": lambda x: torch.cat([WEIGHT, OTHER[None]]) * 2,
    "a shape of the data": lambda x: WEIGHT.reshape(-1, x.shape[0]),
}
OF_DATA = {
    "a product": lambda x: WEIGHT * x.mean(),
    "an index": lambda x: WEIGHT[x.argmax(0)],
    "drawn numbers": lambda x: torch.rand_like(WEIGHT),
    "written to": lambda x: WEIGHT.clone().mul_(x.mean()),
    "written into": lambda x: WEIGHT.clone().copy_(x[:, None].expand(-1, 6)),
    "new": lambda x: torch.zeros(4, 6),
}


def sources_of(make: Any) -> frozenset[int]:
    constants, x = Constants([WEIGHT, OTHER]), torch.randn(4)
    with Noting(constants):
        found: Tensor = make(x)
    return constants.sources(found)


@pytest.mark.parametrize("name", FIXED)
def test_it_comes_of_weights(name):
    wanted = {id(WEIGHT), id(OTHER)} if name == "what two make" else {id(WEIGHT)}
    assert sources_of(FIXED[name]) == wanted


@pytest.mark.parametrize("name", OF_DATA)
def test_it_comes_of_data(name):
    assert not sources_of(OF_DATA[name])
