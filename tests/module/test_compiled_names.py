"""Names with compiled parts and without, and models that are given the ones or the others."""

import pytest
from torch import nn

from lpot_lightning.module.compiled_names import compiled_as, named_as
from lpot_lightning.module.copying import Uncompiled

PLAIN = "net.0.weight net.1.fc.weight head.weight"
COMPILED = "net._orig_mod.0.weight net._orig_mod.1._orig_mod.fc.weight head.weight"
AROUND = "_orig_mod.net.0.weight _orig_mod.net.1.fc.weight _orig_mod.head.weight"
FORMS = [PLAIN, COMPILED, AROUND]


def model():
    """Return a net whose tensors have the plain names."""
    inner = nn.Module()
    inner.fc = nn.Linear(2, 2, bias=False)
    net = nn.Module()
    net.net, net.head = (
        nn.Sequential(nn.Linear(2, 2, bias=False), inner),
        nn.Linear(2, 2, bias=False),
    )
    return net


@pytest.mark.parametrize("before", FORMS)
@pytest.mark.parametrize("after", FORMS)
def test_from_one_form_to_another(before, after):
    made = compiled_as(compiled_as(model(), before.split()), after.split())
    assert list(made.state_dict()) == after.split()
    assert named_as(after.split(), dict.fromkeys(before.split())).keys() == set(after.split())


def test_a_module_that_is_shared_stays_one():
    net = nn.Module()
    net.one = net.two = nn.Linear(2, 2)
    made = compiled_as(net, ["one._orig_mod.weight", "two._orig_mod.weight"])
    assert made.one is made.two
    assert isinstance(made.one, Uncompiled)


def test_names_of_another_model_are_left():
    assert named_as(["a.weight"], {"b.weight": 1}) == {"b.weight": 1}
