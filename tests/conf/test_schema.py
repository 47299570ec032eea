"""A Conf: frozen, comparable, and the same after a round trip."""

from __future__ import annotations

import copy
import dataclasses
import pickle

import pytest
import yaml
from conf_scenes import conf_of, everything

from lpot_lightning.conf.blocks import FrozenOptions
from lpot_lightning.conf.reader import read_conf
from lpot_lightning.conf.schema import PrunerConf, WeightCompressionConf


def only_pruning():
    pruners = [{"target_sparsity": 0, "names": []}, {}]
    return conf_of(pruning={"approach": {"weight_compression": {"pruners": pruners}}})


CONFS = {
    "minimal": conf_of(),
    "everything": everything(),
    "only pruning": only_pruning(),
    "absolute": conf_of(tuning={"accuracy_criterion": {"absolute": -0.5}}),
    "old metric": conf_of(tuning={"metric": {"topk": 1}}),
    "empty blocks": conf_of(quantization={}, tuning={}, evaluation={"accuracy": {}}),
    "dummy": conf_of(
        evaluation={
            "performance": {
                "iteration": 10,
                "dataloader": {
                    "dataset": {
                        "dummy": {
                            "shape": [[4, 3], [4, 1]],
                            "high": [1, 2],
                            "dtype": "float32, int64",
                        }
                    }
                },
            }
        }
    ),
}


@pytest.mark.parametrize("given", CONFS.values(), ids=CONFS)
def test_a_round_trip_gives_an_equal_conf(given):
    conf = read_conf(given)
    assert read_conf(conf.to_dict()) == conf
    text = yaml.safe_dump(conf.to_dict(), sort_keys=False)
    assert read_conf(yaml.safe_load(text)) == conf


@pytest.mark.parametrize("given", CONFS.values(), ids=CONFS)
def test_a_round_trip_through_a_file_gives_an_equal_conf(write, given):
    conf = read_conf(given)
    name = write(yaml.safe_dump(conf.to_dict(), sort_keys=False))
    again = read_conf(name)
    assert again == conf
    assert again.source == "ptq.yaml"


def test_the_dict_stands_in_lpots_layout():
    content = read_conf(everything()).to_dict()
    ops = content["quantization"]["op_wise"]
    assert list(ops) == ["conv1", r"blocks\.[0-3]\..*", "default_qconfig"]
    assert content["evaluation"]["accuracy"]["metric"] == {"topk": 5}
    assert list(content["quantization"]["calibration"]["dataloader"]["transform"]) == [
        "Resize",
        "ToTensor",
        "Normalize",
    ]
    assert content["pruning"]["approach"]["weight_compression"]["pruners"][0]["start_epoch"] == 0
    assert "quantization" not in read_conf(only_pruning()).to_dict()


def test_a_conf_is_frozen_hashable_and_can_be_pickled():
    conf = read_conf(everything())
    assert hash(conf) == hash(read_conf(everything()))
    assert pickle.loads(pickle.dumps(conf)) == conf == copy.deepcopy(conf)  # noqa: S301
    with pytest.raises(dataclasses.FrozenInstanceError):
        conf.version = "2.0"  # type: ignore[misc]


def test_options_are_a_mapping():
    options = FrozenOptions((("root", "/data"), ("train", False)))
    assert dict(options) == {"root": "/data", "train": False}
    assert (options["root"], options.get("download"), len(options)) == ("/data", None, 2)
    assert options == FrozenOptions((("train", False), ("root", "/data")))
    with pytest.raises(KeyError):
        options["size"]


def test_a_pruner_takes_from_around_it_only_what_it_does_not_say():
    weights = WeightCompressionConf(
        initial_sparsity=0.3,
        start_epoch=2,
        pruners=(PrunerConf(initial_sparsity=0.0, start_epoch=0), PrunerConf(end_epoch=9)),
    )
    first, second = weights.resolved()
    assert (first.initial_sparsity, first.start_epoch, first.end_epoch) == (0.0, 0, 4)
    assert (second.initial_sparsity, second.start_epoch, second.end_epoch) == (0.3, 2, 9)
    assert second.target_sparsity == 0.97
