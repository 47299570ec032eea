"""The `tuning` and `evaluation` sections."""

from __future__ import annotations

import pytest
from conf_scenes import LOADER, conf_of, refusal, remark, tuned

from lpot_lightning.conf.blocks import FrozenOptions, NamedConf
from lpot_lightning.conf.reader import read_conf

STRATEGIES = ["auto", "basic", "mse", "random", "exhaustive", "bayesian", "tpe"]
ALLOWED = "allowed: " + ", ".join(f"`{name}`" for name in STRATEGIES)


@pytest.mark.parametrize("name", STRATEGIES)
def test_the_strategies_that_are_built(name):
    assert tuned(strategy={"name": name}).tuning.strategy.name == name


@pytest.mark.parametrize(
    ("strategy", "said"),
    [
        (
            {"name": "sigopt"},
            f"`tuning.strategy.name` is `sigopt`, a service that no longer exists; {ALLOWED}.",
        ),
        (
            {"name": "automixedprecision"},
            "`tuning.strategy.name` is `automixedprecision`, LPOT's "
            f"strategy for TensorFlow's mixed precision; {ALLOWED}.",
        ),
        (
            {"name": "auto", "sigopt_api_token": "abc"},
            "`tuning.strategy.sigopt_api_token` belongs to "
            "SigOpt, a service that no longer exists: leave it out.",
        ),
        (
            {"name": ["auto"]},
            f"`tuning.strategy.name` is a list; {ALLOWED}.",
        ),
        (
            {"name": {"a": 1}},
            f"`tuning.strategy.name` is a mapping; {ALLOWED}.",
        ),
    ],
)
def test_other_strategies_are_refused(strategy, said):
    assert refusal(conf_of(tuning={"strategy": strategy})) == said


def test_tpe_weighs_accuracy_and_latency():
    conf = tuned(strategy={"name": "tpe", "accuracy_weight": 2, "latency_weight": "5e-1"})
    strategy = conf.tuning.strategy
    assert (strategy.accuracy_weight, strategy.latency_weight) == (2.0, 0.5)
    assert read_conf(conf.to_dict()) == conf
    assert conf.to_dict()["tuning"]["strategy"]["latency_weight"] == 0.5


def test_without_weights_none_are_written():
    assert tuned(strategy={"name": "tpe"}).to_dict()["tuning"]["strategy"] == {"name": "tpe"}


@pytest.mark.parametrize("key", ["accuracy_weight", "latency_weight"])
def test_weights_belong_to_tpe_and_are_not_negative(key):
    assert refusal(conf_of(tuning={"strategy": {"name": "bayesian", key: 1}})) == (
        f"`tuning.strategy.{key}` belongs to `tpe`, and the strategy is `bayesian`: leave it out."
    )
    assert refusal(conf_of(tuning={"strategy": {"name": "tpe", key: -1}})) == (
        f"`tuning.strategy.{key}` is `-1`; allowed: a number in [0, inf)."
    )


@pytest.mark.parametrize(
    ("given", "number"),
    [
        (0.01, 0.01),
        (0, 0.0),
        ("1%", 0.01),
        ("-0.5%", -0.005),
        ("1e-2", 0.01),
        (-0.01, -0.01),
    ],
)
def test_a_relative_criterion(given, number):
    criterion = tuned(accuracy_criterion={"relative": given}).tuning.accuracy_criterion
    assert (criterion.relative, criterion.absolute) == (number, None)
    assert criterion.higher_is_better is None


def test_an_absolute_criterion():
    criterion = tuned(
        accuracy_criterion={"absolute": 1, "higher_is_better": False}
    ).tuning.accuracy_criterion
    assert (criterion.relative, criterion.absolute, criterion.higher_is_better) == (None, 1, False)


@pytest.mark.parametrize(
    "value",
    [
        1,
        -1,
        1.5,
        "100%",
        "x",
        "0.01",
        "%",
        True,
        [0.01],
        float("nan"),
        float("inf"),
        "1e999",
        10**400,
    ],
)
def test_no_other_relative_criterion_is_taken(value):
    said = refusal(conf_of(tuning={"accuracy_criterion": {"relative": value}}))
    assert said.startswith("`tuning.accuracy_criterion.relative` is ")
    assert said.endswith('; allowed: a number or a percentage such as "1%" in (-1, 1).')


@pytest.mark.parametrize(("value", "meant"), [(1, "`0.01` or `1%`"), (2.5, "`0.025` or `2.5%`")])
def test_what_was_meant_as_a_percentage_is_told_how_to_write_it(value, meant):
    said = refusal(conf_of(tuning={"accuracy_criterion": {"relative": value}}))
    assert f"is `{value}`, and a share is meant: {value} % is {meant}; allowed: " in said
    assert said.count("allowed: ") == 1


