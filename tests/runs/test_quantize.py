from __future__ import annotations

import copy
import gc
import json
from collections.abc import Generator
from pathlib import Path

import pytest
import torch
import yaml
from small_run import NO_REPAIR, Agreement, Net, net, run
from torch import nn
from torch.ao.nn.quantized import FloatFunctional
from torch.fx import Node

import lpot_lightning
from lpot_lightning.conf.reader import read_conf
from lpot_lightning.errors import ArtifactError, ConfError, EvaluationError, QuantizationError
from lpot_lightning.judging.protocols import Monitor
from lpot_lightning.module.fingerprint import content_hash
from lpot_lightning.recipe import FP32, Recipe
from lpot_lightning.runs.workspace import Workspace
from lpot_lightning.tuning import journal
from lpot_lightning.tuning.score import Score
from lpot_lightning.tuning.space import Space
from lpot_lightning.tuning.strategies.strategy import SearchContext, Strategy
from lpot_lightning.tuning.strategies.table import STRATEGIES
from lpot_lightning.tuning.trial import Trial

FRAGILE = {"narrow"}


def test_a_good_natured_net_needs_two_passes() -> None:
    result = run(net())
    assert (result.status, result.evaluations, result.fp32_ops) == ("met", 2.0, ())
    assert result.int8_ops == ("first", "wide", "narrow", "last")


def test_a_direction_that_was_guessed_is_told_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Agreement, "monitor", Monitor("FID", True, is_guessed=True))
    said: list[str] = []
    run(net(), said=said)
    assert sum("`FID` is taken as higher is better" in line for line in said) == 1


def test_a_metric_with_a_line_break_in_its_name_breaks_no_line(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Agreement, "monitor", Monitor("val\nacc", True))
    said: list[str] = []
    result = run(net(), said=said)
    assert all("\n" not in line for line in said)
    assert "\n" not in repr(result)
    assert "int8 val\\nacc" in str(result).split("\n")[0]
    assert result.table().startswith("fp32 val\\nacc ")


def test_auto_leaves_exactly_the_fragile_ops_in_fp32() -> None:
    result = run(net(fragile=True), quantization=NO_REPAIR)
    assert result.status == "met"
    assert set(result.fp32_ops) == FRAGILE
    assert result.repairs == ()
    assert result.evaluations <= 6


def test_auto_repairs_what_can_be_repaired_and_leaves_nothing_in_fp32(tmp_path: Path) -> None:
    model = net(fragile=True)
    before = content_hash(model.state_dict())
    said: list[str] = []
    result = run(copy.deepcopy(model), folder=tmp_path, said=said)
    assert (result.status, result.fp32_ops, len(result.trials)) == ("met", (), 2)
    assert {one.op for one in result.repairs} == FRAGILE
    assert any("cross_layer_equalization" in line for line in said)
    found = yaml.safe_load((tmp_path / "best_configure.yaml").read_text())
    assert found["op"]["narrow"]["corrections"][0] == "cross_layer_equalization"
    restored = lpot_lightning.load(
        tmp_path / "best_configure.yaml", tmp_path / "best_model_weights.pt", model
    )
    x = torch.randn(16, 8)
    assert torch.equal(restored(x), result.model(x))
    assert content_hash(model.state_dict()) == before


@pytest.mark.parametrize("recipe", ["fast_bias_correction", "weight_correction"])
def test_a_correction_that_is_asked_for_is_there_from_the_first_trial(recipe: str) -> None:
    result = run(net(), quantization={"recipes": {recipe: True}})
    assert len(result.trials) == 1
    assert all(recipe in op.corrections for _, op in result.trials[0].recipe.ops)


@pytest.mark.parametrize("objective", ["modelsize", "footprint"])
def test_the_objective_is_measured_in_every_trial_that_is_judged(objective: str) -> None:
    result = run(net(fragile=True), quantization=NO_REPAIR, objective=objective)
    judged = [one.score for one in result.trials if not one.score.screened]
    assert result.objective == objective
    assert all(one.objective is not None and one.objective > 0 for one in judged)
    assert result.pareto[-1].accepted


