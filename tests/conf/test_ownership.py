"""What a callback obeys, and what it leaves to Lightning."""

from __future__ import annotations

import pytest
from conf_scenes import LOADER, TRAIN, conf_of, everything

from lpot_lightning.conf.ownership import (
    check_for_callback,
    check_for_quantization,
    what_arguments_replace,
    what_has_no_effect,
)
from lpot_lightning.conf.reader import read_conf
from lpot_lightning.errors import ConfError

PRUNING = {"approach": {"weight_compression": {"pruners": [{}]}}}
QAT = "quant_aware_training"


def check(callback, **sections):
    check_for_callback(read_conf(conf_of(**sections)), callback)


def warning_of(callback, **sections):
    with pytest.warns(UserWarning, match="leaves this to others") as caught:
        check(callback, **sections)
    assert len(caught) == 1
    return str(caught[0].message)


def refusal_of(callback, **sections):
    with pytest.raises(ConfError) as caught:
        check(callback, **sections)
    return str(caught.value)


@pytest.mark.parametrize(
    ("callback", "sections"),
    [
        ("QuantizationCallback", {}),
        ("QuantizationCallback", {"pruning": PRUNING, "quantization": {}}),
        ("QuantizationCallback", {"evaluation": {"accuracy": {"iteration": 5}}}),
        ("QuantizationCallback", {"tuning": {"strategy": {"name": "basic"}}}),
        ("QATCallback", {"quantization": {"approach": QAT}}),
        ("PruningCallback", {"pruning": PRUNING}),
        ("PruningCallback", {"pruning": PRUNING, "quantization": {"approach": QAT}}),
    ],
)
def test_a_conf_for_a_callback_passes_without_a_warning(callback, sections):
    check(callback, **sections)


@pytest.mark.parametrize(
    ("callback", "sections", "said"),
    [
        (
            "QuantizationCallback",
            {"quantization": {"approach": QAT}},
            "`quantization.approach` is `quant_aware_training`, which is not what "
            "`QuantizationCallback` does; use `QATCallback`.",
        ),
        (
            "QATCallback",
            {},
            "`quantization.approach` is `post_training_static_quant`, which is not "
            "what `QATCallback` does; use `QuantizationCallback`.",
        ),
        (
            "QuantizationCallback",
            {"pruning": PRUNING},
            "`pruning` is all that is asked for; use `PruningCallback`.",
        ),
        (
            "QATCallback",
            {"pruning": PRUNING},
            "`pruning` is all that is asked for; use `PruningCallback`.",
        ),
        (
            "PruningCallback",
            {},
            "there is no `pruning` for `PruningCallback`; use `QuantizationCallback`.",
        ),
        (
            "PruningCallback",
            {"quantization": {"approach": QAT}},
            "there is no `pruning` for `PruningCallback`; use `QATCallback`.",
        ),
    ],
)
def test_a_conf_for_another_callback_names_it(callback, sections, said):
    assert refusal_of(callback, **sections) == f"<mapping>: {said}"


def test_the_error_names_the_file(write):
    conf = read_conf(write("model: {name: net, framework: pytorch}"))
    with pytest.raises(ConfError, match=r"^ptq.yaml: there is no `pruning`"):
        check_for_callback(conf, "PruningCallback")


def test_a_training_after_training_is_refused():
    said = refusal_of("QuantizationCallback", quantization={"train": TRAIN})
    assert said == (
        "<mapping>: `quantization.train` is given, and `post_training_static_quant` "
        "does not train; leave it out, or set `quantization.approach` to "
        "`quant_aware_training`."
    )


@pytest.mark.parametrize(
    ("callback", "approach", "owner"),
    [
        ("QuantizationCallback", "post_training_static_quant", "`calib_dataloader()` of the "),
        ("QATCallback", QAT, "the training itself"),
    ],
)
def test_calibration_data_are_those_of_the_trainer(callback, approach, owner):
    asked = {"approach": approach, "calibration": {"dataloader": LOADER}}
    said = warning_of(callback, quantization=asked)
    assert f": `quantization.calibration.dataloader` is given by {owner}" in said


def test_one_warning_names_all_that_the_validation_loop_owns():
    accuracy = {
        "metric": {"topk": 1},
        "dataloader": LOADER,
        "configs": {},
        "postprocess": {"transform": {"LabelShift": 1}},
    }
    said = warning_of("QuantizationCallback", evaluation={"accuracy": accuracy, "performance": {}})
    assert said == (
        "<mapping>: `QuantizationCallback` leaves this to others: "
        "`evaluation.accuracy.metric` is given by the metric that `validation_step` logs, named by "
        "`monitor`; "
        "`evaluation.accuracy.dataloader` is given by the validation dataloader of the `Trainer`; "
        "`evaluation.accuracy.postprocess` is given by `validation_step` of the LightningModule; "
        "`evaluation.accuracy.configs` is given by the process and the threads of the `Trainer`; "
        "`evaluation.performance` is for `Benchmark`, and carried into `deploy.yaml`."
    )


