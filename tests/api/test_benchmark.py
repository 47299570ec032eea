"""`Benchmark`: what is given to it, and what comes back."""

from __future__ import annotations

import copy
import logging

import pytest
import torch
import yaml
from plain_scenes import accuracy, eval_loader, net, quantization
from torch import nn

from lpot_lightning import Benchmark, ConfError
from lpot_lightning.errors import ArtifactError, DataError, NotYetError

LOADER = {"dataset": {"dummy": {"shape": [4, 1, 8, 8]}}}


def conf(**performance):
    asked = {"warmup": 1, "iteration": 3, **performance}
    model = {"name": "corners", "framework": "pytorch"}
    return {"model": model, "evaluation": {"performance": asked}}


@pytest.fixture
def quantized(workspace):
    """Return the fp32 model, and the int8 one that is in the workspace, too."""
    model = net()
    return model, quantization(workspace)(model)


def test_the_call_of_the_seeds():
    result = Benchmark(conf())(net(), eval_loader())
    assert (result.speed.iterations, result.warmup, result.speed.batch_size) == (2, 1, 50)
    assert 0 < result.latency.p50 <= result.latency.p90 <= result.latency.p99
    assert result.latency_per_sample.p50 == pytest.approx(result.latency.p50 / 50)
    assert (result.label, result.fp32, result.speedup, result.accuracy) == ("model", *[None] * 3)
    assert (result.threads, result.instances) == (torch.get_num_threads(), ())


def test_attributes_in_place_of_arguments():
    benchmark = Benchmark(conf_fname=conf())
    assert benchmark.result is None
    benchmark.model, benchmark.b_dataloader = net(), eval_loader()
    assert benchmark() is benchmark.result
    benchmark.b_dataloader, benchmark.b_func = None, accuracy
    assert benchmark().accuracy == pytest.approx(accuracy(net().eval()))


def test_a_function_in_the_call_comes_before_a_loader_that_was_set():
    benchmark = Benchmark(conf())
    benchmark.b_dataloader = eval_loader()
    assert benchmark(net(), b_func=accuracy).speed.batch_size == 400


def test_every_batch_is_measured_once_after_the_warm_up():
    result = Benchmark(conf(warmup=2, iteration=-1))(net(), eval_loader())
    assert (result.speed.iterations, result.warmup) == (8, 2)


def test_batches_are_taken_again_where_there_are_fewer():
    result = Benchmark(conf(iteration=20))(net(), eval_loader())
    assert result.speed.iterations == 19


def test_a_function_without_a_number_of_iterations():
    calls = []
    result = Benchmark(conf(warmup=0, iteration=-1))(net(), b_func=calls.append)
    assert (result.speed.iterations, len(calls)) == (20, 21)
    assert (result.throughput, result.accuracy) == (None, None)


def test_int8_against_fp32_from_deploy_yaml(quantized, workspace):
    model, int8 = quantized
    result = Benchmark(str(workspace / "deploy.yaml"))(int8, eval_loader(), fp32=model)
    assert (result.name, result.label, result.warmup) == ("corners", "int8", 5)
    assert result.speed.iterations == result.fp32.iterations == 8
    assert result.speedup == pytest.approx(result.fp32.latency.p50 / result.latency.p50)


def test_the_folder_of_a_workspace_is_its_int8_model(quantized, workspace):
    model, int8 = quantized
    result = Benchmark(conf())(workspace, b_func=accuracy, fp32=model)
    assert result.label == "int8"
    assert (result.accuracy, result.fp32_accuracy) == (accuracy(int8), accuracy(model.eval()))


def test_accuracy_alone(quantized):
    model, int8 = quantized
    result = Benchmark(conf())(int8, b_func=accuracy, fp32=model, mode="accuracy")
    assert (result.speed, result.latency, result.throughput) == (None, None, None)
    assert result.accuracy == accuracy(int8)
    assert "accuracy  0.75" in result.table()


