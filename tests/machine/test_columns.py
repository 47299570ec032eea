"""Columns, and what becomes of them where they do not fit."""

import pytest

from lpot_lightning.machine.columns import (
    aligned,
    hanging,
    in_blocks,
    shortened,
    terminal_width,
    wide,
)

NAME = "model.encoder.layers.11.self_attention.query_projection"
WHY = "int8 is slower: 0.1 ms against 0.05 ms, at least 1.90x as long, 3.4% of a step"


def widest(text):
    return max(map(wide, text.split("\n")))


def test_columns_begin_below_each_other():
    assert aligned([["op", "dtype"], ["net.0", "int8"]]).split("\n") == [
        "op     dtype",
        "net.0  int8",
    ]


def test_numbers_stand_at_the_right():
    assert aligned([["op", "ms"], ["a", "0.5"]], right=(1,)).split("\n") == ["op   ms", "a   0.5"]


def test_text_goes_on_in_the_next_line_of_its_column():
    lines = aligned([["op", "ms", "why"], ["net.0", "0.1", WHY]], width=60).split("\n")
    assert len(lines) == 3
    assert lines[1].startswith("net.0  0.1  int8 is slower")
    assert lines[2].startswith(" " * 12 + "1.90x")


def test_what_is_to_be_copied_is_neither_shortened_nor_parted():
    yaml = f"quantization: {{op_wise: {{'{NAME}/{NAME}': {{weight: {{dtype: fp32}}}}}}}}"
    told = hanging(f"leave {NAME} in fp32: `{yaml}`", width=40)
    assert yaml in " ".join(told.split())
    assert NAME not in told.split("`")[0]
    assert widest(aligned([["a", f"`{NAME}` {WHY}"]], width=40)) <= 40


def test_a_name_with_a_line_break_stays_in_its_row():
    assert aligned([["a\nb", "c\t"], ["d", "\u2028"]]) == "a\\nb  c\\t\nd     \\u2028"


def test_text_gives_way_before_names_do():
    table = aligned([["op", "why"], [NAME, WHY]], width=82)
    assert NAME in table
    assert widest(table) <= 82


def test_names_are_shortened_in_the_middle():
    table = aligned([["op", "why"], [NAME, WHY]], width=60)
    assert "model.encoder.lay…query_projection" in table


@pytest.mark.parametrize("width", [40, 60, 80, 120])
def test_no_line_is_wider_than_asked(width):
    rows = [["op", "precision", "ms", "why"], [NAME, "weight-only int8", "0.11", WHY], ["a", "b"]]
    assert widest(aligned(rows, right=(2,), width=width)) <= width


def test_a_head_of_two_words_takes_two_lines_where_there_is_no_room():
    rows = [["what", "accepted wrongly", "seconds"], ["killed", "0", "1.5"]]
    assert aligned(rows, width=26).split("\n")[1].split() == ["wrongly"]


def test_a_path_goes_on_behind_a_slash():
    lines = aligned([["status", "met"], ["workspace", f"/data/{'project/' * 8}run"]], width=50)
    assert all(line.endswith("/") for line in lines.split("\n")[1:-1])
    assert "".join(lines.split("\n")[1:]).replace(" ", "").endswith("project/run")


def test_what_fits_is_left_as_it_is():
    assert aligned([["a  b", "c"]], width=80) == "a  b  c"


def test_a_terminal_says_how_wide_it_is(monkeypatch):
    monkeypatch.setenv("COLUMNS", "132")
    assert terminal_width() == 132


def test_wide_letters_take_two_columns():
    lines = aligned([["精度", "0.9"], ["accuracy", "0.8"]]).split("\n")
    assert wide("精度") == 4
    assert [wide(line) for line in lines] == [13, 13]


def test_an_accent_of_its_own_takes_no_column():
    assert wide("e\u0301") == 1


def test_a_shortened_text_is_as_wide_as_asked():
    assert shortened("abcdefghij", 5) == "ab…ij"
    assert shortened("abc", 5) == "abc"
    assert wide(shortened("模型" * 9, 8)) <= 8


def test_columns_without_room_follow_below():
    rows = [["", "int8", "fp32", "a.onnx"], ["ms", "1 / 2 / 3", "4 / 5 / 6", "7 / 8 / 9"]]
    first, second = in_blocks(rows, width=26).split("\n\n")
    assert "fp32" in first
    assert second.split("\n") == ["    a.onnx", "ms  7 / 8 / 9"]


def test_columns_that_belong_together_are_not_parted():
    rows = [["no", "at", "a: ms", "a: s", "b: ms", "b: s"], ["1", "0-1", "1.0", "2", "3.0", "4"]]
    blocks = in_blocks(rows, names=2, together=2, width=24).split("\n\n")
    assert [block.split("\n")[0].split() for block in blocks] == [
        ["no", "at", "a:", "ms", "a:", "s"],
        ["no", "at", "b:", "ms", "b:", "s"],
    ]


def test_a_paragraph_hangs():
    assert hanging("one two three", "# ", "#   ", width=11) == "# one two\n#   three"
