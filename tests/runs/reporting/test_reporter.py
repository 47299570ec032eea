"""What a run reports on its way is what its history and its result say."""

import math
from dataclasses import replace

import pytest
from made_up import INT8
from report_scenes import ABOUT
from small_run import NO_REPAIR, Agreement, net, run

from lpot_lightning.errors import QuantizationError
from lpot_lightning.recipe import Recipe
from lpot_lightning.runs.reporting.reporter import facts_so_far
from lpot_lightning.runs.tuning_result import read_result
from lpot_lightning.tuning.history import look_at
from lpot_lightning.tuning.score import Score
from lpot_lightning.tuning.trial import Trial

BASIC = {"name": "basic"}


def test_a_history_tells_as_much_of_ops_as_the_result(tmp_path):
    result = run(net(fragile=True), folder=tmp_path)
    seen = look_at(tmp_path / "history.jsonl")
    wanted = result.facts(None).tuning
    (best,) = [one for one in result.trials if one.number == wanted.best]
    found = facts_so_far(result.about, seen.baseline, result.trials, seen.findings, best=best)
    assert found.accuracy == wanted.accuracy
    assert found.pareto == wanted.pareto
    mine, theirs = ({one.name: one for one in facts.ops} for facts in (found, wanted))
    assert mine.keys() == theirs.keys()
    for name, op in mine.items():
        assert (op.rung, op.damage, op.int8, op.fp32, op.repairs) == (
            *(theirs[name].rung, theirs[name].damage, theirs[name].int8, theirs[name].fp32),
            theirs[name].repairs,
        )


def test_a_history_tells_no_errors_of_ptq_of_a_trained_rounding():
    ptq = Recipe.of({"a": INT8})
    rounding = replace(INT8, activation=replace(INT8.activation, algorithm="trained"))
    recipes = Recipe.of({"a": rounding}), ptq
    trials = [Trial(n, one, Score.of(0.9, seconds=1.0)) for n, one in enumerate(recipes, 1)]
    ranked = {("ranking", ptq.key): {"ops": [{"op": "a", "damage": 0.5, "cost": 1.0}]}}
    found = [facts_so_far(ABOUT, 0.9, trials, ranked, best=one).ops[0].damage for one in trials]
    assert found == [None, 0.5]


def test_what_a_run_was_asked_for_is_in_its_history_and_its_result(tmp_path):
    result = run(net(), folder=tmp_path, exit_policy={"max_trials": 7}, random_seed=3)
    told = look_at(tmp_path / "history.jsonl").findings["about", ""]["about"]
    assert told == result.about.to_dict()
    assert (told["model"], told["seed"], told["most"]) == ("small", 3, 7)
    assert told["versions"]["torch"]
    assert read_result(tmp_path / "result.json").about == result.about


def test_a_run_that_goes_on_adds_nothing_to_what_is_known(tmp_path):
    run(net(fragile=True), folder=tmp_path, quantization=NO_REPAIR, strategy=BASIC)
    before = (tmp_path / "history.jsonl").read_bytes()
    run(net(fragile=True), folder=tmp_path, quantization=NO_REPAIR, strategy=BASIC)
    assert (tmp_path / "history.jsonl").read_bytes() == before


def test_a_run_that_an_error_ends_says_which(tmp_path):
    model = net()
    runner = Agreement(model, spoil=lambda _: math.nan)
    with pytest.raises(QuantizationError, match="every trial failed"):
        run(model, runner, folder=tmp_path)
    page = (tmp_path / "report.html").read_text()
    assert ">Failed<" in page
    assert "The run ended in an error: every trial failed: the accuracy is `nan`" in page
    assert "it goes on after its last" not in page


def test_a_run_without_a_workspace_writes_no_report(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = run(net())
    assert list(tmp_path.iterdir()) == []
    assert result.report("mine.html").name == "mine.html"
    assert "<h1>small</h1>" in (tmp_path / "mine.html").read_text()


@pytest.mark.parametrize("parts", ["rungs", "int8_ops"])
def test_a_recipe_is_not_gone_through_for_each_of_its_ops(monkeypatch, parts):
    ops = [f"layer{number}" for number in range(50)]
    recipe = Recipe.of(dict.fromkeys(ops, INT8)).with_fp32(ops[:20])
    repairs = [{"op": op, "what": "weight_correction", "before": 0.2, "after": 0.1} for op in ops]
    found = {("repair", "x"): {"repaired": recipe.to_dict(), "repairs": repairs}}
    looks, usual = [], getattr(Recipe, parts).fget
    monkeypatch.setattr(Recipe, parts, property(lambda one: looks.append(1) or usual(one)))
    best = Trial(1, recipe, Score.of(0.9, seconds=1.0))
    assert len(facts_so_far(ABOUT, 0.9, [best], found, best=best).ops) == len(ops)
    assert len(looks) < 5
