"""The best model on disk: what is in its files besides its tensors."""

import copy

import pytest
import torch
import yaml
from plain_scenes import APPROACHES, Net, corners, net, quantization
from torch import nn

import lpot_lightning
from lpot_lightning.artifacts import storage
from lpot_lightning.artifacts.probe import PREFIX


class Sharp(Net):
    """Has a number that no ``state_dict`` has."""

    def __init__(self):
        super().__init__()
        self.temperature, self.seen = 1.0, 0

    def forward(self, x):
        self.seen += 1
        return super().forward(x) / self.temperature


def sharp(**given):
    made = Sharp()
    made.load_state_dict(net().state_dict())
    vars(made).update(given)
    return made


@pytest.mark.parametrize("approach", APPROACHES)
def test_a_number_that_was_set_after_training_travels_with_the_files(tmp_path, approach, caplog):
    int8 = quantization(tmp_path, approach)(sharp(temperature=0.25))
    files = tmp_path / storage.CONFIGURE, tmp_path / storage.WEIGHTS
    again = lpot_lightning.load(*files, Sharp())
    images = corners(400, seed=1).tensors[0]
    assert torch.equal(again(images), int8(images))
    assert "`temperature` = 0.25 (here 1.0)" in caplog.text


def test_the_files_hold_what_the_model_was_asked_and_how_it_is_called(tmp_path):
    quantization(tmp_path)(sharp())
    configure = yaml.safe_load((tmp_path / storage.CONFIGURE).read_text())
    weights = torch.load(tmp_path / storage.WEIGHTS, weights_only=True)
    assert list(configure["probe"]) == list(configure["signatures"]) == [""]
    given, answer = (weights[f"{PREFIX}.{which}.0"] for which in ("given", "answer"))
    assert torch.equal(given, corners(256, seed=0).tensors[0][: len(given)])
    assert answer.shape == (len(given), 4)
    assert configure["modules"][""]["constants"]["temperature"] == 1.0
    assert {op["rung"] for op in configure["op"].values()} == {"int8"}


def test_the_users_model_and_random_numbers_are_left_alone(tmp_path):
    model = sharp()
    before, numbers = copy.deepcopy(vars(model)), torch.get_rng_state()
    quantization(tmp_path)(model)
    assert (model.training, model.seen) == (True, before["seen"])
    assert torch.equal(numbers, torch.get_rng_state())


class Centred(nn.Module):
    """Keeps what it saw first, as no plain attribute."""

    def __init__(self):
        super().__init__()
        self.net, self.first = net(), None

    def forward(self, x):
        if self.first is None:
            self.first = 100 * x.mean()
        assert x.sum() < 1e9  # no graph goes by values
        return self.net(x - self.first)


def test_what_judging_leaves_in_a_model_is_in_no_file(tmp_path):
    quantization(tmp_path)(Centred())
    files = tmp_path / storage.CONFIGURE, tmp_path / storage.WEIGHTS
    assert isinstance(yaml.safe_load(files[0].read_text())["probe"][""], dict)
    assert lpot_lightning.load(*files, Centred()).first is None
