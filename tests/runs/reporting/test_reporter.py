"""What a run reports on its way is what its history and its result say."""

from small_run import NO_REPAIR, net, run

from lpot_lightning.runs.reporting.reporter import facts_so_far
from lpot_lightning.runs.tuning_result import read_result
from lpot_lightning.tuning.history import look_at

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


def test_a_run_without_a_workspace_writes_no_report(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = run(net())
    assert list(tmp_path.iterdir()) == []
    assert result.report("mine.html").name == "mine.html"
    assert "<h1>small</h1>" in (tmp_path / "mine.html").read_text()
