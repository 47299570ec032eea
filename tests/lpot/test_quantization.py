"""LPOT's imperative class: a model, functions and loaders in, an int8 model out."""

from __future__ import annotations

import copy
import logging
import random
import signal
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from omegaconf import OmegaConf
from plain_scenes import (
    APPROACHES,
    HARD,
    QAT,
    Judge,
    Net,
    accuracy,
    conf,
    corners,
    eval_loader,
    net,
    quantization,
    train,
    train_loader,
)
from torch import nn
from torch.utils.data import DataLoader
from warm_python import python

import lpot_lightning
from lpot_lightning import Quantization
from lpot_lightning.errors import (
    ConfError,
    DataError,
    EvaluationError,
    LpotError,
    QuantizationError,
)
from lpot_lightning.machine.lock import WorkspaceLock
from lpot_lightning.recipe import CORRECTIONS

"""A goal that nothing meets: four trials are made."""
IMAGES = corners(400, seed=1).tensors[0]
both = pytest.mark.parametrize("approach", APPROACHES)


def same(one: nn.Module, other: nn.Module) -> bool:
    with torch.no_grad():
        return torch.equal(one(IMAGES), other(IMAGES))


def world(model: nn.Module) -> dict[str, object]:
    """Return what may not change: the model, its parts, and the random numbers."""
    return {
        "values": [value.clone() for value in model.state_dict().values()],
        "tensors": [id(value) for value in model.state_dict(keep_vars=True).values()],
        "modes": [one.training for one in model.modules()],
        "attributes": [sorted(vars(one)) for one in model.modules()],
        "hooks": [len(one._forward_pre_hooks) for one in model.modules()],
        "gradients": [(one.requires_grad, one.grad is None) for one in model.parameters()],
        "torch": torch.get_rng_state(),
        "python": random.getstate(),
        "numpy": repr(np.random.get_state()),
        "grad mode": torch.is_grad_enabled(),
        "engine": torch.backends.quantized.engine,
        "threads": torch.get_num_threads(),
        "signals": [signal.getsignal(one) for one in (signal.SIGINT, signal.SIGTERM)],
    }


def check_same_world(before: dict[str, object], model: nn.Module) -> None:
    for name, value in world(model).items():
        if name == "torch":
            assert torch.equal(value, before[name])
        elif name == "values":
            assert all(map(torch.equal, value, before[name]))
        else:
            assert value == before[name], name


def train_by_parts(model: Net) -> None:
    sgd = torch.optim.SGD(model.parameters(), lr=0.01)
    for images, kinds in train_loader():
        sgd.zero_grad()
        nn.functional.cross_entropy(model.head(model.features(images)), kinds).backward()
        sgd.step()


# How it is called


def test_attributes_and_a_bare_call(workspace: Path) -> None:
    one = Quantization(conf(workspace))
    one.model = net()
    one.calib_dataloader = train_loader()
    one.eval_func = accuracy
    int8 = one()
    assert int8 is one.result.model
    assert one.result.status == "met"
    assert one.result.int8_ops == ("first", "second", "head")
    assert accuracy(int8) == one.result.accuracy


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("calib_dataloder", "`Quantization` has no `calib_dataloder`.* Did you mean `calib_datal"),
        ("pruning_func", "`Quantization` has no `pruning_func`, and nobody would read it"),
        ("postprocess", "`Quantization` has no `postprocess`.*: change outputs and labels in a"),
    ],
)
def test_an_attribute_that_is_not_there_cannot_be_set(name: str, said: str) -> None:
    one = Quantization({"model": {"name": "net", "framework": "pytorch"}})
    with pytest.raises(ConfError, match=said):
        setattr(one, name, accuracy)
    with pytest.raises(AttributeError, match=f"`Quantization` has no `{name}`"):
        getattr(one, name)


def test_q_dataloader_is_calib_dataloader(workspace: Path) -> None:
    one, loader = Quantization(conf(workspace)), train_loader()
    one.q_dataloader = loader
    assert one.calib_dataloader is one.q_dataloader is loader


class Mine(Quantization):
    """A subclass of the user's, which keeps something of its own."""


