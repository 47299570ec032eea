"""Hopeless trials end early, in the user's own validation loop."""

import json
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from lit_scenes import KINDS, Lit, conf, fitted, points, train_loader, trainer
from torch.utils.data import DataLoader, Sampler
from torchmetrics import MeanMetric, MetricCollection
from torchmetrics.classification import MulticlassAccuracy, MulticlassAUROC, MulticlassF1Score
from torchmetrics.wrappers import MinMaxMetric
from users_world import kept

from lpot_lightning import quantize
from lpot_lightning.tuning.countdown import Countdown

BATCHES = 40
MANY = {"strategy": {"name": "random"}, "exit_policy": {"max_trials": 3}}


def loader(**given):
    return DataLoader(points(BATCHES * 8, seed=1), **{"batch_size": 8, **given})


def is_int8(module):
    return any("quantized" in type(part).__module__ for part in module.modules())


class Ruined(Lit):
    """Guesses where it is int8; ``seen`` gets the batches of every pass over validation data."""

    ruined = True

    def on_validation_epoch_start(self):
        passes.append(0)

    def logits(self, batch):
        passes[-1] += 1
        logits = self.net(batch[0])
        return logits.roll(1, 1) if self.ruined and is_int8(self) else logits

    def validation_step(self, batch, batch_idx):
        self.acc(self.logits(batch), batch[1])
        self.log("val_acc", self.acc)


passes: list[int] = []


@pytest.fixture(autouse=True)
def _no_passes_yet():
    passes.clear()


@pytest.fixture
def said(monkeypatch):
    """Return a list that gets the lines of a run."""
    lines: list[str] = []
    monkeypatch.setattr("lpot_lightning.trainer.tuned_run.rank_zero_info", lines.append)
    return lines


def judged(callback, module, val=None, monitor=None, **tuning):
    """Quantize, and return the result; three recipes are tried, unless ``tuning`` says so."""
    quantization = callback(monitor=monitor, tuning={**MANY, **tuning})
    fitted(quantization, module, train_loader(), loader() if val is None else val)
    return quantization.result


def early(result):
    return [trial.score.screened for trial in result.trials]


def judging():
    """Return the batches of the passes over all validation data, or that were to be so."""
    return [batches for batches in passes if batches > 1 and batches != 7][:5]


def test_a_hopeless_trial_sees_few_batches_and_the_best_looking_all(callback, said, workspace):
    result = judged(callback, Ruined())
    assert judging() == [40, 5, 5, 5, 40]  # fp32, three recipes, and the one that looked best
    assert early(result) == [False, True, True]
    assert [trial.score.evaluations for trial in result.trials] == [1.125, 0.125, 0.125]
    assert result.evaluations == 2.375
    assert (result.accuracy, result.status) == (0.0, "budget_exhausted")
    assert sum("val_acc about 0 after 12% of the pass, given up" in line for line in said) == 3
    assert any("trial 1: 2 ops int8, 0 fp32: val_acc 0.0000, not met" in line for line in said)
    kept_there = (workspace / "history.jsonl").read_text().splitlines()
    scores = [one["score"] for one in map(json.loads, kept_there) if one["kind"] == "trial"]
    assert [one["screened"] for one in scores] == [True, True, True, False]


def test_a_run_that_goes_on_takes_them_as_they_were(callback):
    first = judged(callback, Ruined())
    passes.clear()
    second = judged(callback, Ruined())
    assert second.trials == first.trials
    assert all(trial.replayed for trial in second.trials)
    assert judging()[:1] == [40]
    assert 5 not in passes


def test_a_good_trial_is_never_given_up(callback):
    class Good(Ruined):
        ruined = False

    result = judged(callback, Good())
    assert early(result) == [False]
    assert judging()[:2] == [40, 40]


def test_one_trial_alone_is_judged_in_full(callback):
    result = judged(callback, Ruined(), exit_policy={"max_trials": 1})
    assert early(result) == [False]
    assert judging()[:3] == [40, 40]


def test_where_only_the_speed_counts_nothing_is_given_up(callback):
    result = judged(callback, Ruined(), exit_policy={"performance_only": True})
    assert early(result) == [False]