@pytest.mark.parametrize("name", ["basic", "mse"])
def test_lpots_strategies_meet_the_goal_in_their_own_order(name: str) -> None:
    result = run(net(fragile=True), strategy={"name": name})
    assert result.status == "met"
    assert set(result.fp32_ops) >= FRAGILE


@pytest.mark.usefixtures("with_graphs")
def test_the_graphs_of_trials_do_not_pile_up() -> None:
    nodes: list[int] = []

    def count(trial: Trial) -> None:
        if trial.number in (6, 24):  # to look at all objects takes as long as a trial
            nodes.append(sum(type(one) is Node for one in gc.get_objects()))

    gc.disable()
    try:
        run(
            net(fragile=True),
            strategy={"name": "exhaustive"},
            exit_policy={"max_trials": 24},
            on_trial=count,
        )
    finally:
        gc.enable()
    assert nodes[1] < nodes[0]


@pytest.mark.parametrize("name", ["random", "exhaustive"])
def test_lpots_strategies_without_fallback_keep_everything_int8(name: str) -> None:
    result = run(net(fragile=True), strategy={"name": name}, exit_policy={"max_trials": 6})
    assert result.status == "budget_exhausted"
    assert len({trial.recipe.key for trial in result.trials}) == 6
    assert result.fp32_ops == ()


def test_bayesian_guides_settings_and_keeps_everything_int8() -> None:
    strategy = {"name": "bayesian"}
    result = run(net(fragile=True), strategy=strategy, exit_policy={"max_trials": 13})
    assert result.status == "budget_exhausted"
    assert len({trial.recipe.key for trial in result.trials}) == 13
    assert result.fp32_ops == ()


def test_tpe_leaves_the_fragile_ops_in_fp32() -> None:
    result = run(net(fragile=True), strategy={"name": "tpe"})
    assert result.status == "met"
    assert set(result.fp32_ops) >= FRAGILE


def test_tpe_is_told_the_cost_and_the_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[SearchContext] = []

    def search_nothing(space: Space, search: SearchContext) -> Generator[Recipe, Score, None]:
        asked.append(search)
        yield space.all_int8().with_fp32(["last"])

    monkeypatch.setitem(STRATEGIES, "tpe", Strategy(name="tpe", search=search_nothing))
    run(net(), strategy={"name": "tpe", "latency_weight": 3}, objective="modelsize")
    search = asked[0]
    assert (search.accuracy_weight, search.latency_weight) == (1.0, 3.0)
    assert search.cost(Recipe.of({"last": FP32})) == (16 * 4 + 4) * 4


def test_the_model_that_comes_back_is_the_one_that_was_judged() -> None:
    model = net(fragile=True)
    judge = Agreement(model)
    result = run(model, judge)
    assert judge.evaluate(result.model, "int8").accuracy == result.accuracy
    assert not any(p.requires_grad for p in result.model.parameters())


def test_the_files_give_the_same_model_whatever_weights_the_class_starts_with(
    tmp_path: Path,
) -> None:
    model = net(fragile=True)
    judge = Agreement(model)
    result = run(model, judge, folder=tmp_path)
    torch.manual_seed(7)
    files = tmp_path / "best_configure.yaml", tmp_path / "best_model_weights.pt"
    restored = lpot_lightning.load(*files, Net())
    assert torch.equal(restored(judge.inputs), result.model(judge.inputs))


def test_the_tune_config_is_plain_yaml_for_people(tmp_path: Path) -> None:
    run(net(fragile=True), folder=tmp_path, quantization=NO_REPAIR)
    found = yaml.safe_load((tmp_path / "best_configure.yaml").read_text())
    assert found["op"]["narrow"]["activation"] == {"dtype": "fp32"}
    assert found["op"]["first"]["activation"]["scale"] > 0
    assert found["accuracy"]["met"] is True


