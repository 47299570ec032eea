"""What is found out without a trial has one form, for who writes it and for who reads it."""

import copy

import pytest
from made_up import INT8

from lpot_lightning.errors import ConfError
from lpot_lightning.recipe import FP32, Recipe
from lpot_lightning.training_log import EpochLog, FrozenPart, SparsityLog, TrainingLog
from lpot_lightning.tuning.about import About
from lpot_lightning.tuning.findings import FINDINGS, check_finding, ops_in
from lpot_lightning.tuning.history import History

ABOUT = About(
    model="net", approach="post_training_static_quant", monitor="acc", goal=0.01, relative=True,
    higher_is_better=True, strategy="auto", objective="performance", most=9, seed=1,
    versions={"torch": "2.13"}, machine={"cores": "2"},
)  # fmt: skip
RECIPE = Recipe.of({"a": INT8, "b": FP32}).to_dict()
GOOD = {
    "costs": {"ops": {"a": 0.5, "b": 2}},
    "ranking": {"ops": [{"op": "a", "damage": None, "cost": 1.0}]},
    "causes": {"ops": {"a": {"kind": "outliers", "found": "far", "remedy": "kl", "repaired": ""}}},
    "repair": {
        "repaired": RECIPE,
        "repairs": [{"op": "a", "what": "sym", "before": 1.0, "after": 0.0}],
    },
    "paying": {
        "times": {"a": [0.1, 0.2]},
        "slower": [{"ops": ["b"], "int8": 0.2, "fp32": 0.1, "spread": [1.5, 2.5], "share": 0.1}],
        "all_slower": False,
    },
    "share": {"share": 0.25},
    "float": {"faster": True},
    "about": {"about": ABOUT.to_dict()},
    "training": {
        "log": TrainingLog(
            (EpochLog(epoch=0, loss=0.5, batches=3, accuracy=None),),
            (FrozenPart("ranges of activations", 0, 2),),
            (SparsityLog(unit="epoch", at=0, layers={"a.weight": 0.5}),),
        ).to_dict()
    },
}
BAD = [
    ("costs", ["ops", "a"], 0),
    ("costs", ["ops", "a"], float("inf")),
    ("costs", ["ops"], []),
    ("ranking", ["ops", 0, "damage"], -1.0),
    ("ranking", ["ops", 0, "op"], 3),
    ("ranking", ["ops", 0], ["a", 1.0, 1.0]),
    ("causes", ["ops", "a", "kind"], "bad luck"),
    ("causes", ["ops", "a", "kind"], None),
    ("causes", ["ops", "a", "remedy"], 3),
    ("causes", ["ops", "a"], "outliers"),
    ("repair", ["repaired", "a"], None),
    ("repair", ["repaired", "a", "activation", "dtype"], "int4"),
    ("repair", ["repairs", 0, "before"], "1"),
    ("paying", ["times", "a"], [0.1]),
    ("paying", ["slower", 0, "spread"], [1.0, 0.0]),
    ("paying", ["slower", 0, "ops"], "b"),
    ("paying", ["all_slower"], 0),
    ("share", ["share"], None),
    ("float", ["faster"], "yes"),
    ("about", ["about", "seed"], "1"),
    ("about", ["about", "versions"], {"torch": 2}),
    ("about", ["about", "more"], 1),
    ("training", ["log", "epochs", 0, "loss"], "0.5"),
    ("training", ["log", "frozen", 0, "step"], None),
    ("training", ["log", "sparsity", 0, "layers", "a.weight"], -1.0),
    ("training", ["log", "sparsity"], {}),
]


@pytest.mark.parametrize("kind", FINDINGS)
def test_what_is_written_is_of_the_form(kind):
    check_finding(kind, GOOD[kind])
    for more in ({"other": 1}, {next(iter(GOOD[kind])): None}):
        with pytest.raises(TypeError):
            check_finding(kind, {**GOOD[kind], **more})


@pytest.mark.parametrize(("kind", "keys", "value"), BAD)
def test_another_form_is_refused_by_who_reads_and_by_who_writes(kind, keys, value):
    content = copy.deepcopy(GOOD[kind])
    inner = content
    for key in keys[:-1]:
        inner = inner[key]
    inner[keys[-1]] = value
    with pytest.raises((TypeError, ConfError, AttributeError)):
        check_finding(kind, content)
    with pytest.raises((TypeError, ConfError, AttributeError)):
        History().keep(kind, "key", content)


@pytest.mark.parametrize(
    ("kind", "ops"),
    [
        ("costs", "ab"),
        ("ranking", "a"),
        ("causes", "a"),
        ("repair", "ab"),
        ("paying", "ab"),
        ("share", ""),
    ],
)
def test_the_ops_of_a_finding_are_known(kind, ops):
    assert ops_in(kind, GOOD[kind]) == set(ops)
