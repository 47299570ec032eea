"""`Benchmark`: what is given to it, and what comes back."""

from __future__ import annotations

import copy
import logging

import pytest
import torch
import yaml
from plain_scenes import accuracy, eval_loader, net
from torch import nn

from lpot_lightning import Benchmark
from lpot_lightning.errors import DataError

LOADER = {"dataset": {"dummy": {"shape": [4, 1, 8, 8]}}}


def conf(**performance):
    asked = {"warmup": 1, "iteration": 3, **performance}
    model = {"name": "corners", "framework": "pytorch"}
    return {"model": model, "evaluation": {"performance": asked}}


def test_the_call_of_the_documents():
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
    low, high = result.speedup_spread
    assert low <= result.speedup <= high


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
