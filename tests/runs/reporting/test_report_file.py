"""A report is never worth a run, and never silently old."""

import pytest
from report_scenes import facts
from small_run import NO_REPAIR, net, run

from lpot_lightning.artifacts.earlier import INT8, PRUNED, REPORT
from lpot_lightning.runs.reporting.report_file import WHAT, ReportWriter, files_in

BASIC = {"name": "basic"}


def test_a_report_that_cannot_be_written_is_told_once_and_costs_nothing(tmp_path):
    (tmp_path / REPORT).mkdir()
    with pytest.warns(
        UserWarning, match=r"the report `.*report\.html` is not up to date: "
    ) as told:
        result = run(net(fragile=True), folder=tmp_path, quantization=NO_REPAIR, strategy=BASIC)
    assert len(told) == 1
    assert "Is a directory; nothing else is lost by it, and `lpot-lightning" in str(told[0].message)
    assert result.status == "met"
    assert (tmp_path / "result.json").is_file()


def test_what_cannot_be_drawn_is_told_too(tmp_path):
    def broken():
        raise ValueError("no such thing")

    with pytest.warns(UserWarning, match="not up to date: .*no such thing"):
        ReportWriter(tmp_path / REPORT).write(broken)


def test_a_report_replaces_the_one_before_as_a_whole(tmp_path):
    writer = ReportWriter(tmp_path / REPORT)
    for title in ("first", "second"):
        writer.write(lambda title=title: facts(title=title))
    assert [one.name for one in tmp_path.iterdir()] == [REPORT]
    assert "<h1>second</h1>" in (tmp_path / REPORT).read_text()


def test_where_there_is_no_workspace_nothing_is_drawn():
    ReportWriter(None).write(lambda: pytest.fail("it was drawn"))


def test_every_file_of_ours_is_explained(tmp_path):
    assert set(WHAT) == {*INT8, *PRUNED} - {REPORT}
    (tmp_path / "result.json").write_text("{}")
    (tmp_path / "mine.txt").write_text("")
    assert [(one.name, one.bytes) for one in files_in(tmp_path)] == [("result.json", 2)]
