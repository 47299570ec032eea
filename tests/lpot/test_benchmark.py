"""`Benchmark`: what is given to it, and what comes back."""

from __future__ import annotations

import copy
import logging

import pytest
import torch
import yaml
from file_scenes import conv_file, scripted
from plain_scenes import accuracy, eval_loader, net
from torch import nn

from lpot_lightning import Benchmark
from lpot_lightning.errors import DataError, ExportError

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


@pytest.fixture
def onnx(tmp_path):
    return conv_file(tmp_path / "int8.onnx")


def test_a_file_alone(onnx):
    result = Benchmark(conf())(str(onnx), eval_loader())
    assert (result.label, result.speed.iterations, result.speed.batch_size) == ("int8.onnx", 2, 50)
    assert result.runtime.startswith("ONNX Runtime 1.")
    assert result.fp32 is None


def test_files_take_turns_with_models(quantized, onnx, tmp_path):
    model, int8 = quantized
    script = scripted(tmp_path / "fp32.ts", net(), torch.ones(2, 1, 8, 8))
    result = Benchmark(conf(iteration=5))(int8, eval_loader(), fp32=model, files=[onnx, script])
    assert [one.label for one in result.files] == ["int8.onnx", "fp32.ts"]
    assert [one.runtime.split()[0] for one in result.files] == ["ONNX", "torch"]
    assert [one.speed.iterations for one in (result, result.fp32, *result.files)[2:]] == [4, 4]
    assert (result.label, result.fp32.iterations) == ("int8", 4)
    for one in result.files:
        low, high = one.speedup_spread
        assert low <= one.speedup <= high


def test_what_a_file_is_compared_with(onnx, monkeypatch):
    seconds = {"fp32": 6.0, "model": 3.0, "file": 2.0}

    def in_turns(steps, warmup, iterations, gate):
        names = ["model", "fp32", "file"] if len(steps) == 3 else ["model", "file"]
        return [[seconds[name]] * iterations for name in names]

    monkeypatch.setattr("lpot_lightning.timing.in_turns.in_turns", in_turns)
    beside = Benchmark(conf())(net(), eval_loader(), files=onnx)
    assert (beside.fp32, beside.speedup, beside.files[0].speedup) == (None, None, 1.5)
    three = Benchmark(conf())(net(), eval_loader(), fp32=net(), files=onnx)
    assert (three.speedup, three.files[0].speedup) == (2.0, 3.0)


def test_files_by_names_and_of_one_name(onnx, tmp_path):
    (tmp_path / "b").mkdir()
    other = conv_file(tmp_path / "b" / "int8.onnx")
    benchmark = Benchmark(conf())
    benchmark.files = {"mine": onnx}
    assert [one.label for one in benchmark(net(), eval_loader()).files] == ["mine"]
    result = benchmark(net(), eval_loader(), files=(onnx, other))
    assert [one.label for one in result.files] == [str(onnx), str(other)]


def test_a_file_for_fp32(onnx, tmp_path):
    script = scripted(tmp_path / "fp32.ts", net(), torch.ones(2, 1, 8, 8))
    result = Benchmark(conf())(onnx, eval_loader(), fp32=script)
    assert result.fp32.iterations == 2
    assert result.speedup is not None


def test_the_accuracy_of_files(quantized, onnx, tmp_path):
    model, int8 = quantized
    script = scripted(tmp_path / "fp32.ts", copy.deepcopy(model), torch.ones(2, 1, 8, 8))
    asked = conf()
    asked["evaluation"]["accuracy"] = {"metric": {"topk": 1}}
    files = {"same": script, "other": onnx}
    result = Benchmark(asked)(int8, eval_loader(), fp32=model, files=files, mode="accuracy")
    assert result.files[0].accuracy == result.fp32_accuracy == accuracy(model.eval())
    assert result.files[1].accuracy < result.accuracy
    assert result.files[0].speed is None
    assert "speed-up" not in result.table()
    by_func = Benchmark(conf())(script, b_func=accuracy, mode="accuracy")
    assert (by_func.accuracy, by_func.label) == (result.fp32_accuracy, "fp32.ts")


def test_a_file_that_cannot_take_the_batches(onnx):
    with pytest.raises(ExportError) as caught:
        Benchmark(conf())(onnx, [torch.ones(2, 3)])
    assert str(caught.value) == f"`{onnx}`: `images` is [2, 3]; allowed: [batch, 1, 8, 8]"


def test_threads_of_a_file(onnx, monkeypatch):
    seen = []

    def opened(path, *, threads, runtime):
        seen.append(threads or torch.get_num_threads())
        raise ExportError("enough")

    monkeypatch.setattr("lpot_lightning.deploy.running.file_model.open_file", opened)
    count = torch.get_num_threads() + 1
    with pytest.raises(ExportError, match="enough"):
        Benchmark(conf(configs={"intra_num_of_threads": count}))(onnx, eval_loader())
    assert seen == [count]


def test_files_in_processes_of_their_own(onnx):
    asked = conf(configs={"num_of_instance": 1, "cores_per_instance": 1})
    result = Benchmark(asked)(net(), eval_loader(), files=onnx)
    assert [len(one.files) for one in result.instances] == [1]
    assert result.files[0].speed.iterations == 2
    assert "int8.onnx: ms, p50 / p90 / p99" in result.table()