class Plain(Ruined):
    """Logs numbers, a loss and an accuracy."""

    def validation_step(self, batch, batch_idx):
        logits = self.logits(batch)
        self.log("val_loss", F.cross_entropy(logits, batch[1]))
        self.log("val_hits", (logits.argmax(1) == batch[1]).float().mean())


def test_a_loss_that_is_a_plain_number(callback):
    asked = {"relative": 0.05, "higher_is_better": False}
    result = judged(callback, Plain(), monitor="val_loss", accuracy_criterion=asked)
    assert sorted(early(result)) == [False, True, True]
    assert max(one.score.accuracy for one in result.trials) > 10 * result.baseline


def test_an_accuracy_that_is_a_plain_number(callback):
    assert early(judged(callback, Plain(), monitor="val_hits")) == [False, True, True]


METRICS = {
    "F1": lambda: MulticlassF1Score(KINDS),
    "AUROC in bins": lambda: MulticlassAUROC(KINDS, thresholds=20),
    "a wrapper": lambda: MinMaxMetric(MulticlassAccuracy(KINDS)),
    "a composition": lambda: MulticlassAccuracy(KINDS) * 0.5,
    "it computes on the CPU": lambda: MulticlassF1Score(KINDS, compute_on_cpu=True),
}


def logging(make):
    class Logging(Ruined):
        def __init__(self):
            super().__init__()
            self.metric = make()

        def validation_step(self, batch, batch_idx):
            self.metric.update(self.logits(batch).softmax(1), batch[1])
            if isinstance(self.metric, MinMaxMetric):
                self.log("score", self.metric._base_metric)
            else:
                self.log("score", self.metric)

    return Logging()


@pytest.mark.parametrize("name", METRICS)
def test_torchmetrics_of_all_kinds(callback, said, name):
    asked = {"absolute": 0.01, "higher_is_better": True}
    result = judged(callback, logging(METRICS[name]), accuracy_criterion=asked)
    assert early(result) == [False, True, True]
    assert result.baseline > 0.4
    assert not [line for line in said if "in full, too" in line]


def test_a_member_of_a_collection_with_shared_states(callback):
    class Many(Ruined):
        def __init__(self):
            super().__init__()
            both = [MulticlassAccuracy(KINDS), MulticlassF1Score(KINDS)]
            self.metrics = MetricCollection(both, compute_groups=True)

        def validation_step(self, batch, batch_idx):
            self.metrics.update(self.logits(batch), batch[1])
            self.log_dict(self.metrics)

    result = judged(callback, Many(), monitor="MulticlassF1Score")
    assert early(result) == [False, True, True]
    assert result.baseline == 1.0


class TwoNumbers(Ruined):
    def validation_step(self, batch, batch_idx, dataloader_idx=0):
        hits = self.logits(batch).argmax(1) == batch[1]
        self.log("hits", hits.float().mean())


class TwoMetrics(Ruined):
    def __init__(self):
        super().__init__()
        self.both = torch.nn.ModuleList([MulticlassAccuracy(KINDS) for _ in range(2)])

    def validation_step(self, batch, batch_idx, dataloader_idx=0):
        self.both[dataloader_idx].update(self.logits(batch), batch[1])
        self.log("hits", self.both[dataloader_idx])


@pytest.mark.parametrize("kind", [TwoNumbers, TwoMetrics])
def test_each_of_two_loaders_has_its_own_share(callback, kind):
    result = judged(callback, kind(), [loader(), loader()], monitor="hits/dataloader_idx_1")
    assert early(result) == [False, True, True]
    assert result.trials[1].score.evaluations == 45 / 80


OFF = "hopeless trials are judged in full, too: "


def in_full(result, said, why):
    """Check that nothing was given up, and that one line said why."""
    assert True not in early(result)
    assert len(result.trials) == 3
    assert [line for line in said if line.startswith(OFF)] == [OFF + why]