def test_a_conf_that_is_set_is_read(workspace: Path) -> None:
    made = Quantization(conf("elsewhere"))
    made.conf = conf(workspace)
    assert made.conf.tuning.workspace.path == str(workspace)
    with pytest.raises(ConfError, match="conf is a `int`; allowed: a path, a mapping"):
        made.conf = 3


def test_a_subclass_may_have_attributes_of_its_own(workspace: Path) -> None:
    one = Mine(conf(workspace))
    one.note = "anything"
    assert (one.note, copy.deepcopy(one).note) == ("anything", "anything")


@both
def test_arguments_give_what_attributes_give(
    tmp_path: Path, workspace: Path, approach: str
) -> None:
    qat = approach == QAT
    by_attributes = quantization(tmp_path / "one", approach)(net())
    by_arguments = Quantization(conf_fname=conf(tmp_path / "two", approach))(
        net(), None if qat else train_loader(), train if qat else None, None, accuracy
    )
    assert same(by_attributes, by_arguments)


def test_arguments_come_before_attributes(workspace: Path) -> None:
    one, judge = quantization(workspace), Judge()
    one.model, one.eval_func = nn.Linear(2, 2), lambda model: None
    one(net(), eval_func=judge)
    assert judge.calls == one.result.evaluations == 2


def test_a_conf_is_a_path_a_mapping_or_omegaconf(tmp_path: Path, workspace: Path) -> None:
    asked = conf(workspace)
    path = tmp_path / "ptq.yaml"
    path.write_text(yaml.safe_dump(asked))
    read = [Quantization(one).conf for one in (path, str(path), asked, OmegaConf.create(asked))]
    assert all(one == read[0] for one in read)


@both
@pytest.mark.parametrize("loader", [None, eval_loader()])
def test_what_is_judged_is_in_eval_mode_and_cheap(workspace, approach: str, loader) -> None:
    one, judge = quantization(workspace, approach), Judge()
    one.eval_dataloader, one.eval_func = loader, judge
    one(net())
    assert judge.modes == [False] * (4 if approach == QAT else 2)
    assert one.result.evaluations == judge.calls


def test_an_accuracy_that_is_to_be_low(workspace: Path) -> None:
    criterion = {"absolute": 0.01, "higher_is_better": False}
    one = quantization(workspace, tuning={"accuracy_criterion": criterion})
    one.eval_func = lambda model: 1 - accuracy(model)
    one(net())
    assert not one.result.criterion.higher_is_better
    assert one.result.status == "met"


@both
def test_a_function_may_call_parts_of_the_model(workspace: Path, approach: str) -> None:
    def by_parts(model: Net) -> float:
        images, kinds = corners(400, seed=1).tensors
        return float((model.head(model.features(images)).argmax(1) == kinds).float().mean())

    one = quantization(workspace, approach)
    one.eval_func = by_parts
    one.q_func = train_by_parts if approach == QAT else None
    int8 = one(net())
    assert one.result.status == "met"
    assert one.result.int8_ops == ("first", "second", "head")
    assert by_parts(int8) == one.result.accuracy


def test_the_best_model_comes_back_where_none_is_good_enough(workspace: Path) -> None:
    one = quantization(workspace, tuning=HARD)
    assert one(net()) is one.result.model
    assert one.result.status == "budget_exhausted"


