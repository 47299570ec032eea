"""Speed with its spread, beside the line at which nothing is won."""

from lpot_lightning.report.speed import speed_section
from lpot_lightning.timing.ratio import Ratio


def test_bar_spread_and_the_line_of_one_are_there():
    found = speed_section(Ratio(2.0, (1.5, 2.5)), 4.0, ("fp32", "int8"))
    assert "2.00x (1.50x to 2.50x)" in found
    assert "1× (as fast as fp32)" in found
    assert 'width="72.73%"' in found  # 2 of 2.75
    assert "4.00x smaller" in found
    assert "25%" in found


def test_a_model_that_has_grown_is_larger():
    found = speed_section(None, 0.5, ("fp32", "int8"))
    assert "2.00x larger" in found
    assert "200%" in found
    assert 'width="200' not in found


def test_a_slower_model_does_not_reach_the_line():
    found = speed_section(Ratio(0.5, (0.4, 0.6)), None, ("dense", "pruned"))
    assert 'width="40.00%"' in found
    assert 'x1="80.00%"' in found
    assert "Size" not in found


def test_how_sure_a_speed_is_that_was_measured_once_nobody_says():
    found = speed_section(Ratio(2.0, None), None, ("fp32", "int8"))
    assert "95 of 100" not in found
    assert "too few to tell how sure it is" in found


def test_a_size_alone_says_nothing_of_a_bar():
    assert "The bar is" not in speed_section(None, 4.0, ("fp32", "int8"))


def test_where_nothing_was_measured_there_is_no_section():
    assert speed_section(None, None, ("fp32", "int8")) is None
