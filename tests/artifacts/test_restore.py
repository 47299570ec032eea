"""A model that is restored answers as the one that was quantized, or is refused."""

import copy
import logging

import pytest
import torch
import yaml
from int8_scenes import BACKEND, calibrated, load, same, save
from torch import nn
from zoo import rows

from lpot_lightning.artifacts import storage
from lpot_lightning.artifacts.restore import load as load_files
from lpot_lightning.artifacts.tune_config import seal
from lpot_lightning.errors import ArtifactError
from lpot_lightning.machine.files import sha256
from lpot_lightning.module.calls import recorded
from lpot_lightning.module.stand_in import replaced
from lpot_lightning.quantization.kernels.arithmetic import Int8Weight

SAME = {"temperature": 1.0, "log_every": 10, "sign": 1}


class Net(nn.Module):
    def __init__(self, act=None, **given):
        super().__init__()
        vars(self).update(SAME | given)
        self.body = nn.Sequential(nn.Linear(8, 16), act or nn.LeakyReLU(0.1), nn.Linear(16, 4))

    def forward(self, x):
        return self.sign * self.body(x) / self.temperature


class Dice(Net):
    """Answers otherwise each time, so that nothing can be stored."""

    def forward(self, x):
        return super().forward(x) * (1 + torch.rand(()) * self.noise)


BATCHES = rows(8)()
X = BATCHES[0]


def told(caplog):
    return [one.getMessage() for one in caplog.records if one.name.startswith("lpot_lightning")]


def written(folder, model):
    """Quantize ``model``, write its files, and return the int8 one."""
    torch.manual_seed(0)
    model.eval()
    with torch.no_grad(), recorded(model) as calls:
        X(model)
    return save(folder, model, calibrated(model, *BATCHES), calls=calls)


def test_an_attribute_that_was_set_travels_where_it_counts(tmp_path, caplog):
    int8 = written(tmp_path, Net(temperature=0.25, log_every=99))
    given = Net()
    again = load(tmp_path, given)
    assert same(X(again), X(int8))
    assert "`temperature` = 0.25 (here 1.0)" in str(told(caplog))
    assert given.temperature == 1.0


def test_an_attribute_that_does_not_count_is_left_as_it_is(tmp_path, caplog):
    int8 = written(tmp_path, Net(log_every=99))
    again = load(tmp_path, Net(log_every=5))
    assert same(X(again), X(int8))
    assert again.log_every == 5
    assert not told(caplog)


@pytest.mark.parametrize("given", [{"act": nn.LeakyReLU(0.9)}, {"sign": -1}, {"temperature": 3}])
def test_other_constants_are_made_right(tmp_path, given):
    int8 = written(tmp_path, Net())
    assert same(X(load(tmp_path, Net(**copy.deepcopy(given)))), X(int8))


def test_a_difference_that_is_let_pass_is_made_right_all_the_same(tmp_path):
    int8 = written(tmp_path, Net(temperature=1.0001))
    assert same(X(load(tmp_path, Net())), X(int8))


@pytest.mark.parametrize("act", [nn.GELU(), nn.Identity(), nn.Tanh()], ids=str)
def test_another_function_is_refused_and_named(tmp_path, act):
    written(tmp_path, Net())
    with pytest.raises(ArtifactError) as caught:
        load(tmp_path, Net(act))
    kind = type(act).__name__
    assert str(caught.value).startswith(f"`{tmp_path / storage.CONFIGURE}`: ")
    if "computes something else" in str(caught.value):
        assert f"`body.1` is a `{kind}` and was a `LeakyReLU`" in str(caught.value)


def test_a_folder_or_another_name_is_told_which_file_is_meant(tmp_path):
    def said(configure, weights):
        with pytest.raises(ArtifactError) as caught:
            load_files(configure, weights, Net())
        return str(caught.value)

    written(tmp_path, Net())
    good = tmp_path / storage.CONFIGURE, tmp_path / storage.WEIGHTS
    folder, other = said(tmp_path, tmp_path), said(good[0], tmp_path / "weights.pt")
    assert folder.startswith(f"`tune_cfg_file` is the folder `{tmp_path}`; allowed: the file `best")
    assert said(good[0], tmp_path).startswith(f"`weights_file` is the folder `{tmp_path}`")
    assert other.startswith(f"`weights_file` is `{tmp_path / 'weights.pt'}`, which is not there")
    assert other.endswith("`result.workspace` names")


class Placed(Net):
    """Has a text that counts where a number is not enough."""

    def forward(self, x):
        return super().forward(x) * (2 if self.mode == "double" else 1)


def test_a_text_is_set_only_where_numbers_are_not_enough(tmp_path):
    written(tmp_path, Placed(mode="double", data="/then"))
    assert load(tmp_path, Placed(mode="double", data="/now", temperature=2.0)).data == "/now"
    assert load(tmp_path, Placed(mode="once", data="/now")).mode == "double"


class Around(nn.Module):
    """Is not called itself: its step calls the net."""

    def __init__(self, **given):
        super().__init__()
        vars(self).update(given)
        self.net = Net()

    def forward(self, x):
        raise NotImplementedError