def test_a_lightning_module_is_a_module(workspace: Path) -> None:
    import lightning.pytorch as pl

    class Lit(pl.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.net = net()

        def forward(self, x):
            return self.net(x)

    assert isinstance(quantization(workspace)(Lit()), Lit)


# What it leaves as it was


@both
def test_the_users_world_is_as_before(workspace: Path, approach: str) -> None:
    model = net()
    model.norm.eval()
    before = world(model)
    int8 = quantization(workspace, approach)(model)
    check_same_world(before, model)
    assert not int8.training
    assert not {id(one) for one in int8.parameters()} & set(before["tensors"])


@both
def test_a_function_that_fails_leaves_the_world_as_before(workspace: Path, approach: str) -> None:
    def fail(*_: object) -> float:
        torch.rand(1)
        raise KeyError("the user's own")

    one, model = quantization(workspace, approach), net()
    one.eval_func, one.q_func = (accuracy, fail) if approach == QAT else (fail, None)
    before = world(model)
    with pytest.raises(KeyError if approach == QAT else EvaluationError, match="the user's own"):
        one(model)
    check_same_world(before, model)
    assert one.result is None
    WorkspaceLock(workspace).acquire()  # nobody holds it any more


def test_a_call_that_fails_has_no_result_of_the_one_before(workspace: Path) -> None:
    one = quantization(workspace)
    one(net())
    with pytest.raises(EvaluationError):
        one(net(), eval_func=lambda model: None)
    assert one.result is None


def test_a_loader_that_shuffles_gives_the_same_in_each_call(
    tmp_path: Path, workspace: Path
) -> None:
    own = torch.Generator().manual_seed(3)
    before = own.get_state()
    found = []
    for name in ("one", "two"):
        one = quantization(tmp_path / name)
        one.calib_dataloader = train_loader(shuffle=True, generator=own)
        found.append(one(net()))
    assert same(*found)
    assert torch.equal(own.get_state(), before)


def test_a_training_draws_by_the_seed_of_the_conf(tmp_path: Path, workspace: Path) -> None:
    seeds = {"one": 5, "two": 5, "three": 6}
    made = {}
    for name, seed in seeds.items():
        torch.manual_seed(len(made))
        made[name] = quantization(tmp_path / name, QAT, tuning={"random_seed": seed})(net())
    assert same(made["one"], made["two"])
    assert not same(made["one"], made["three"])


# Its files


@both
def test_what_load_restores_is_what_was_judged(workspace: Path, approach: str) -> None:
    one, model = quantization(workspace, approach), net()
    int8 = one(model)
    files = {path.name for path in workspace.iterdir()} - {"lock"}
    assert files == {
        "best_configure.yaml",
        "best_model_weights.pt",
        "deploy.yaml",
        "history.jsonl",
        "report.html",
        "result.json",
    }
    paths = workspace / "best_configure.yaml", workspace / "best_model_weights.pt"
    restored = lpot_lightning.load(*paths, model)
    assert same(restored, int8)
    assert accuracy(restored) == one.result.accuracy
    found = yaml.safe_load(paths[0].read_text())
    assert (found["approach"], found["accuracy"]["monitor"]) == (approach, "accuracy")


@both
def test_a_second_call_repeats_no_finished_trial(workspace: Path, approach: str) -> None:
    first, again = quantization(workspace, approach, tuning=HARD), Judge()
    one = first(net())
    second = quantization(workspace, approach, tuning=HARD)
    second.eval_func = again
    assert same(second(net()), one)
    assert all(trial.replayed for trial in second.result.trials)
    assert len(second.result.trials) == 4
    assert again.calls == (2 if approach == QAT else 1)  # what fp32 can do


SCENES = str(Path(__file__).parents[1] / "scenes")
KILLED = """
import os, signal, sys
sys.path.insert(0, sys.argv[2])
from plain_scenes import HARD, Judge, net, quantization
one = quantization(sys.argv[1], tuning=HARD)
one.eval_func = Judge(4, lambda: os.kill(os.getpid(), signal.SIGKILL))
one(net())
"""


def test_a_run_that_was_killed_goes_on(tmp_path: Path, workspace: Path) -> None:
    whole = quantization(tmp_path / "whole", tuning=HARD)
    never_killed = whole(net())
    command = [python(), "-c", KILLED, str(workspace), SCENES]
    assert subprocess.run(command, timeout=120, check=False).returncode == -signal.SIGKILL
    one, judge = quantization(workspace, tuning=HARD), Judge()
    one.eval_func = judge
    assert same(one(net()), never_killed)
    assert [trial.replayed for trial in one.result.trials] == [True, True, False, False]
    assert judge.calls == 3
    assert [t.recipe for t in one.result.trials] == [t.recipe for t in whole.result.trials]


def test_ctrl_c_ends_with_its_code_and_says_what_is_on_disk(workspace: Path, caplog) -> None:
    caplog.set_level(logging.INFO)
    one = quantization(workspace, tuning=HARD)
    one.eval_func = Judge(3, lambda: signal.raise_signal(signal.SIGINT))
    with pytest.raises(SystemExit) as ended:
        one(net())
    assert ended.value.code == 130
    assert "interrupted: 1 finished trial and the best model so far" in caplog.text


def test_a_workspace_in_use_is_left_alone(workspace: Path) -> None:
    one = quantization(workspace)
    with WorkspaceLock(workspace):
        one(net())
    assert one.result.workspace == workspace / "parallel" / "1"
    assert not (workspace / "history.jsonl").exists()
    goes_on = {"workspace": {"resume": str(one.result.workspace)}}
    again = quantization(workspace, tuning=goes_on)
    again(net())
    assert again.result.workspace == one.result.workspace
    assert all(trial.replayed for trial in again.result.trials)


def test_without_a_path_files_go_where_lpot_would_look(workspace: Path) -> None:
    asked = conf("")
    del asked["tuning"]
    Quantization(asked)(net(), train_loader(), eval_func=accuracy)
    assert Path("lpot_workspace/pytorch_fx/corners/best_configure.yaml").exists()


# Training


def test_q_func_trains_a_second_model_that_rounds(workspace: Path) -> None:
    held: list[nn.Module] = []

    def q_func(model: nn.Module) -> nn.Module:
        held.append(model)
        assert all(one.training for one in model.modules())
        assert {value.dtype for value in model.parameters()} == {torch.float32}
        plain = Net()
        plain.load_state_dict(copy.deepcopy(model.state_dict()))
        assert not torch.equal(plain(IMAGES), model(IMAGES))
        train(model)
        return model

    model = net()
    one = quantization(workspace, QAT)
    one.q_func = q_func
    one(model.eval())
    (trained,) = held
    assert trained is not model
    assert "forward" not in vars(trained)
    assert not any(one._forward_pre_hooks or "forward" in vars(one) for one in trained.modules())
    plain = Net().eval()
    plain.load_state_dict(trained.state_dict())
    assert same(trained.eval(), plain)


def test_training_makes_int8_what_calibration_cannot(tmp_path: Path, workspace: Path) -> None:
    fragile, scale = net(), torch.logspace(-1.7, 1.7, 8)
    with torch.no_grad():
        fragile.norm.weight *= scale
        fragile.norm.bias *= scale
        fragile.second.weight /= scale[:, None, None]
    found = {}
    for approach in APPROACHES:
        one = quantization(
            tmp_path / approach,
            approach,
            tuning={
                "exit_policy": {"max_trials": 1},
                "accuracy_criterion": {"relative": 0.03},  # 1 % are a few of these images
            },
            recipes=dict.fromkeys(CORRECTIONS, False),
        )
        one.q_func = (lambda model: train(model, lr=0.003)) if approach == QAT else None
        one(fragile)
        found[approach] = one.result
    calibrated, trained = found.values()
    assert (calibrated.status, trained.status) == ("budget_exhausted", "met")
    assert trained.accuracy > calibrated.accuracy + 0.02


def test_the_baseline_is_the_better_of_before_and_after(workspace: Path, tmp_path: Path) -> None:
    def spoil(model: nn.Module) -> None:
        model(IMAGES)
        nn.init.zeros_(model.head.weight)

    untrained = Net()
    better = quantization(tmp_path / "better", QAT)
    better(untrained)
    assert better.result.baseline > accuracy(untrained.eval()) + 0.2
    worse = quantization(tmp_path / "worse", QAT)
    worse.q_func = spoil
    worse(net())
    assert worse.result.baseline == accuracy(net().eval())
    assert worse.result.status == "not_met"


def test_one_bad_batch_spoils_no_range(workspace: Path) -> None:
    def q_func(model: nn.Module) -> None:
        for value in (1.0, float("nan"), 1.0):
            model(torch.full((4, 8), value))

    model = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 2))
    one = quantization(workspace, QAT)
    one.q_func, one.eval_func = q_func, lambda model: 2 + float(model(torch.ones(4, 8)).mean())
    one(model)
    assert one.result.status == "met"
    assert one.result.int8_ops == ("0", "2")