def test_deploy_yaml_is_a_conf_again(tmp_path: Path) -> None:
    run(net(), folder=tmp_path)
    conf = read_conf(tmp_path / "deploy.yaml")
    assert conf.model.name == "small"
    assert conf.evaluation is not None
    assert conf.evaluation.performance is not None


def test_a_deploy_yaml_that_was_changed_is_told_and_what_to_do(tmp_path: Path) -> None:
    run(net(), folder=tmp_path)
    path = tmp_path / "deploy.yaml"
    line, rest = path.read_bytes().split(b"\n", 1)
    path.write_bytes(line + b"\n" + rest.replace(b"small", b"smell"))
    with pytest.raises(ConfError, match=r"deploy.yaml:1: it is not as .*remove its first line if"):
        read_conf(path)
    path.write_bytes(rest.replace(b"small", b"smell"))
    assert read_conf(path).model.name == "smell"


def test_a_deploy_yaml_of_an_earlier_version_is_the_same_one(tmp_path: Path) -> None:
    run(net(), folder=tmp_path)
    path = tmp_path / "deploy.yaml"
    written = path.read_bytes()
    path.write_bytes(written.split(b"\n", 1)[1])
    run(net(), folder=tmp_path)
    assert path.read_bytes() == written
    assert not (tmp_path / "deploy.1.yaml").exists()


def test_another_deploy_yaml_is_kept_and_it_is_said(tmp_path: Path) -> None:
    lpots = "model: {name: net, framework: pytorch}\n"
    (tmp_path / "deploy.yaml").write_text(lpots)
    said: list[str] = []
    for _ in range(2):
        run(net(), folder=tmp_path, said=said)
    kept = tmp_path / "deploy.1.yaml"
    assert kept.read_text() == lpots
    assert said.count(f"the `deploy.yaml` of another run is kept as `{kept}`") == 1
    assert not (tmp_path / "deploy.2.yaml").exists()


def test_a_trial_of_another_model_is_told_with_its_line(tmp_path: Path) -> None:
    run(net(), folder=tmp_path)
    path = tmp_path / "history.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    place = next(n for n, line in enumerate(lines) if b'"kind": "trial"' in line)
    record = json.loads(lines[place])
    record["recipe"]["elsewhere"] = record["recipe"]["first"]
    content = {name: one for name, one in record.items() if name not in ("seq", "crc")}
    lines[place] = journal._encode(place, content)
    path.write_bytes(b"".join(lines))
    told = rf"history.jsonl`, line {place + 1}: .*the model has no op `elsewhere`"
    with pytest.raises(ArtifactError, match=told):
        run(net(), folder=tmp_path)


def test_a_second_run_repeats_no_trial(tmp_path: Path) -> None:
    first = run(net(fragile=True), folder=tmp_path)
    judge = Agreement(net(fragile=True))
    said: list[str] = []
    second = run(net(fragile=True), judge, folder=tmp_path, said=said)
    assert judge.passes == 1
    assert (second.accuracy, second.fp32_ops) == (first.accuracy, first.fp32_ops)
    assert [t.recipe for t in second.trials] == [t.recipe for t in first.trials]
    assert any("finished trials" in line for line in said)


def test_a_run_that_died_goes_on_and_ends_the_same(tmp_path: Path) -> None:
    class Killed(BaseException):
        pass

    def die(trial: Trial) -> None:
        if trial.number == 2:
            raise Killed

    whole = run(net(fragile=True), folder=tmp_path / "whole")
    with pytest.raises(Killed):
        run(net(fragile=True), folder=tmp_path / "cut", on_trial=die)
    judge = Agreement(net(fragile=True))
    resumed = run(net(fragile=True), judge, folder=tmp_path / "cut")
    assert judge.passes == 1 + len(whole.trials) - 2
    assert resumed.fp32_ops == whole.fp32_ops
    for file in ("best_model_weights.pt", "deploy.yaml"):
        ours, theirs = tmp_path / "cut" / file, tmp_path / "whole" / file
        assert ours.read_bytes() == theirs.read_bytes()


