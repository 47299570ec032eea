"""What comes from users is text, whatever is in it."""

import re

import pytest
from report_scenes import HOSTILE

from lpot_lightning.report.markup import code, joined, number_cell, shortened, table, tag, words

TAGS = re.compile(r'</?(?:td|wbr|code)(?: class="split")?(?: title="[^"<>]*")?>')


@pytest.mark.parametrize("name", HOSTILE)
def test_a_name_is_text_wherever_it_stands(name):
    for made in (tag("td", name), code(name), joined((name,)), words(name)):
        assert "<" not in TAGS.sub("", made)


def test_an_attribute_cannot_be_left_by_a_name():
    assert tag("p", title="\"' onload=x <b>") == ('<p title="&quot;&#x27; onload=x &lt;b&gt;"></p>')


def test_what_is_markup_already_is_not_escaped_again():
    assert tag("p", "a < ", tag("b", "c")) == "<p>a &lt; <b>c</b></p>"


def test_attributes_without_a_value_and_left_out_ones():
    assert tag("meta", hidden=True, title=None, http_equiv="x") == '<meta hidden http-equiv="x">'


def test_a_long_path_breaks_after_its_dots():
    assert code("net.0.conv") == "<code>net.0.conv</code>"
    long = "a" * 20, "b" * 20
    assert code(".".join(long)) == f'<code class="split">{long[0]}.<wbr>{long[1]}</code>'
    assert code(f"{long[0]}{long[1]}.").endswith("b.<wbr></code>")


def test_a_long_name_is_shortened_and_told_in_whole():
    long = "x" * 1000
    assert len(shortened(long)) < 200
    assert f'<code class="split" title="{long}">' in code(long)


def test_backticks_make_code():
    assert words("use `a<b` now") == "use <code>a&lt;b</code> now"


def test_a_long_table_scrolls_and_can_be_reached_by_keys():
    rows = [tag("tr")] * 30
    assert 'class="scroll long" tabindex="0"' in table((("op", "text"),), rows)
    assert "long" not in table((("op", "text"),), rows[:5])


def test_a_number_is_sorted_by_all_its_digits():
    assert number_cell("0.33", 1 / 3) == f'<td class="number" data-v="{1 / 3!r}">0.33</td>'