def test_nothing_of_the_users_is_changed():
    model = net()
    before, state = copy.deepcopy(vars(model)), copy.deepcopy(model.state_dict())
    threads, random = torch.get_num_threads(), torch.get_rng_state()
    Benchmark(conf(configs={"intra_num_of_threads": 1}))(model, eval_loader())
    assert (vars(model).keys(), model.training) == (before.keys(), True)
    assert all(torch.equal(state[key], value) for key, value in model.state_dict().items())
    assert torch.get_num_threads() == threads
    assert torch.equal(random, torch.get_rng_state())


def test_threads_that_are_asked_for():
    result = Benchmark(conf(configs={"intra_num_of_threads": 1}))(net(), eval_loader())
    assert result.threads == 1


def test_the_table_is_said(caplog):
    with caplog.at_level(logging.INFO, "lpot_lightning"):
        result = Benchmark(conf())(net(), eval_loader())
    assert "timing 2 calls after 1 of warm-up" in caplog.text
    assert result.table() in caplog.text


def test_a_call_that_fails_has_no_result_of_the_one_before():
    benchmark = Benchmark(conf())
    benchmark(net(), eval_loader())
    with pytest.raises(DataError):
        benchmark(nn.Linear(3, 3), eval_loader())
    assert benchmark.result is None


CONSTRUCTED = {
    "nothing": ({}, "neither of `conf` and `conf_fname` is given; allowed: exactly one"),
    "both": (
        {"conf": conf(), "conf_fname": conf()},
        "both of `conf` and `conf_fname` is given; allowed: exactly one",
    ),
    "no conf": ({"conf": 3}, "conf is a `int`; allowed: a path, a mapping or an OmegaConf"),
    "warm-up": (
        {"conf": conf(warmup=-1)},
        "`evaluation.performance.warmup` is `-1`; allowed: a whole number in [0, inf)",
    ),
    "iteration": (
        {"conf": conf(iteration=0)},
        "`evaluation.performance.iteration` is `0`; allowed: a whole number in [1, inf), or `-1`",
    ),
    "less than the warm-up": (
        {"conf": conf(warmup=3)},
        "`evaluation.performance` counts 3 iterations, of which 3 are `warmup`; allowed: an",
    ),
    "instances": (
        {"conf": conf(configs={"num_of_instance": 0})},
        "`evaluation.performance.configs.num_of_instance` is `0`; allowed: a whole number in [1,",
    ),
}


@pytest.mark.parametrize(("given", "text"), CONSTRUCTED.values(), ids=CONSTRUCTED)
def test_bad_input_for_the_constructor(given, text):
    with pytest.raises(ConfError) as caught:
        Benchmark(**given)
    assert str(caught.value).startswith(text)


def meta():
    return nn.Linear(2, 2, device="meta")


CALLED = {
    "no model": (
        {},
        "there is no model: set it, `benchmark.model = model`, or give it to the call,"
        " `benchmark(model)`",
    ),
    "another model": (
        {"model": 3},
        "`model` is a `int`; allowed: an `nn.Module`, or the folder of a workspace together with"
        " `fp32`",
    ),
    "no workspace": (
        {"model": "nowhere", "fp32": net()},
        "`model` is `nowhere`; allowed: a model, or the folder of a workspace, with"
        " `best_configure.yaml` in it",
    ),
    "another fp32": (
        {"model": net(), "fp32": "fp32"},
        "`fp32` is a `str`; allowed: the fp32 model, an `nn.Module`",
    ),
    "another device": (
        {"model": meta(), "b_func": accuracy},
        "`weight` of `model` is on `meta`; int8 runs on the CPU, and so does a benchmark: give"
        " `model.cpu()`",
    ),
    "another device of fp32": (
        {"model": net(), "fp32": meta(), "b_func": accuracy},
        "`weight` of `fp32` is on `meta`; int8 runs on the CPU, and so does a benchmark: give"
        " `model.cpu()`",
    ),
    "loader": (
        {"model": net(), "b_dataloader": 3},
        "`b_dataloader` is a `int`; allowed: a `DataLoader`, or anything else that gives batches"
        " in a `for` loop",
    ),
    "function": (
        {"model": net(), "b_func": 3},
        "`b_func` is a `int`; allowed: a function that takes a model and runs what is to be timed",
    ),
    "loader and function": (
        {"model": net(), "b_dataloader": [], "b_func": accuracy},
        "there are a `b_dataloader` and a `b_func`; allowed: one of them, a `b_func(model)` brings"
        " its own data",
    ),
    "no data": (
        {"model": net()},
        "there is no data to show the model: give a `b_dataloader`, or a `b_func(model)` that"
        " brings its own; a batch is `(input, label)`, or the input alone",
    ),
    "mode": (
        {"model": net(), "b_func": accuracy, "mode": "acuracy"},
        "`mode` is `acuracy`; allowed: `performance`, `accuracy`. Did you mean `accuracy`?",
    ),
    "accuracy without a number": (
        {"model": net(), "b_func": lambda model: None, "mode": "accuracy"},
        "`b_func` returned no number, and `mode` is `accuracy`: return the accuracy",
    ),
    "accuracy without a judge": (
        {"model": net(), "b_dataloader": [], "mode": "accuracy"},
        "`mode` is `accuracy`, and there is nothing to judge by: give a `b_func(model)` that"
        " returns the accuracy, or name a metric in `evaluation.accuracy.metric`",
    ),
}