def test_the_best_model_is_on_disk_the_moment_it_is_best(tmp_path: Path) -> None:
    def look(trial: Trial) -> None:
        found = yaml.safe_load((tmp_path / "best_configure.yaml").read_text())
        if trial.number == 1:
            assert found["accuracy"]["int8"] == trial.score.accuracy
        seen.append(found["accuracy"]["met"])

    seen: list[bool] = []
    run(net(fragile=True), folder=tmp_path, on_trial=look)
    assert seen[0] is False
    assert seen[-1] is True


def test_files_of_a_better_trial_that_a_kill_left_unwritten_are_written_by_the_next_run(
    tmp_path: Path,
) -> None:
    run(net(), folder=tmp_path)
    for file in ("best_configure.yaml", "best_model_weights.pt"):
        (tmp_path / file).unlink()
    run(net(), folder=tmp_path)
    files = tmp_path / "best_configure.yaml", tmp_path / "best_model_weights.pt"
    lpot_lightning.load(*files, Net())


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"random_seed": 3}, "config"),
        ({"accuracy_criterion": {"relative": 0.2}}, "config"),
    ],
)
def test_another_conf_starts_anew_and_keeps_the_old_history(
    tmp_path: Path, change: dict[str, object], what: str
) -> None:
    run(net(fragile=True), folder=tmp_path)
    said: list[str] = []
    judge = Agreement(net(fragile=True))
    run(net(fragile=True), judge, folder=tmp_path, said=said, **change)
    assert judge.passes >= 2
    assert any("earlier/1`" in line and what in line for line in said)
    assert (tmp_path / "earlier" / "1" / "history.jsonl").exists()


def test_other_weights_start_anew(tmp_path: Path) -> None:
    run(net(), folder=tmp_path)
    other = net()
    with torch.no_grad():
        other.last.bias += 0.1
    said: list[str] = []
    run(other, folder=tmp_path, said=said)
    assert any("weights" in line and "earlier/1`" in line for line in said)


def test_more_trials_than_before_go_on_with_the_history(tmp_path: Path) -> None:
    short = run(net(fragile=True), folder=tmp_path, exit_policy={"max_trials": 1})
    assert short.status == "budget_exhausted"
    judge = Agreement(net(fragile=True))
    longer = run(net(fragile=True), judge, folder=tmp_path, exit_policy={"max_trials": 50})
    assert longer.status == "met"
    assert judge.passes == len(longer.trials)  # the baseline, and all trials but the first


def test_resume_of_a_history_that_does_not_match_is_an_error(tmp_path: Path) -> None:
    run(net(), folder=tmp_path)
    resume = {"path": str(tmp_path), "resume": str(tmp_path / "history.jsonl")}
    with pytest.raises(ArtifactError, match=r"history\.jsonl"):
        run(net(), folder=tmp_path, workspace=resume, random_seed=3)
    assert not (tmp_path / "earlier").exists()


def test_resume_goes_on_in_the_history_it_names(tmp_path: Path) -> None:
    run(net(fragile=True), folder=tmp_path / "old")
    judge = Agreement(net(fragile=True))
    resume = {"path": str(tmp_path / "new"), "resume": str(tmp_path / "old")}
    run(net(fragile=True), judge, folder=tmp_path / "new", workspace=resume)
    assert judge.passes == 1
    assert (tmp_path / "new" / "best_configure.yaml").exists()


def test_an_unreachable_goal_gives_the_best_there_is_and_says_so() -> None:
    result = run(net(fragile=True), accuracy_criterion={"absolute": -1.0})
    assert result.status == "not_met"
    assert result.accuracy == max(t.score.accuracy or 0 for t in result.trials)