def test_what_no_call_of_the_step_reaches_is_left_and_it_is_said(tmp_path, caplog):
    caplog.set_level(logging.INFO, "lpot_lightning")
    model = Around(rate=0.1).eval()
    with torch.no_grad(), recorded(model) as calls:
        X(model.net)
    found = BACKEND.prepare(model, calls)
    with replaced(model, found.observed) as observed:
        X(observed.net)
    found.settle()
    save(tmp_path, model, found, calls=calls)
    assert load(tmp_path, Around(rate=0.5)).rate == 0.5
    assert told(caplog) == [
        "not as when the model was saved, and left as it is: `rate` = 0.1 (here 0.5)"
    ]


class Minus(Net):
    def forward(self, x):
        return -super().forward(x)


def test_another_forward_is_refused_with_how_far_it_is_off(tmp_path):
    written(tmp_path, Net())
    told = r"the model is off by 200\.00%, .* is let pass: it is a `Minus` and was a `Net`; make"
    with pytest.raises(ArtifactError, match=told):
        load(tmp_path, Minus())


def test_where_nothing_could_be_stored_attributes_are_set_and_it_is_said(tmp_path, caplog):
    written(tmp_path, Dice(noise=1.0, temperature=0.25))
    again = load(tmp_path, Dice(noise=1.0))
    assert again.temperature == 0.25
    assert "`temperature` = 0.25 (here 1.0)" in str(told(caplog))


def test_the_restored_model_has_seen_nothing_and_random_numbers_go_on(tmp_path):
    class Keeps(Net):
        def forward(self, x):
            self.last = super().forward(x)
            return self.last

    written(tmp_path, Keeps())
    given, before = Keeps(), torch.get_rng_state()
    assert not hasattr(load(tmp_path, given), "last")
    assert torch.equal(before, torch.get_rng_state())


def changed(folder, change):
    """Change the tune config, and seal it anew as a forger would."""
    path = folder / storage.CONFIGURE
    configure = yaml.safe_load(path.read_text())
    weights = torch.load(folder / storage.WEIGHTS, weights_only=True)
    change(configure, weights)
    content = storage.to_bytes(weights)
    (folder / storage.WEIGHTS).write_bytes(content)
    configure["weights"] |= {"sha256": sha256(content), "content": seal(configure, weights)}
    path.write_text(yaml.safe_dump(configure, sort_keys=False))


def rung(configure, weights):
    configure["op"]["body.0"]["rung"] = "int4"


def bits(configure, weights):
    configure["op"]["body.0"]["bits"] = 4


def no_rung(configure, weights):
    del configure["op"]["body.0"]["rung"]


def no_answer(configure, weights):
    del weights[".probe..answer.0"]


def other_answer(configure, weights):
    weights[".probe..answer.0"] += 1


def argument(configure, weights):
    configure["probe"][""]["args"] = [{"tensor": 7}]


def tolerance(configure, weights):
    configure["probe"][""]["tolerance"] = 9.0


def constant(configure, weights):
    configure["modules"][""]["constants"]["_modules"] = 3


FORGED = {
    rung: "op `body.0` has `rung: int4`, this version has `int8`, `dynamic int8`,",
    bits: "op `body.0` has `bits: 4`, this version has `8` for `int8`: update lpot_lightning",
    no_rung: "op `body.0` has `rung: None`",
    no_answer: "the answer of `probe.` is missing",
    other_answer: "computes something else",
    argument: "is no value of a file of ours",
    tolerance: "`probe.` needs `tolerance`, above 0 and up to 0.2",
    constant: "names `_modules`",
}


@pytest.mark.parametrize("change", FORGED)
def test_a_forged_file_is_refused_by_name(tmp_path, change):
    written(tmp_path, Net())
    changed(tmp_path, change)
    with pytest.raises(ArtifactError) as caught:
        load(tmp_path, Net())
    assert FORGED[change] in str(caught.value)


def test_any_field_that_was_edited_is_told(tmp_path):
    written(tmp_path, Net())
    path = tmp_path / storage.CONFIGURE
    whole = yaml.safe_load(path.read_text())
    for name in whole.keys() - {"format", "weights"}:
        edited = whole | {name: _other(whole[name])}
        path.write_text(yaml.safe_dump(edited, sort_keys=False))
        with pytest.raises(ArtifactError):
            load(tmp_path, Net())


def _other(value):
    if isinstance(value, dict):
        return {**value, "new": "x"}
    return not value if isinstance(value, bool) else [*value] * 2 if value else "x"


class Computed(nn.Module):
    """Calls a function with a weight of its own, and a layer."""

    def __init__(self):
        super().__init__()
        self.table, self.head = nn.Parameter(torch.randn(16, 8)), nn.Linear(16, 4)

    def forward(self, x):
        return self.head(nn.functional.linear(x, self.table).relu())


def test_no_weight_is_rounded_to_be_thrown_away(tmp_path, monkeypatch):
    written(tmp_path, Computed())
    loaded = load(tmp_path, Computed())
    monkeypatch.setattr(Int8Weight, "of", None)
    assert same(X(load(tmp_path, Computed())), X(loaded))


def test_tensors_of_the_probe_are_no_state_of_the_model(tmp_path):
    int8 = written(tmp_path, Net())
    again = load(tmp_path, Net())
    assert BACKEND.to_plain(again).keys() == BACKEND.to_plain(int8).keys()
