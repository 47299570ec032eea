"""Plain attributes of modules: which are kept, which differ, which are set."""

import pytest
from torch import nn

from lpot_lightning.artifacts.constants import (
    check_modules,
    differences,
    modules_of,
    other_classes,
    set_constants,
)
from lpot_lightning.errors import ArtifactError


class Net(nn.Module):
    scale = 1.0

    def __init__(self):
        super().__init__()
        self.temperature, self._hidden, self.sizes = 1.0, 3, [2, (3, 4)]
        self.act, self.helper, self.long = nn.LeakyReLU(0.1), object(), "x" * 300

    @property
    def twice(self):
        raise AssertionError("no code of the user's runs")

    def forward(self, x):
        return self.act(x) / self.temperature


def constants_of(model, path=""):
    return modules_of(model)[path]["constants"]


def test_plain_attributes_are_kept_and_no_others():
    assert constants_of(Net()) == {
        "temperature": 1.0,
        "sizes": {"list": [2, {"tuple": [3, 4]}]},
    }
    assert constants_of(Net(), "act") == {"negative_slope": 0.1, "inplace": False}


@pytest.mark.parametrize(
    ("layer", "names"),
    [
        (nn.BatchNorm2d(2), ["eps", "momentum", "track_running_stats"]),
        (nn.Conv2d(1, 1, 1), ["stride", "padding", "dilation", "groups", "padding_mode"]),
        (nn.Dropout(), ["p"]),
    ],
)
def test_what_layers_of_torch_compute_by_is_kept(layer, names):
    assert set(names) <= set(constants_of(layer))


def test_what_differs_is_found_and_set():
    then, now = Net(), Net()
    then.temperature, then.act.negative_slope, then.sizes = 0.25, 0.5, (1,)
    unlike = differences(now, modules_of(then))
    assert [str(one) for one in unlike] == [
        "`temperature` = 0.25 (here 1.0)",
        "`sizes` = (1,) (here [2, (3, 4)])",
        "`act.negative_slope` = 0.5 (here 0.1)",
    ]
    set_constants(now, unlike)
    assert (now.temperature, now.act.negative_slope, now.sizes) == (0.25, 0.5, (1,))
    assert differences(now, modules_of(then)) == []


def test_an_attribute_that_only_the_stored_model_has_is_set_on_the_other():
    then, now = Net(), Net()
    then.added = float("nan")
    (only,) = differences(now, modules_of(then))
    assert str(only) == "`added` = nan (here not there)"
    set_constants(now, [only])
    assert differences(now, modules_of(then)) == []


def test_what_a_class_has_counts_as_an_attribute():
    then, now = Net(), Net()
    then.scale = 1.0
    assert differences(now, modules_of(then)) == []
    then.scale = 2.0
    assert len(differences(now, modules_of(then))) == 1


@pytest.mark.parametrize("name", ["forward", "twice", "act", "helper", "state_dict"])
def test_no_file_sets_a_method_a_module_or_an_object(name):
    forged = {"": {"class": "Net", "constants": {name: 3}}, "gone": {"constants": {"a": 1}}}
    check_modules(forged)
    assert differences(Net(), forged) == []


@pytest.mark.parametrize(
    ("forged", "named"),
    [
        ({3: {}}, "`modules.3`"),
        ({"a": []}, "`modules.a`"),
        ({"a": {"constants": [1]}}, "`modules.a`"),
        ({"a": {"constants": {"_x": 1}}}, "`_x`"),
        ({"a": {"constants": {"x y": 1}}}, "`x y`"),
        ({"a": {"constants": {4: 1}}}, "`4`"),
        ({"a": {"constants": {"x": [1]}}}, r"`\[1\]`"),
    ],
)
def test_forged_constants_are_refused_by_name(forged, named):
    with pytest.raises(ArtifactError, match=named):
        check_modules(forged)


def test_a_model_of_thousands_of_modules_is_bounded():
    many = nn.Sequential(*[nn.Linear(1, 1) for _ in range(4000)])
    assert sum(1 + len(one["constants"]) for one in modules_of(many).values()) <= 5000


def test_another_class_is_named():
    then, now = nn.Sequential(nn.ReLU()), nn.Sequential(nn.GELU())
    assert other_classes(now, modules_of(then)) == ["`0` is a `GELU` and was a `ReLU`"]


@pytest.mark.parametrize("other", [(1, True), (1, 1.0), [1, 1], (1,), True, 1.0, "1"])
def test_values_are_of_their_types(other):
    then, now = Net(), Net()
    then.sizes, now.sizes = (1, 1), other
    assert len(differences(now, modules_of(then))) == 1
    then.sizes, now.sizes = other, other
    assert differences(now, modules_of(then)) == []
    then.sizes, now.sizes = 1, other
    assert len(differences(now, modules_of(then))) == 1