def test_performance_only_takes_the_first_trial() -> None:
    result = run(net(fragile=True), exit_policy={"performance_only": True})
    assert (len(result.trials), result.fp32_ops, result.status) == (1, (), "not_met")


def test_modelsize_gives_up_small_layers_before_large_ones() -> None:
    unmet = {"accuracy_criterion": {"absolute": -1.0}, "exit_policy": {"max_trials": 6}}
    result = run(net(), objective="modelsize", **unmet)
    given_up = {op for trial in result.trials for op in trial.recipe.fp32_ops}
    assert {"first", "last"} <= given_up
    assert "wide" not in given_up


def test_other_calibration_data_starts_anew(tmp_path: Path) -> None:
    run(net(), folder=tmp_path)
    other, said = Agreement(net()), []
    other.batches = other.batches[:1]
    run(net(), other, folder=tmp_path, said=said)
    assert any("calibration data" in line and "earlier/1`" in line for line in said)


def test_everything_in_fp32_is_no_quantization(tmp_path: Path) -> None:
    judge = Agreement(net())
    fp32 = {"activation": {"dtype": ["fp32"]}}
    with pytest.raises(ConfError, match="no op is left that may be int8"):
        run(net(), judge, folder=tmp_path / "ws", quantization={"op_wise": {".*": fp32}})
    assert judge.passes == 0
    assert not (tmp_path / "ws").exists()


def test_int8_that_is_slower_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lpot_lightning.timing.ratio.MOST", 5)
    said: list[str] = []
    judge = Agreement(net())
    seconds = iter([0.0, *[1.0, 2.0, 2.0, 1.0] * 20])  # the graphs are tried out first
    judge.step_seconds = lambda model, runs=1: [next(seconds) for _ in range(runs)]  # type: ignore[method-assign]
    result = run(net(), judge, said=said)
    assert result.speedup == 0.5
    assert result.speedup_spread == (0.5, 0.5)
    assert any("slower than fp32 here, 0.50x (0.50x to 0.50x)" in line for line in said)


@pytest.mark.parametrize(
    ("modules", "int8"),
    [
        (("first",), ("first",)),
        (("*w*",), ("wide", "narrow")),
        (("first", "last"), ("first", "last")),
    ],
)
def test_modules_names_what_may_be_quantized(
    modules: tuple[str, ...], int8: tuple[str, ...]
) -> None:
    assert run(net(), modules=modules).int8_ops == int8


def test_modules_that_match_nothing_are_told_before_the_first_pass() -> None:
    judge = Agreement(net())
    with pytest.raises(ConfError, match=r"`modules` has `frist`.*Did you mean `first`\?"):
        run(net(), judge, modules=("frist",))
    assert judge.passes == 0


def test_op_wise_is_obeyed() -> None:
    fp32 = {"weight": {"dtype": ["fp32"]}, "activation": {"dtype": ["fp32"]}}
    result = run(net(), quantization={"op_wise": {"first": fp32, "l.*": fp32}})
    assert result.fp32_ops == ("first", "last")


def test_op_wise_that_matches_nothing_is_told_before_the_first_pass() -> None:
    judge = Agreement(net())
    fp32 = {"activation": {"dtype": ["fp32"]}}
    with pytest.raises(ConfError, match=r"op_wise\.frist` matches no op.*`first`"):
        run(net(), judge, quantization={"op_wise": {"frist": fp32}})
    assert judge.passes == 0


