"""Where the table of a fit is printed."""

import logging

import lightning_utilities.core.rank_zero as rank_zero
from lit_scenes import fitted, trainer

from lpot_lightning.trainer.shown.printing import print_result


def test_the_table_of_a_fit_is_on_stdout(callback, capsys, caplog):
    caplog.set_level(logging.INFO)
    callback = callback()
    fitted(callback)
    assert capsys.readouterr().out == f"\n{callback.result.table()}\n"
    assert "trial 1: " in caplog.text
    assert "drop / allowed" not in caplog.text


def test_where_lightning_is_silenced_nothing_is_printed(capsys):
    before = rank_zero.log.level
    rank_zero.log.setLevel(logging.WARNING)
    try:
        print_result(trainer(), "table")
    finally:
        rank_zero.log.setLevel(before)
    assert capsys.readouterr().out == ""


def test_only_the_first_process_prints(capsys, monkeypatch):
    one = trainer()
    monkeypatch.setattr(type(one), "is_global_zero", False)
    print_result(one, "table")
    assert capsys.readouterr().out == ""