def _nothing(model: nn.Module) -> None:
    pass


def _in_eval_mode(model: nn.Module) -> None:
    model.eval()
    model(IMAGES)


def _another(model: nn.Module) -> nn.Module:
    model(IMAGES)
    return copy.deepcopy(model)


def _all_nan(model: nn.Module) -> None:
    model(IMAGES * float("nan"))


def _to_nan(model: nn.Module) -> None:
    model(IMAGES)
    nn.init.constant_(model.head.weight, float("nan"))


@pytest.mark.parametrize(
    ("q_func", "kind", "match"),
    [
        (_nothing, QuantizationError, "it was shown no data in training mode; call the model"),
        (_in_eval_mode, QuantizationError, "it was shown no data in training mode"),
        (_another, QuantizationError, "returned another `Net` than the model it was given"),
        (_all_nan, DataError, "activations are not finite after the training"),
        (_to_nan, DataError, r"`head\.weight` is not finite after `q_func`"),
    ],
)
def test_a_training_that_is_none_is_told(workspace: Path, q_func, kind, match: str) -> None:
    one = quantization(workspace, QAT)
    one.q_func = q_func
    with pytest.raises(kind, match=match):
        one(net())


def test_layers_that_are_called_by_themselves_learn(workspace: Path) -> None:
    one = quantization(workspace, QAT)
    one.q_func = train_by_parts
    one(net())
    assert one.result.int8_ops == ("first", "second", "head")