@pytest.mark.parametrize(
    ("criterion", "came"),
    [
        ({"relative": 0.01, "absolute": 0.01}, "both"),
        ({"higher_is_better": True}, "neither"),
        ({"relative": None}, "neither"),
    ],
)
def test_exactly_one_criterion_is_allowed(criterion, came):
    assert refusal(conf_of(tuning={"accuracy_criterion": criterion})) == (
        f"`tuning.accuracy_criterion` gives {came} of `relative` and `absolute`; "
        "allowed: exactly one."
    )


def test_the_objectives():
    assert tuned(objective="modelsize").tuning.objective == "modelsize"
    assert tuned(objective="footprint").tuning.objective == "footprint"
    assert refusal(conf_of(tuning={"objective": "model_size"})) == (
        "`tuning.objective` is `model_size`; allowed: `performance`, `modelsize`, `footprint`. "
        "Did you mean `modelsize`?"
    )


def test_the_exit_policy():
    policy = tuned(
        exit_policy={"timeout": 0.5, "max_trials": 1, "performance_only": True}
    ).tuning.exit_policy
    assert (policy.timeout, policy.max_trials, policy.performance_only) == (0.5, 1, True)


@pytest.mark.parametrize(
    ("key", "value", "allowed"),
    [
        ("timeout", -1, "a number in [0, inf)"),
        ("timeout", True, "a number in [0, inf)"),
        ("max_trials", 0, "a whole number in [1, inf)"),
        ("max_trials", 2.0, "a whole number in [1, inf)"),
        ("max_trials", "5", "a whole number in [1, inf)"),
        ("performance_only", 1, "`true`, `false`"),
        ("performance_only", "true", "`true`, `false`"),
    ],
)
def test_what_is_no_exit_policy(key, value, allowed):
    shown = str(value).lower() if value is True else value
    assert refusal(conf_of(tuning={"exit_policy": {key: value}})) == (
        f"`tuning.exit_policy.{key}` is `{shown}`; allowed: {allowed}."
    )


def test_tensorboard_is_the_trainers():
    assert tuned(tensorboard=False).tuning.tensorboard is False
    conf, said = remark(conf_of(tuning={"tensorboard": True}))
    assert conf.tuning.tensorboard is False
    assert "`tuning.tensorboard` is `true` and has no effect; the tensors that LPOT dumped" in said


def test_the_metric_may_stand_in_its_older_place():
    conf = tuned(metric={"topk": 1})
    assert conf.evaluation.accuracy.metric == NamedConf("topk", FrozenOptions((("k", 1),)))
    assert conf == read_conf(conf_of(evaluation={"accuracy": {"metric": {"topk": 1}}}))
    both = conf_of(tuning={"metric": {"topk": 1}}, evaluation={"accuracy": {"iteration": 3}})
    accuracy = read_conf(both).evaluation.accuracy
    assert (accuracy.iteration, accuracy.metric.name) == (3, "topk")


def test_a_metric_in_both_places_is_refused():
    metric = {"metric": {"topk": 1}}
    assert refusal(conf_of(tuning=metric, evaluation={"accuracy": metric})) == (
        "`tuning.metric` is the older place of `evaluation.accuracy.metric`, and both are given: "
        "leave one out."
    )


@pytest.mark.parametrize("metric", [{}, None])
def test_an_empty_metric_is_no_metric(metric):
    assert (
        read_conf(conf_of(evaluation={"accuracy": {"metric": metric}})).evaluation.accuracy.metric
        is None
    )


@pytest.mark.parametrize(
    "metric", [{"Accuracy": None}, {"F1": {}}, {"MSE": {"compare_label": True}}, {"Loss": None}]
)
def test_the_metrics_for_pytorch(metric):
    conf = read_conf(conf_of(evaluation={"accuracy": {"metric": metric}}))
    assert [conf.evaluation.accuracy.metric.name] == list(metric)