def test_a_metric_that_is_logged_at_the_end_has_no_running_value(callback, said):
    class Late(Ruined):
        def validation_step(self, batch, batch_idx):
            self.acc.update(self.logits(batch), batch[1])

        def on_validation_epoch_end(self):
            self.log("val_acc", self.acc.compute())

    result = judged(callback, Late())
    in_full(result, said, "`val_acc` is known only when a pass is over")


def test_another_metric_that_is_logged_before_is_not_taken_for_it(callback, said):
    class Late(Plain):
        def on_validation_epoch_end(self):
            self.log("val_acc", 1.0 - float(is_int8(self)))

    result = judged(callback, Late(), monitor="val_acc")
    in_full(result, said, "`val_acc` is known only when a pass is over")


class Moody(MulticlassAccuracy):
    """Computes nothing of three batches."""

    def compute(self):
        if self.update_count == 3:
            raise ValueError("too few")
        return super().compute()


class Uncopied(MulticlassAccuracy):
    """Cannot be copied once it has seen something."""

    def update(self, *batch):
        super().update(*batch)
        self.lock = iter(())

    def __deepcopy__(self, memo):
        if self.update_count:
            raise TypeError("no copy")
        return type(self)(KINDS)


class Welford(MeanMetric):
    """Has a state that is put together in its own way."""

    def __init__(self):
        super().__init__()
        self.add_state("own", torch.tensor(0.0), dist_reduce_fx=torch.mean)

    def update(self, scores, labels):
        super().update((scores.argmax(1) == labels).float())


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (lambda: Moody(KINDS), "`score` cannot be computed of a part (ValueError: too few)"),
        (lambda: Uncopied(KINDS), "`score` cannot be copied (TypeError: no copy)"),
    ],
)
def test_a_metric_that_gives_no_running_value(callback, said, make, why):
    asked = {"relative": 0.01, "higher_is_better": True}
    in_full(judged(callback, logging(make), accuracy_criterion=asked), said, why)


def test_a_state_that_cannot_be_put_together(callback, said):
    asked = {"relative": 0.01, "higher_is_better": True}
    result = judged(callback, logging(Welford), accuracy_criterion=asked)
    assert True not in early(result)
    told = [line for line in said if "in full, too" in line]
    assert told == [
        "from here on hopeless trials are judged in full, too: the state `own` of `score` cannot"
        " be put together from parts"
    ]


def test_a_maximum_of_what_was_seen_can_always_be_reached_yet(callback):
    class Most(Ruined):
        def validation_step(self, batch, batch_idx):
            hits = (self.logits(batch).argmax(1) == batch[1]).float().mean()
            self.log("best", hits, reduce_fx="max")

    assert early(judged(callback, Most())) == [False, False, False]


@pytest.mark.parametrize("seeded", [True, False])
def test_shuffled_data_come_in_the_same_order_in_all_passes(callback, said, seeded):
    generator = torch.Generator().manual_seed(3) if seeded else None
    result = judged(callback, Ruined(), loader(shuffle=True, generator=generator))
    assert early(result) == [False, True, True]
    assert not [line for line in said if "in full, too" in line]


class Own(Sampler):
    """Draws another order each time, from numbers of its own."""

    def __init__(self):
        self._draw = torch.Generator().manual_seed(1)

    def __iter__(self):
        return iter(torch.randperm(BATCHES * 8, generator=self._draw).tolist())

    def __len__(self):
        return BATCHES * 8


def test_data_in_another_order_each_time_are_not_compared(callback, said):
    result = judged(callback, Ruined(), loader(sampler=Own()))
    assert early(result) == [False] * 3
    told = [line for line in said if "in full, too" in line]
    assert told == [
        "from here on hopeless trials are judged in full, too: its batches are not those that the"
        " fp32 model was judged by"
    ]


def test_what_a_pass_left_in_the_module_is_gone_when_it_is_given_up(callback):
    """The outputs that are gathered are those of one pass, whoever ended the one before."""

    class Gathering(Ruined):
        def __init__(self):
            super().__init__()
            self.gathered, self.count = [], 0

        def validation_step(self, batch, batch_idx):
            self.gathered.append(batch[1])
            self.count += 1
            super().validation_step(batch, batch_idx)

        def on_validation_epoch_end(self):
            lengths.append((len(self.gathered), self.count))
            self.gathered.clear()
            self.count = 0

    lengths = []
    judged(callback, Gathering())
    assert lengths.count((40, 40)) == 2  # fp32, and the best-looking
    assert {one for one, _ in lengths} <= {1, 7, 40}


