"""What `print`, a debugger and a notebook show of a result."""

from html.parser import HTMLParser

from lpot_lightning.machine.shown_in_short import ShownInShort


class Told(ShownInShort):
    def __init__(self, first="met: acc 0.9"):
        self.first = first

    def _in_short(self):
        return [self.first, "and more"]

    def _grids(self):
        return [([["name", "<b>&"], ["acc", "0.9"]], False)]


class Texts(HTMLParser):
    """Collects what stands in a page, and checks that what is opened is closed."""

    def __init__(self, page):
        super().__init__()
        self.open, self.texts = [], []
        self.feed(page)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append(data)


def test_print_shows_a_few_lines():
    assert str(Told()) == "met: acc 0.9\nand more"


def test_a_part_of_a_list_is_one_bounded_line():
    assert repr([Told()]) == "[<Told: met: acc 0.9>]"
    assert len(repr(Told("x" * 1000))) < 150


def test_a_notebook_shows_escaped_cells():
    page = Told("a <script>")._repr_html_()
    assert "<script>" not in page
    assert Texts(page).texts == ["a <script>", "name", "<b>&", "acc", "0.9"]


def test_a_notebook_keeps_its_own_colors():
    assert Told()._repr_html_().count("color:") == Told()._repr_html_().count("color: inherit")