def test_a_frozen_part_in_eval_mode_learns_and_an_evaluation_teaches_nothing(
    workspace: Path,
) -> None:
    def q_func(model: nn.Module) -> None:
        model[0].eval().requires_grad_(False)
        model(torch.ones(4, 8))
        learned.append(float(vars(model[0])["forward"]._input._ranges.high.max()))
        model.eval()
        model(1000 * torch.ones(4, 8))
        learned.append(float(vars(model[0])["forward"]._input._ranges.high.max()))

    learned: list[float] = []
    one = quantization(workspace, QAT)
    one.q_func, one.eval_func = q_func, lambda model: 2 + float(model(torch.ones(4, 8)).mean())
    one(nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 2)))
    assert 1.0 <= learned[0] == learned[1] < 100.0


def test_a_model_that_cannot_be_trained_is_told_before_the_training(workspace: Path) -> None:
    one = quantization(workspace, QAT)
    with pytest.raises(QuantizationError, match="none of its parameters has `requires_grad`"):
        one(net().requires_grad_(False))


# What is refused


def test_post_training_calibrates_on_what_there_is(workspace: Path, caplog) -> None:
    caplog.set_level(logging.INFO)
    one = quantization(workspace)
    one.calib_dataloader, one.eval_dataloader = None, eval_loader()
    one(net())
    assert "calibrating on `eval_dataloader`" in caplog.text


@pytest.mark.parametrize(
    ("given", "kind", "match"),
    [
        ({"model": None}, ConfError, "there is no model"),
        ({"model": "model.pt"}, ConfError, "`model` is a `str`; allowed: an `nn.Module`"),
        ({"model": Net}, ConfError, "`model` is a `type`"),
        ({"eval_func": None}, ConfError, "there is no `eval_func` to judge by"),
        ({"eval_func": 0.9}, ConfError, "`eval_func` is a `float`"),
        ({"eval_func": None, "eval_dataloader": [1]}, ConfError, "and data without a metric"),
        ({"calib_dataloader": None}, DataError, "there is no data to calibrate on"),
        ({"calib_dataloader": 3}, ConfError, "`q_dataloader` is a `int`"),
        ({"calib_dataloader": []}, DataError, "the calibration dataloader is empty"),
        ({"q_func": train}, ConfError, "there is a `q_func`, and `quantization.approach`"),
        ({"eval_func": lambda model: None}, EvaluationError, "returned a `NoneType`; allowed"),
        ({"eval_func": lambda model: float("nan")}, EvaluationError, "`accuracy` is nan"),
        ({"model": nn.Linear(2, 2).double()}, QuantizationError, r"call `model\.float\(\)` first"),
        ({"model": nn.Linear(2, 2)}, DataError, "`Linear` cannot take a batch of the calibration"),
    ],
)
def test_bad_input_of_a_calibration(workspace: Path, given, kind, match: str) -> None:
    one = quantization(workspace)
    for name, value in {"model": net(), **given}.items():
        setattr(one, name, value)
    with pytest.raises(kind, match=match):
        one()