@pytest.mark.parametrize(
    ("metric", "said"),
    [
        ({"topk": 3}, "`evaluation.accuracy.metric.topk` is `3`; allowed: `1`, `5`."),
        ({"topk": True}, "`evaluation.accuracy.metric.topk` is `true`; allowed: a whole number."),
        ({"topk": None}, "`evaluation.accuracy.metric.topk` is missing."),
        (
            {"topk": 1, "F1": None},
            "`evaluation.accuracy.metric` holds 2 names; allowed: exactly one of "
            "`topk`, `Accuracy`, `F1`, `Loss`, `MAE`, `MSE`, `RMSE`.",
        ),
        (
            {"accuracy": None},
            "`evaluation.accuracy.metric.accuracy` is not known; allowed: `topk`, "
            "`Accuracy`, `F1`, `Loss`, `MAE`, `MSE`, `RMSE`; another metric is logged in "
            "`validation_step` and named by `monitor`, or given to `Quantization.metric`. "
            "Did you mean `Accuracy`?",
        ),
        (
            {"F1": {"average": "macro"}},
            "`evaluation.accuracy.metric.F1.average` is not a known key; "
            "allowed in `evaluation.accuracy.metric.F1`: nothing.",
        ),
        ("topk", "`evaluation.accuracy.metric` is `topk`; allowed: a mapping."),
    ],
)
def test_other_metrics_are_refused(metric, said):
    assert refusal(conf_of(evaluation={"accuracy": {"metric": metric}})) == said


@pytest.mark.parametrize("count", [0, -2, 1.0, "all"])
def test_an_iteration_is_a_number_of_batches(count):
    said = refusal(conf_of(evaluation={"accuracy": {"iteration": count}}))
    assert said.startswith(f"`evaluation.accuracy.iteration` is `{count}`; allowed: a whole number")


def test_a_measurement_needs_more_than_its_warmup():
    assert refusal(conf_of(evaluation={"performance": {"warmup": 10, "iteration": 10}})) == (
        "`evaluation.performance` counts 10 iterations, of which 10 are `warmup`; allowed: an "
        "`iteration` larger than `warmup`."
    )


def test_labels_may_be_shifted():
    transform = {"transform": {"LabelShift": -1}}
    conf = read_conf(conf_of(evaluation={"accuracy": {"postprocess": transform}}))
    assert conf.evaluation.accuracy.postprocess.transform[0].options["shift"] == -1


def test_what_lpots_templates_hold_without_effect_is_accepted_with_one_warning(write):
    name = write("""
model: {name: net, framework: pytorch}
quantization:
  approach: quant_aware_training
  train:
    criterion: {CrossEntropyLoss: {reduction: None}}
    optimizer: {SGD: {learning_rate: 1}}
evaluation:
  accuracy:
    postprocess: {transform: {Reshape: {shape: [-1, 1001]}}}
  performance:
    dataloader:
      warmup: 10
      iteration: 100
      dataset: {dummy: {shape: [[128, 3, 224, 224], [128, 1, 1, 1]]}}
""")
    with pytest.warns(UserWarning, match="^ptq.yaml: ") as caught:
        conf = read_conf(name)
    assert [str(warning.message) for warning in caught] == [
        "ptq.yaml: `quantization.train.criterion.CrossEntropyLoss.reduction` is the text `None`, "
        "as in LPOT's templates, and taken as `mean`; "
        "`evaluation.accuracy.postprocess.transform.Reshape` has no effect; outputs are judged as "
        "the model gives them; "
        "`evaluation.performance.dataloader.warmup` has no effect under a `dataloader`, and "
        "belongs to `evaluation.performance`; "
        "`evaluation.performance.dataloader.iteration` has no effect under a `dataloader`, and "
        "belongs to `evaluation.performance`."
    ]
    assert caught[0].filename == __file__
    assert conf.quantization.train.criterion.options["reduction"] == "mean"
    assert conf.evaluation.performance.warmup == 5
    assert conf.evaluation.performance.dataloader.dataset.options["shape"] == (
        (128, 3, 224, 224),
        (128, 1, 1, 1),
    )


@pytest.mark.parametrize(
    "accuracy",
    [
        {"metric": {"COCOmAP": {"anno_path": "a.yaml", "map_key": []}}},
        {"postprocess": {"transform": {"SquadV1": {"label_file": "a", "vocab_file": "b"}}}},
        {"dataloader": {"dataset": {"TFRecordDataset": {"root": "a", "shapes": [[1], {"b": 2}]}}}},
        {"dataloader": {**LOADER, "transform": {"ParseDecodeImagenet": None}}},
    ],
)
def test_what_is_for_other_frameworks_is_read_for_those_who_do_without(accuracy):
    conf = read_conf(conf_of(evaluation={"accuracy": accuracy}))
    assert read_conf(conf.to_dict()) == conf
    assert hash(conf)


