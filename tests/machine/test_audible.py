"""What is said is heard."""

from __future__ import annotations

import logging

from lpot_lightning.machine.audible import audible


def test_without_logging_it_goes_to_stderr_and_only_for_the_time_of_the_run(capsys) -> None:
    alone = logging.Logger("alone", logging.WARNING)
    with audible(alone):
        alone.info("hello")
    alone.info("unheard")
    assert capsys.readouterr().err == "hello\n"
    assert (alone.handlers, alone.level) == ([], logging.WARNING)


def test_a_program_with_logging_of_its_own_decides(capsys) -> None:
    alone, own = logging.Logger("alone"), logging.NullHandler()
    alone.addHandler(own)
    with audible(alone):
        alone.info("hello")
        assert alone.handlers == [own]
    assert capsys.readouterr().err == ""