@pytest.mark.parametrize(("given", "text"), CALLED.values(), ids=CALLED)
def test_bad_input_for_the_call(given, text):
    with pytest.raises(ConfError) as caught:
        Benchmark(conf())(**given)
    assert str(caught.value) == text


def test_int8_where_fp32_is_asked_for(quantized):
    model, int8 = quantized
    with pytest.raises(ConfError) as caught:
        Benchmark(conf())(model, eval_loader(), fp32=int8)
    assert str(caught.value) == (
        "`fp32` is an int8 model: give the int8 one as `model`, the fp32 one as `fp32`"
    )


def test_a_folder_alone(quantized, workspace):
    with pytest.raises(ConfError) as caught:
        Benchmark(conf())(str(workspace), eval_loader())
    assert str(caught.value) == (
        f"`model` is the folder `{workspace}`, whose int8 model is built from the fp32 one: give"
        " that too, `benchmark(folder, loader, fp32=model)`"
    )


def test_a_folder_of_another_model(quantized, workspace):
    with pytest.raises(ArtifactError, match=f"`{workspace}/best_configure.yaml`: "):
        Benchmark(conf())(workspace, eval_loader(), fp32=nn.Linear(2, 2))


def test_an_int8_model_cannot_be_sent_to_other_processes(quantized):
    asked = conf(configs={"cores_per_instance": 1})
    with pytest.raises(ConfError) as caught:
        Benchmark(asked)(quantized[1], eval_loader())
    assert str(caught.value) == (
        "the model is int8, which cannot be sent to the processes that"
        " `evaluation.performance.configs` asks for: give the folder of its workspace, and the"
        " fp32 model, `benchmark('lpot_workspace/…', loader, fp32=model)`"
    )


def test_what_the_yaml_names_is_not_built_yet():
    with pytest.raises(NotYetError) as caught:
        Benchmark(conf(dataloader=LOADER))(net())
    assert str(caught.value) == (
        "<mapping>: `evaluation.performance.dataloader` is not built yet: give a `b_dataloader`"
    )
    asked = conf()
    asked["evaluation"] = {"accuracy": {"metric": {"topk": 1}, "dataloader": LOADER}}
    with pytest.raises(NotYetError, match="`evaluation.accuracy.dataloader` is not built yet"):
        Benchmark(asked)(net())
    with pytest.raises(NotYetError) as caught:
        Benchmark(asked)(net(), eval_loader(), mode="accuracy")
    assert str(caught.value) == (
        "<mapping>: `evaluation.accuracy.metric` is not built yet: give a `b_func(model)` that"
        " returns the accuracy"
    )


def test_what_has_no_effect_is_said(tmp_path):
    path = tmp_path / "bench.yaml"
    asked = conf(dataloader=LOADER, postprocess={"transform": {"LabelShift": 1}})
    path.write_text(yaml.safe_dump(asked))
    with pytest.warns(UserWarning, match="without effect") as caught:
        Benchmark(path)(net(), eval_loader())
    assert str(caught[0].message) == (
        f"{path}: without effect on a benchmark: `evaluation.performance.dataloader` is replaced"
        " by the `b_dataloader`; `evaluation.performance.postprocess` changes outputs, which"
        " nobody times."
    )