class Pieces(nn.Module):
    """As a model is written for LPOT's eager backend: what it adds and joins are modules."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(8, 8), nn.Linear(16, 4)
        self.f_cat, self.f_add, self.relu = FloatFunctional(), FloatFunctional(), nn.ReLU()
        self.norm = nn.LayerNorm(8)

    def forward(self, x):
        one = self.relu(self.first(x))
        return self.last(self.f_cat.cat([self.f_add.add(one, x), self.norm(x)], dim=1))


@pytest.mark.parametrize("key", ["f_cat", "f_[a-c].*", "relu", "norm"])
def test_op_wise_of_a_module_that_is_no_op_has_no_effect_and_that_is_said(key: str) -> None:
    said: list[str] = []
    asked = {"op_wise": {key: {"activation": {"dtype": ["fp32"]}}}}
    result = run(Pieces().eval(), quantization=asked, said=said)
    assert result.fp32_ops == ()
    assert any(line.startswith(f"`quantization.op_wise.{key}` has no effect: `") for line in said)
    assert any(line.endswith(" is no op here") for line in said)


@pytest.mark.parametrize("key", ["f_cta", "norm", ".*layer"])
def test_op_wise_of_what_is_not_there_or_cannot_be_int8_is_refused(key: str) -> None:
    asked = {"op_wise": {key: {"activation": {"dtype": ["uint8"]}}}}
    with pytest.raises(ConfError, match="matches no op"):
        run(Pieces().eval(), quantization=asked)


def test_a_baseline_that_is_no_number_ends_the_run(tmp_path: Path) -> None:
    judge = Agreement(net(), spoil_all=lambda right: float("nan"))
    with pytest.raises(EvaluationError, match="`agreement` is nan"):
        run(net(), judge, folder=tmp_path / "ws")
    assert not (tmp_path / "ws").exists()


def test_a_relative_goal_at_a_baseline_of_zero_is_refused(tmp_path: Path) -> None:
    judge = Agreement(net(), spoil_all=lambda right: 0.0)
    with pytest.raises(ConfError, match="use `absolute`"):
        run(net(), judge, folder=tmp_path / "ws")
    assert not (tmp_path / "ws").exists()


def test_nan_in_a_trial_fails_that_trial_only() -> None:
    scores = iter([float("nan"), 0.999, 0.999, 0.999, 0.999])
    model = net(fragile=True)
    result = run(model, Agreement(model, spoil=lambda right: next(scores)))
    assert result.trials[0].score.failure == "the accuracy is `nan`"
    assert result.accuracy == 0.999


def test_a_model_without_an_op_says_so() -> None:
    class Sum(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.stack([x.sum(1)] * 4, 1)

    with pytest.raises(QuantizationError, match="no op of `Sum` can be quantized"):
        run(Sum())


def test_half_precision_is_refused() -> None:
    model = net()
    judge = Agreement(model)
    with pytest.raises(QuantizationError, match=r"`first.weight` is float64.*`model.float\(\)`"):
        run(model.double(), judge)


def test_the_expected_duration_is_said_after_the_baseline() -> None:
    said: list[str] = []
    run(net(), said=said)
    assert any("one validation pass took" in line and "expected" in line for line in said)


def test_the_table_tells_the_run() -> None:
    table = run(net(fragile=True), quantization=NO_REPAIR).table()
    for piece in ("fp32 agreement", "validation passes", "ops int8 / fp32", "narrow"):
        assert piece in table


@pytest.mark.parametrize(
    ("asked", "folder"),
    [
        ({}, "lpot_workspace/pytorch/net"),
        ({"path": "here"}, "here"),
        ({"resume": "old/history.jsonl"}, "old"),
        ({"path": "here", "resume": "old/history.jsonl"}, "here"),
    ],
)
def test_where_files_go(asked: dict[str, str], folder: str, tmp_path: Path) -> None:
    tuning = {"workspace": asked} if asked else {}
    model = {"name": "net", "framework": "pytorch"}
    assert Workspace.of(read_conf({"model": model, "tuning": tuning})).folder == tmp_path / folder


def test_a_step_that_fails_by_itself_is_not_blamed_on_the_graphs() -> None:
    judge = Agreement(net())

    def fail(model: nn.Module, runs: int = 1) -> list[float]:
        raise RuntimeError("out of patience")

    judge.step_seconds = fail  # type: ignore[method-assign]
    with pytest.raises(EvaluationError, match="fails on a calibration batch: .*out of patience"):
        run(net(), judge)
