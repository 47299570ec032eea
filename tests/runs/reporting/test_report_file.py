"""A report is never worth a run, and never silently old."""

from pathlib import Path

import pytest
from report_scenes import facts
from small_run import NO_REPAIR, net, run

from lpot_lightning.artifacts.earlier import INT8, PRUNED, REPORT
from lpot_lightning.errors import ArtifactError
from lpot_lightning.report.page import page
from lpot_lightning.runs.reporting.report_file import WHAT, ReportWriter, files_in, write_report

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


@pytest.mark.parametrize("name", [*WHAT])
def test_no_file_of_a_workspace_becomes_a_page(tmp_path, name):
    with pytest.raises(ArtifactError, match=f"{name}`: a file of that name belongs to a workspace"):
        write_report(tmp_path / name, page(facts()))
    assert not (tmp_path / name).exists()


def test_a_file_that_is_no_page_is_left_as_it_is(tmp_path):
    mine = tmp_path / "model.ckpt"
    mine.write_bytes(b"weights")
    with pytest.raises(ArtifactError, match="a file is there that is no report, and is left as it"):
        write_report(mine, page(facts()))
    assert mine.read_bytes() == b"weights"


@pytest.mark.parametrize("before", [b"", page(facts(title="<b>" * 60))])
def test_an_earlier_page_or_an_empty_file_is_replaced(tmp_path, before):
    (tmp_path / "r.html").write_bytes(before)
    assert write_report(tmp_path / "r.html", page(facts())) == tmp_path / "r.html"
    assert (tmp_path / "r.html").read_bytes() == page(facts())


@pytest.mark.parametrize("path", ["", "-", "."])
def test_what_is_no_path_of_a_file_is_told(path):
    with pytest.raises(ArtifactError, match=f"cannot be written to `{path}`; allowed: the path of"):
        write_report(path, page(facts()))


def test_a_folder_is_told(tmp_path):
    with pytest.raises(ArtifactError, match="it is a folder; allowed: a regular file"):
        write_report(tmp_path, page(facts()))


def test_every_file_of_ours_is_explained(tmp_path):
    assert set(WHAT) == {*INT8, *PRUNED} - {REPORT}
    (tmp_path / "result.json").write_text("{}")
    (tmp_path / "mine.txt").write_text("")
    assert [(one.name, one.bytes) for one in files_in(tmp_path)] == [("result.json", 2)]


def test_a_file_that_goes_while_they_are_listed_is_not_there(tmp_path, monkeypatch):
    (tmp_path / "result.json").write_text("{}")
    monkeypatch.setattr(Path, "is_file", lambda self: True)
    assert [one.name for one in files_in(tmp_path)] == ["result.json"]