@pytest.mark.parametrize(
    ("given", "kind", "match"),
    [
        ({"q_func": None}, ConfError, "there is no `q_func` to train by"),
        ({"q_func": 3}, ConfError, "`q_func` is a `int`"),
        (
            {"eval_func": lambda model: accuracy(model) * float("inf")},
            EvaluationError,
            "returned inf for the fp32",
        ),
    ],
)
def test_bad_input_of_a_training(workspace: Path, given, kind, match: str) -> None:
    one = quantization(workspace, QAT)
    for name, value in given.items():
        setattr(one, name, value)
    with pytest.raises(kind, match=match):
        one(net())


LOADER = {"dataset": {"dummy": {"shape": [8, 1, 8, 8]}}}


def test_what_functions_and_loaders_replace_is_said(workspace: Path) -> None:
    asked = conf(workspace, calibration={"dataloader": LOADER})
    asked["evaluation"] = {"accuracy": {"metric": {"topk": 1}, "iteration": 3}}
    one = Quantization(asked)
    with pytest.warns(UserWarning, match="that are given replace") as caught:
        one(net(), train_loader(), eval_func=accuracy)
    (warning,) = caught
    assert warning.filename == __file__
    for key in ("calibration.dataloader", "accuracy.metric", "accuracy.iteration"):
        assert key in str(warning.message)


def test_too_few_samples_are_said(workspace: Path) -> None:
    one = quantization(workspace, calibration={"sampling_size": 1000})
    with pytest.warns(UserWarning, match="has 256 samples.*asks for 1000: all") as caught:
        one(net())
    assert caught[0].filename == __file__


def test_nothing_is_said_of_a_number_that_nobody_asked_for(workspace: Path) -> None:
    one = quantization(workspace, calibration={})
    one.calib_dataloader = DataLoader(corners(64, seed=0), batch_size=32)  # the default is 100
    one(net())


@pytest.mark.parametrize(("given", "came"), [({}, "neither"), ({"conf_fname": {}}, "both")])
def test_one_conf_is_given(workspace: Path, given, came: str) -> None:
    positional = [conf(workspace)] if given else []
    with pytest.raises(ConfError, match=f"{came} of `conf` and `conf_fname`"):
        Quantization(*positional, **given)


def test_a_conf_that_asks_for_something_else_is_refused(workspace: Path) -> None:
    asked = conf(workspace)
    del asked["quantization"]
    asked["pruning"] = {"approach": {"weight_compression": {"pruners": [{}]}}}
    with pytest.raises(LpotError, match="`Quantization` does not prune"):
        Quantization(asked)


# What it says


def test_what_it_says_is_seen_where_nobody_set_up_logging(workspace: Path) -> None:
    program = (
        f"import sys; sys.path.insert(0, {SCENES!r})\n"
        "from plain_scenes import net, quantization\n"
        f"quantization({str(workspace)!r})(net())\n"
    )
    command = [python(), "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout == ""
    assert "fp32 `accuracy` = " in done.stderr
    assert "trial 1: 3 ops int8, 0 fp32: accuracy 0." in done.stderr
    assert "status             met" in done.stderr
    assert "hopeless" not in done.stderr


@both
def test_the_result_knows_its_calls_and_judges_another_model(workspace, approach):
    quantize = quantization(workspace, approach)
    quantize(net())
    origin, result = quantize.result.origin, quantize.result
    assert (origin.root, origin.monitor, origin.accuracy) == ("", "accuracy", result.accuracy)
    sizes = {APPROACHES[0]: [32, 32], QAT: [400]}  # of the calibration data, or the judge's
    assert [len(call.args[0]) for call in origin.calls] == sizes[approach]
    assert origin.judge(copy.deepcopy(result.model)) == result.accuracy
    assert origin.judge(Net().eval()) < result.accuracy
