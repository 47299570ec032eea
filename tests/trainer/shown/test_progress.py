"""Bars for those who want bars."""

import math
import time

import pytest
from lightning.pytorch.callbacks import ProgressBar, RichProgressBar, TQDMProgressBar
from lit_scenes import Lit, fitted, trainer

from lpot_lightning.trainer.shown.progress import Progress


class OwnBar(ProgressBar):
    """A bar of the user's, which draws nothing."""

    def __init__(self):
        super().__init__()
        self.heard = 0
        self.enabled = True

    def disable(self):
        self.enabled = False

    def on_validation_batch_end(self, *_, **__):
        self.heard += 1


def test_no_bar_is_shown_without_a_progress_bar(callback, capsys):
    fitted(callback())
    out, err = capsys.readouterr()
    assert "int8 trial" not in out + err


def test_beside_tqdm_a_bar_is_of_lightnings_tqdm(callback, capsys):
    fitted(callback(), others=(TQDMProgressBar(),), enable_progress_bar=True)
    shown = capsys.readouterr().out
    for label in ("baseline", "calibration", "int8 trial 1 of at most"):
        assert f"\r{label}" in shown


def test_beside_rich_a_bar_is_of_rich_with_its_columns(capsys, monkeypatch):
    pytest.importorskip("rich")
    monkeypatch.setenv("TTY_COMPATIBLE", "1")
    monkeypatch.setenv("TERM", "xterm")  # in a dumb terminal Rich draws no bar
    monkeypatch.setattr("rich._console", None)  # nor beside one that is left
    from rich.progress import TextColumn

    class Own(RichProgressBar):
        def configure_columns(self, trainer):
            return [TextColumn("{task.description} {task.completed} of {task.total}")]

    one = trainer(Own(), enable_progress_bar=True)
    with Progress(one).over("baseline", 2) as bar:
        bar.on_validation_batch_end()
    assert "baseline 1 of 2" in capsys.readouterr().out


def test_a_bar_that_is_switched_off_stays_off(callback, capsys):
    fitted(callback(), others=(TQDMProgressBar(refresh_rate=0),), enable_progress_bar=True)
    assert "int8 trial 1 of" not in capsys.readouterr().out


def test_the_users_own_bar_hears_nothing(callback):
    bar = OwnBar()
    fitted(callback(), others=(bar,), enable_progress_bar=True)
    assert bar.heard == 0


def test_a_rich_bar_is_left_in_peace(callback, capsys):
    pytest.importorskip("rich")

    class Busy(Lit):
        def validation_step(self, batch, batch_idx):
            time.sleep(0.02)  # long enough for the thread that redraws the bar
            super().validation_step(batch, batch_idx)

    given = {"enable_progress_bar": True, "max_epochs": 1}
    fitted(callback(), Busy(), others=(RichProgressBar(refresh_rate=1),), **given)
    assert "status             met" in capsys.readouterr().out


def test_a_file_gets_no_empty_lines_of_bars_beside_rich(capsys):
    pytest.importorskip("rich")
    with Progress(trainer(RichProgressBar(), enable_progress_bar=True)).over("baseline", 2):
        pass
    assert capsys.readouterr().out == ""


def test_an_unknown_number_of_batches_is_no_trouble(capsys, monkeypatch):
    monkeypatch.setenv("TTY_COMPATIBLE", "1")
    for bars in (TQDMProgressBar(), RichProgressBar()):
        with Progress(trainer(bars, enable_progress_bar=True)).over("baseline", math.inf) as bar:
            bar.on_validation_batch_end()
    assert "baseline: |" in capsys.readouterr().out
