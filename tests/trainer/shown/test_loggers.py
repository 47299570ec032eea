"""What loggers are given: scalars by all of them, a picture by those that take one."""

from __future__ import annotations

from dataclasses import replace

import pytest
from lightning.pytorch.loggers import CSVLogger, MLFlowLogger, TensorBoardLogger, WandbLogger
from lit_scenes import Lit, fitted, trainer

from lpot_lightning.trainer.shown import loggers
from lpot_lightning.trainer.shown.loggers import log_tuning
from lpot_lightning.trainer.shown.trials_figure import trials_figure


class StandIn:
    """Keeps what the client of a logger is asked for."""

    def __init__(self):
        self.asked = []

    def log_figure(self, run, figure, name):
        self.asked.append((run, type(figure).__name__, name))

    def log_metrics(self, metrics, step=None):
        self.asked.append((sorted(metrics), step))


class OwnMlflow(MLFlowLogger):
    run_id, name, version = "run", "own", "0"

    def __init__(self):
        self.client = StandIn()

    @property
    def experiment(self):
        return self.client

    def log_metrics(self, metrics, step=None):
        self.client.log_metrics(metrics, step)


class OwnWandb(WandbLogger):
    name, version = "own", "0"

    def __init__(self):
        self.client = StandIn()
        self.images = []

    @property
    def experiment(self):
        return self.client

    def log_metrics(self, metrics, step=None):
        self.client.log_metrics(metrics, step)

    def log_image(self, key, images, step=None, **_):
        self.images.append((key, [one.shape for one in images], step))


def rows(folder):
    head, *lines = (folder / "lightning_logs/version_0/metrics.csv").read_text().splitlines()
    return [dict(zip(head.split(","), line.split(","), strict=True)) for line in lines]


def test_a_csv_has_each_trial_and_what_came_of_all(callback, tmp_path):
    callback = callback()
    fitted(callback, Lit(lr=0.01), logger=CSVLogger(tmp_path), max_epochs=1)
    found = [one for one in rows(tmp_path) if one["lpot/seconds"] or one["lpot/speedup"]]
    row = {name: value for one in found for name, value in one.items() if value}
    result = callback.result
    assert row["step"] == "9"
    assert float(row["lpot/val_acc"]) == pytest.approx(result.trials[0].score.accuracy)
    assert float(row["lpot/int8_accuracy"]) == pytest.approx(result.accuracy)
    assert float(row["lpot/baseline"]) == pytest.approx(result.baseline)
    assert float(row["lpot/target"]) == pytest.approx(0.99 * result.baseline)
    assert float(row["lpot/int8_drop"]) == pytest.approx(result.drop)


def test_tensorboard_has_scalars_and_a_picture(callback, tmp_path):
    pytest.importorskip("tensorboard")
    pytest.importorskip("matplotlib")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    fitted(callback(), Lit(lr=0.01), logger=TensorBoardLogger(tmp_path), max_epochs=1)
    events = EventAccumulator(str(tmp_path / "lightning_logs/version_0")).Reload()
    assert {"lpot/val_acc", "lpot/baseline", "lpot/speedup"} <= set(events.Tags()["scalars"])
    (picture,) = events.Images("lpot/trials")
    assert (picture.width, picture.height, picture.step) == (700, 450, 9)


def told(callback, *loggers):
    """Tell loggers what a fit came to."""
    fitted(callback)
    one = trainer()
    one.loggers = list(loggers)
    log_tuning(one, callback.result)


def test_wandb_and_mlflow_get_the_picture_by_their_own_calls(callback):
    pytest.importorskip("matplotlib")
    wandb, mlflow = OwnWandb(), OwnMlflow()
    told(callback(), wandb, mlflow)
    assert wandb.images == [("lpot/trials", [(450, 700, 3)], 1)]
    assert ("run", "Figure", "lpot/trials.png") in mlflow.client.asked
    assert any("lpot/speedup" in one[0] for one in mlflow.client.asked)


def test_a_logger_that_raises_is_warned_of_once_and_the_result_is_there(callback, tmp_path):
    class Closed(CSVLogger):
        def log_metrics(self, metrics, step=None):
            if any(name.startswith("lpot/") for name in metrics):
                raise OSError(f"no room at step {step}")
            super().log_metrics(metrics, step)

    callback, other = callback(), CSVLogger(tmp_path / "other")
    with pytest.warns(UserWarning, match="`Closed` does not take .*OSError: no room") as said:
        fitted(callback, Lit(lr=0.01), logger=[Closed(tmp_path), other], max_epochs=1)
    assert len([one for one in said if "Closed" in str(one.message)]) == 1
    assert callback.result.status == "met"
    assert any(row["lpot/speedup"] for row in rows(tmp_path / "other"))


def test_without_matplotlib_there_are_scalars_alone(callback, monkeypatch):
    monkeypatch.setattr(loggers, "can_draw", lambda: False)
    wandb = OwnWandb()
    told(callback(), wandb)
    assert wandb.images == []
    assert any("lpot/speedup" in one[0] for one in wandb.client.asked)


def test_a_picture_takes_no_name_for_tex(callback):
    matplotlib = pytest.importorskip("matplotlib")
    callback = callback()
    fitted(callback)
    result = replace(callback.result, monitor=r"a$\x$")
    with matplotlib.rc_context({"text.usetex": True}):  # as who writes papers sets it
        figure = trials_figure(result)
        figure.canvas.draw()
        assert matplotlib.rcParams["text.usetex"] is True
    assert figure.axes[0].get_ylabel() == r"a$\x$"


def test_the_picture_names_baseline_goal_and_what_became_of_trials(callback):
    pytest.importorskip("matplotlib")
    callback = callback()
    fitted(callback)
    above, below = trials_figure(callback.result).axes
    named = [text.get_text() for text in above.get_legend().get_texts()]
    assert named == ["fp32 1.0000", "goal 0.9900", "met"]
    assert below.get_xlabel() == "trial"
    assert len(below.patches) == len(callback.result.trials)
