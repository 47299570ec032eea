"""`Benchmark`: what cannot be given to it."""

from __future__ import annotations

import pytest
from plain_scenes import accuracy, eval_loader, net
from torch import nn

from lpot_lightning import Benchmark, ConfError
from lpot_lightning.errors import ArtifactError
from tests.lpot.test_benchmark import conf

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
        "`model` is a `int`; allowed: an `nn.Module`, an exported file, or the folder of a"
        " workspace together with `fp32`",
    ),
    "no workspace": (
        {"model": "nowhere", "fp32": net()},
        "`model` is `nowhere`; allowed: a model, an exported file, which ends in `.onnx`, `.xml`,"
        " `.pt2`, `.aoti.pt2`, `.ts`, or the folder of a workspace, with `best_configure.yaml` in"
        " it",
    ),
    "another fp32": (
        {"model": net(), "fp32": "fp32"},
        "`fp32` is a `str`; allowed: the fp32 model, an `nn.Module`",
    ),
    "files": (
        {"model": net(), "files": 3},
        "`files` is a `int`; allowed: the path of an exported file, a list of them, or a mapping of"
        " names to them",
    ),
    "files of no form": (
        {"model": net(), "files": ["int8.tflite"]},
        "`files` has `int8.tflite`; allowed: paths that end in one of `.onnx`, `.xml`, `.pt2`,"
        " `.aoti.pt2`, `.ts`",
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
        "there is no data to show the model: give a `b_dataloader`, a `b_func(model)` that"
        " brings its own, or a `dataloader` in `evaluation` of the YAML; a batch is `(input,"
        " label)`, or the input alone",
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
        " returns the accuracy, or a metric, `evaluation.accuracy.metric` in the YAML or"
        " `benchmark.metric(name, cls)`",
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


@pytest.mark.parametrize("given", [{"model": "int8.onnx"}, {"model": net(), "files": "int8.onnx"}])
def test_a_file_that_is_not_there(given):
    with pytest.raises(ArtifactError) as caught:
        Benchmark(conf())(**given)
    assert str(caught.value) == (
        "`int8.onnx` is not there; allowed: a file that a model was exported to"
    )
    with pytest.raises(ArtifactError, match="`fp32.pt2` is not there"):
        Benchmark(conf())(net(), fp32="fp32.pt2")
