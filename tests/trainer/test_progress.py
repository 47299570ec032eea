"""Bars for those who want bars."""

import math
import time

import pytest
from lightning.pytorch.callbacks import ProgressBar, TQDMProgressBar
from lit_scenes import Lit, fitted, trainer

from lpot_lightning.trainer.progress import Progress


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
    assert "batch/s" not in capsys.readouterr().err


def test_passes_are_shown_by_name_and_trials_by_number(callback, capsys):
    fitted(callback(), enable_progress_bar=True)
    shown = capsys.readouterr().err
    for label in ("baseline", "calibration", "int8 trial 1 of at most 9"):
        assert f"{label}:" in shown


def test_a_bar_that_is_switched_off_stays_off(callback, capsys):
    fitted(callback(), others=(TQDMProgressBar(refresh_rate=0),), enable_progress_bar=True)
    assert "int8 trial" not in capsys.readouterr().err


def test_the_users_own_bar_hears_nothing(callback):
    bar = OwnBar()
    fitted(callback(), others=(bar,), enable_progress_bar=True)
    assert bar.heard == 0


def test_a_rich_bar_is_left_in_peace(callback, capsys):
    pytest.importorskip("rich")
    from lightning.pytorch.callbacks import RichProgressBar

    class Busy(Lit):
        def validation_step(self, batch, batch_idx):
            time.sleep(0.02)  # long enough for the thread that redraws the bar
            super().validation_step(batch, batch_idx)

    given = {"enable_progress_bar": True, "max_epochs": 1}
    fitted(callback(), Busy(), others=(RichProgressBar(refresh_rate=1),), **given)
    assert "int8 trial 1" in capsys.readouterr().err


def test_an_unknown_number_of_batches_is_no_trouble(capsys):
    with Progress(trainer(enable_progress_bar=True)).over("baseline", math.inf) as bar:
        bar.on_validation_batch_end()
    assert "batch/s" in capsys.readouterr().err
