"""A stored call and its answer: what has one, and who answers it."""

import dataclasses
import warnings
from collections import UserDict

import pytest
import torch
from torch import nn
from zoo import Made

from lpot_lightning.artifacts.first_calls import MAX_BYTES, first_calls
from lpot_lightning.artifacts.probe import (
    BLIND_TOLERANCE,
    MOST_TOLERANCE,
    PREFIX,
    TOLERANCE,
    answered,
    ask,
    check_probe,
    distance,
)
from lpot_lightning.errors import ArtifactError
from lpot_lightning.module.calls import recorded

X = torch.linspace(-1, 1, 60).reshape(20, 3)


def probe_of(forward, x=X, **modules):
    model = Made(forward, **modules).eval()
    with torch.no_grad(), recorded(model) as calls:
        model(x)
    return answered(model, first_calls(model, calls))


def off(forward, probe, tensors, **modules):
    (answer,) = ask(Made(forward, **modules).eval(), probe, tensors)
    return answer.off, answer.told


def test_the_same_model_answers_the_same_and_another_does_not():
    probe, tensors = probe_of(lambda m, x: x * 2)
    check_probe(probe)
    assert off(lambda m, x: x * 2, probe, tensors)[0] == 0
    assert 0 < off(lambda m, x: x * 2.001, probe, tensors)[0] < 1
    assert off(lambda m, x: -x, probe, tensors) == (
        pytest.approx(1.5 / TOLERANCE),
        "the model is off by 150.00%, 2.00% is let pass",
    )


def test_of_twenty_samples_eight_are_stored():
    _, tensors = probe_of(lambda m, x: x)
    assert {name: len(one) for name, one in tensors.items()} == {
        f"{PREFIX}.given.0": 8,
        f"{PREFIX}.answer.0": 8,
    }


def test_a_model_that_takes_no_part_of_a_batch_is_asked_the_whole():
    _, tensors = probe_of(lambda m, x: x.reshape(5, 4, 3).sum(1))
    assert tensors[f"{PREFIX}.given.0"].shape == (20, 3)


def counted(m, x):
    m.seen = getattr(m, "seen", 0) + 1
    return x + m.seen


@pytest.mark.parametrize(
    ("forward", "why"),
    [
        (lambda m, x: x + torch.rand(()), "answers one call in two ways"),
        (counted, "answers one call in two ways"),
        (lambda m, x: x.argmax(1), "gives no tensor of floats"),
        (lambda m, x: (x * 1e6).sin(), "goes by single integer steps"),
        (lambda m, x: x[(x * 1e6).sin() > 0], "goes by single integer steps"),
        (lambda m, x: x.expand(MAX_BYTES, *x.shape), "its answer is too large"),
    ],
)
def test_what_cannot_be_stored_has_a_reason(forward, why):
    probe, tensors = probe_of(forward)
    assert why in probe[""]
    assert not tensors


def test_a_model_that_fails_outside_of_its_step_has_a_reason():
    model = Made(lambda m, x: x if m.inside else m.trainer.world_size)
    model.inside = True
    with recorded(model) as calls:
        model(X)
    model.inside = False
    probe, _ = answered(model, first_calls(model, calls))
    assert probe[""].startswith("it fails outside of its step (AttributeError: ")


@dataclasses.dataclass
class Output:
    logits: torch.Tensor
    name: str = "x"


@pytest.mark.parametrize(
    "wrap",
    [
        lambda y: {"a": [y, 3]},
        lambda y: Output(y),
        lambda y: UserDict(a=Output(y)),
        lambda y: (y.long(), y),
    ],
)
def test_floats_are_found_wherever_they_are(wrap):
    probe, tensors = probe_of(lambda m, x: wrap(x))
    assert off(lambda m, x: wrap(-x), probe, tensors)[0] > 1


def test_random_numbers_modes_gradients_and_inputs_are_left_alone():
    model = Made(lambda m, x: m.net(x.mul_(2)), net=nn.Linear(3, 2))
    given = X.clone()
    with recorded(model) as calls:
        model(given)
    before = torch.get_rng_state()
    probe, tensors = answered(model, first_calls(model, calls))
    stored = {name: one.clone() for name, one in tensors.items()}
    assert ask(model, probe, tensors)[0].off == 0
    assert torch.equal(before, torch.get_rng_state())
    assert torch.is_grad_enabled()
    assert all(torch.equal(one, tensors[name]) for name, one in stored.items())
    assert not any(one.requires_grad for one in tensors.values())