def test_the_users_metric_is_untouched(callback):
    module = Ruined()
    module.acc.update(torch.eye(KINDS), torch.arange(KINDS))
    before = module.acc.tp.clone(), module.acc.update_count
    judged(callback, module)
    assert torch.equal(module.acc.tp, before[0])
    assert module.acc.update_count == before[1]
    assert module.acc._to_sync is True


def test_looking_at_a_metric_changes_nothing_of_it(callback):
    """What is accepted has the accuracy that the loop gives without anybody looking."""
    tuning = {"accuracy_criterion": {"absolute": 0.5}}
    looked = judged(callback, logging(lambda: MulticlassAUROC(KINDS, thresholds=20)), **tuning)
    alone = judged(
        callback,
        logging(lambda: MulticlassAUROC(KINDS, thresholds=20)),
        exit_policy={"max_trials": 1},
        **tuning,
    )
    assert looked.baseline == alone.baseline
    assert [one.score.accuracy for one in looked.trials][0] == alone.trials[0].score.accuracy


def test_workers_that_persist_survive_a_pass_that_is_given_up(callback):
    result = judged(callback, Ruined(), loader(num_workers=1, persistent_workers=True))
    assert early(result) == [False, True, True]


def test_batches_that_are_dicts(callback):
    class Dicts(Ruined):
        def training_step(self, batch, batch_idx):
            return F.cross_entropy(self.net(batch["x"]), batch["y"])

        def validation_step(self, batch, batch_idx):
            super().validation_step((batch["x"], batch["y"]), batch_idx)

    x, y = points(BATCHES * 8, seed=1).tensors
    rows = [{"x": one, "y": label} for one, label in zip(x, y, strict=True)]
    quantization = callback(tuning=MANY)
    fitted(quantization, Dicts(), DataLoader(rows, batch_size=16), DataLoader(rows, batch_size=8))
    assert early(quantization.result) == [False, True, True]


class Clock:
    """A clock that a batch of an int8 model moves on by a second."""

    def __init__(self):
        self.seconds = 0.0

    def __call__(self):
        return self.seconds


@pytest.mark.parametrize("timeout", [30.0, 100.0])
def test_the_time_ends_a_trial_in_the_middle_of_its_pass(workspace, monkeypatch, timeout):
    class Timed(Ruined):
        ruined = False

        def validation_step(self, batch, batch_idx):
            clock.seconds += is_int8(self)
            super().validation_step(batch, batch_idx)

    clock = Clock()
    monkeypatch.setattr("lpot_lightning.runs.quantize.monotonic", clock)
    monkeypatch.setattr(
        "lpot_lightning.judging.screened_judge.Countdown", partial(Countdown, clock)
    )
    tuning = {"strategy": {"name": "basic"}, "exit_policy": {"timeout": timeout}}
    one, module = trainer(), Timed()
    with kept(one, module):
        result = quantize(
            one, module, train_loader(), loader(), conf=conf(workspace, tuning=tuning)
        )
    whole = [40, 40] if timeout == 30.0 else [40, 40, 40, 20]
    assert judging() == whole  # what is judged first is finished, whatever it takes
    assert len(result.trials) == len(whole) // 2
    assert result.status == "met"
    lines = map(json.loads, (workspace / "history.jsonl").read_text().splitlines())
    assert sum(one["kind"] == "trial" for one in lines) == len(result.trials)


@pytest.mark.parametrize("name", ["basic", "mse"])
def test_where_differences_between_failing_trials_decide_all_are_judged_in_full(callback, name):
    asked = {"relative": 0.05, "higher_is_better": False}
    result = judged(
        callback, Plain(), monitor="val_loss", accuracy_criterion=asked, strategy={"name": name}
    )
    assert not any(early(result))