def test_a_dataloader_is_kept_in_the_users_order():
    loader = read_conf(
        conf_of(evaluation={"accuracy": {"dataloader": LOADER}})
    ).evaluation.accuracy.dataloader
    assert loader.dataset == NamedConf("ImageFolder", FrozenOptions((("root", "/data"),)))
    assert [step.name for step in loader.transform] == ["Resize", "ToTensor", "Normalize"]
    assert loader.transform[2].options["std"] == (1.0, 1.0)
    assert loader.filter.options["size"] == 1
    assert (loader.batch_size, loader.last_batch, loader.shuffle) == (8, "discard", False)


def loader_of(**fields):
    loader = {"dataset": {"MNIST": {"root": "/data"}}, **fields}
    return conf_of(evaluation={"accuracy": {"dataloader": loader}})


@pytest.mark.parametrize(
    ("dataset", "shape"),
    [
        ({"dummy": {"shape": "3, 224, 224"}}, (3, 224, 224)),
        ({"dummy": {"shape": [3, 224]}}, (3, 224)),
    ],
)
def test_shapes_are_lists_or_texts(dataset, shape):
    loader = read_conf(loader_of(dataset=dataset)).evaluation.accuracy.dataloader
    assert loader.dataset.options["shape"] == shape


PLACE = "`evaluation.accuracy.dataloader"


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"dataset": None}, f"{PLACE}.dataset` is missing."),
        ({"dataset": {}}, f"{PLACE}.dataset` holds 0 names; allowed: exactly one of `CIFAR10`,"),
        ({"dataset": {"MNIST": {}}}, f"{PLACE}.dataset.MNIST.root` is missing."),
        (
            {"dataset": {"imagefolder": {"root": "a"}}},
            f"{PLACE}.dataset.imagefolder` is not known;",
        ),
        ({"dataset": {"dummy": {"shape": [3, 0]}}}, f"{PLACE}.dataset.dummy.shape[1]` is `0`;"),
        ({"dataset": {"dummy": {"shape": []}}}, f"{PLACE}.dataset.dummy.shape` is an empty list;"),
        ({"dataset": {"dummy": {"shape": "(3)"}}}, f"{PLACE}.dataset.dummy.shape` is `(3)`;"),
        (
            {"dataset": {"bert": {"root": "a", "label_file": "b", "task": "ner"}}},
            f"{PLACE}.dataset.bert.task` is `ner`; allowed: `classifier`, `squad`.",
        ),
        ({"batch_size": 0}, f"{PLACE}.batch_size` is `0`; allowed: a whole number in [1, inf)."),
        ({"last_batch": "drop"}, f"{PLACE}.last_batch` is `drop`; allowed: `rollover`, `discard`."),
        ({"shuffle": "no"}, f"{PLACE}.shuffle` is `no`; allowed: `true`, `false`."),
        ({"filter": {"LabelBalance": {"size": 0}}}, f"{PLACE}.filter.LabelBalance.size` is `0`;"),
        (
            {"transform": {"Resize": {"size": [256, "x"]}}},
            f"{PLACE}.transform.Resize.size[1]` is `x`;",
        ),
        (
            {"transform": {"Normalize": {"mean": [0.5, None]}}},
            f"{PLACE}.transform.Normalize.mean[1]` is missing.",
        ),
        ({"transform": ["ToTensor"]}, f"{PLACE}.transform` is a list; allowed: a mapping."),
    ],
)
def test_a_dataloader_that_cannot_be_built_is_refused(fields, said):
    assert refusal(loader_of(**fields)).startswith(said)


@pytest.mark.parametrize(
    ("train", "said"),
    [
        (
            {"optimizer": {"Adam": {"learning_rate": 1}}},
            "`quantization.train.optimizer.Adam` is not "
            "known; allowed: `SGD`; another optimizer belongs into `configure_optimizers`.",
        ),
        (
            {"optimizer": {"SGD": {}}},
            "`quantization.train.optimizer.SGD.learning_rate` is missing.",
        ),
        (
            {"criterion": {"MSELoss": {}}},
            "`quantization.train.criterion.MSELoss` is not known; "
            "allowed: `CrossEntropyLoss`; another loss belongs into `training_step`.",
        ),
        (
            {"start_epoch": 5, "end_epoch": 2},
            "`quantization.train.end_epoch` is before `start_epoch`, which is `5`.",
        ),
    ],
)
def test_a_training_that_cannot_be_built_is_refused(train, said):
    assert refusal(conf_of(quantization={"train": train})) == said


@pytest.mark.parametrize("key", ["path", "resume"])
def test_a_workspace_on_another_machine_is_refused_by_name(key):
    said = refusal(conf_of(tuning={"workspace": {key: "s3://bucket/runs"}}))
    assert said.startswith(
        f"`tuning.workspace.{key}` is `s3://bucket/runs`, which is no folder of this machine"
    )