def test_a_call_is_one_of_evaluation_whatever_is_on_around_it():
    def forward(m, x):
        warnings.warn("old", stacklevel=1)
        assert not torch.is_grad_enabled()
        assert not torch.is_autocast_enabled("cpu")
        return x * torch.rand(()).round(decimals=4) ** 0

    model = Made(forward)
    with recorded(model) as calls, torch.no_grad(), warnings.catch_warnings(action="ignore"):
        model(X)
    before = torch.get_rng_state()
    with torch.autocast("cpu"), torch.enable_grad():
        probe, tensors = answered(model, first_calls(model, calls))
    assert isinstance(probe[""], dict), probe
    assert torch.equal(before, torch.get_rng_state())


def test_where_nothing_can_be_nudged_more_is_let_pass():
    probe, _ = probe_of(lambda m, x: x.float(), x=torch.arange(20))
    assert probe[""]["tolerance"] == BLIND_TOLERANCE
    steep, _ = probe_of(lambda m, x: (8 * x.abs()).exp())
    assert TOLERANCE < steep[""]["tolerance"] <= MOST_TOLERANCE


NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("found", "wanted", "far"),
    [
        ([], [], 0.0),
        ([1.1], [1.0], 0.1),
        ([0.0], [0.0], 0.0),
        ([1e-9], [0.0], 1e-3),
        ([NAN, 1.0], [NAN, 1.0], 0.0),
        ([NAN, 1.1], [NAN, 1.0], 0.1),
        ([-INF, 1.0], [-INF, 1.0], 0.0),
        ([INF, 1.0], [-INF, 1.0], INF),
        ([NAN, 1.0], [INF, 1.0], INF),
        ([1.0, 1.0], [NAN, 1.0], INF),
    ],
)
def test_distances(found, wanted, far):
    assert distance([torch.tensor(found)], [torch.tensor(wanted)]) == pytest.approx(far, rel=1e-3)


def test_other_shapes_types_and_counts_are_infinitely_far():
    one = torch.ones(2)
    for other in ([one.double()], [one[:1]], [], [one, one]):
        assert distance(other, [one]) == INF


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({3: "x"}, "`probe.3`"),
        ({"": 3}, "`probe.`"),
        ({"a": {"args": {}, "kwargs": {}, "tolerance": 0.1}}, "`probe.a` needs `args`"),
        ({"a": {"args": [], "kwargs": [], "tolerance": 0.1}}, "`probe.a` needs `args`"),
        ({"a": {"args": [], "kwargs": {1: 2}, "tolerance": 0.1}}, "`probe.a` has a `kwargs`"),
        ({"a": {"args": [], "kwargs": {}, "tolerance": 9.0}}, "`probe.a` needs `tolerance`"),
        ({"a": {"args": [], "kwargs": {}, "tolerance": NAN}}, "`probe.a` needs `tolerance`"),
        ({"a": {"args": [], "kwargs": {}}}, "`probe.a` needs `tolerance`"),
    ],
)
def test_a_forged_probe_is_refused_by_name(change, named):
    with pytest.raises(ArtifactError, match=named):
        check_probe(change)


def test_an_answer_that_is_gone_is_told_and_so_is_an_argument():
    probe, tensors = probe_of(lambda m, x: x)
    given, answer = (f"{PREFIX}.{which}.0" for which in ("given", "answer"))
    with pytest.raises(ArtifactError, match=r"the answer of `probe\.` is missing"):
        ask(Made(lambda m, x: x), probe, {given: tensors[given]})
    with pytest.raises(ArtifactError, match="is no value of a file of ours"):
        ask(Made(lambda m, x: x), probe, {answer: tensors[answer]})


def test_a_model_without_the_module_that_is_asked_fails():
    probe, tensors = probe_of(lambda m, x: x)
    (answer,) = ask(nn.Linear(1, 1), {"gone": probe[""]}, {
        name.replace(PREFIX, f"{PREFIX}gone"): one for name, one in tensors.items()
    })  # fmt: skip
    assert answer.off == INF
    assert answer.told.startswith("`gone` fails on it: AttributeError")