@pytest.mark.parametrize(
    ("callback", "section"), [("QATCallback", "quantization"), ("PruningCallback", "pruning")]
)
def test_one_warning_names_all_of_the_training_that_lightning_owns(callback, section):
    extra = {"approach": QAT} if section == "quantization" else PRUNING
    said = warning_of(callback, **{section: {**extra, "train": TRAIN}})
    for name, owner in [
        ("optimizer", "configure_optimizers"),
        ("criterion", "training_step"),
        ("dataloader", "dataloader"),
        ("start_epoch", "ckpt_path"),
        ("end_epoch", "max_epochs"),
        ("iteration", "limit_train_batches"),
        ("frequency", "check_val_every_n_epoch"),
        ("hostfile", "num_nodes"),
    ]:
        entry = said.split(f"`{section}.train.{name}` is given by ")[1].split(";")[0]
        assert owner in entry


def test_a_training_obeys_what_is_said_of_the_calibration_after_it():
    asked = conf_of(
        quantization={"approach": QAT, "calibration": {"sampling_size": 7}},
        tuning={"exit_policy": {"max_trials": 3}},  # of the search among fallbacks
    )
    check_for_callback(read_conf(asked), "QATCallback")  # a warning would be an error


@pytest.mark.parametrize("name", ["random", "exhaustive", "bayesian", "tpe"])
def test_a_strategy_that_tries_settings_of_int8_is_refused_for_a_training(name):
    asked = conf_of(quantization={"approach": QAT}, tuning={"strategy": {"name": name}})
    with pytest.raises(ConfError, match="allowed: `auto`, `basic`, `mse`"):
        check_for_callback(read_conf(asked), "QATCallback")


def test_a_callback_that_does_not_exist_is_a_mistake_of_the_caller():
    with pytest.raises(ValueError, match="Did you mean `QATCallback`?"):
        check_for_callback(read_conf(everything()), "QatCallback")


@pytest.mark.parametrize(
    ("sections", "said"),
    [
        ({"pruning": PRUNING}, "`pruning` is all that is asked for, and `Quantization` does not"),
        ({"quantization": {"train": TRAIN}}, "`post_training_static_quant` does not train"),
        (
            {"quantization": {"approach": QAT}, "tuning": {"strategy": {"name": "random"}}},
            "`tuning.strategy.name` is `random`, which tries settings of int8",
        ),
    ],
)
def test_quantization_refuses_what_it_cannot_do(sections, said):
    with pytest.raises(ConfError, match=said):
        check_for_quantization(read_conf(conf_of(**sections)))


@pytest.mark.parametrize(
    "sections",
    [
        {},
        {"quantization": {"approach": QAT, "train": TRAIN}},
        {"pruning": PRUNING, "quantization": {}},
    ],
)
def test_quantization_goes_both_ways(sections):
    check_for_quantization(read_conf(conf_of(**sections)))


ALL_KEYS = [
    "quantization.train",
    "quantization.calibration.dataloader",
    "evaluation.accuracy.metric",
    "evaluation.accuracy.dataloader",
    "evaluation.accuracy.iteration",
]


@pytest.mark.parametrize(
    ("given", "replaced"),
    [
        ([], []),
        (["q_func", "q_dataloader", "eval_func"], ALL_KEYS),
        (["q_func"], ALL_KEYS[:1]),
        (["q_dataloader"], ["quantization.train.dataloader", ALL_KEYS[1]]),
        (["eval_func"], ALL_KEYS[2:]),
        (["metric"], ALL_KEYS[2:3]),
        (["eval_dataloader"], ALL_KEYS[3:4]),
    ],
)
def test_what_the_users_functions_and_loaders_replace(given, replaced):
    accuracy = {"metric": {"topk": 1}, "dataloader": LOADER, "iteration": 3}
    quantization = {"approach": QAT, "train": TRAIN, "calibration": {"dataloader": LOADER}}
    assert what_arguments_replace(read_conf(conf_of()), given) == []
    asked = conf_of(quantization=quantization, evaluation={"accuracy": accuracy})
    assert what_arguments_replace(read_conf(asked), given) == replaced


def test_what_changes_nothing_without_a_trainer():
    asked = conf_of(
        quantization={"approach": QAT, "train": TRAIN},
        evaluation={"accuracy": {"configs": {"cores_per_instance": 4}}},
    )
    assert what_has_no_effect(read_conf(conf_of()), []) == []
    assert what_has_no_effect(read_conf(asked), ["q_func", "eval_func"]) == []
    assert what_has_no_effect(read_conf(asked), []) == [
        "`evaluation.accuracy.configs`: threads and processes change no accuracy",
        "`quantization.train.frequency`: nothing is judged while it trains",
        "`quantization.train.hostfile`: this process trains alone",
    ]
