"""The history, torn, flipped, mismatched and killed."""

import json
import os

import pytest
from made_up import INT8, int8, met

from lpot_lightning.errors import ArtifactError
from lpot_lightning.recipe import FP32, Recipe
from lpot_lightning.tuning import journal
from lpot_lightning.tuning.history import History, PastTrial, look_at
from lpot_lightning.tuning.score import Score

PRINTS = {"config": "c0ffee", "weights": "badcab"}
RECIPES = [
    Recipe.of({"net.a": INT8, "net.b": int8("sym", "minmax"), "net.b#add_0": int8(weight=None)}),
    Recipe.of({"net.a": FP32, "net.b": INT8, "net.b#add_0": FP32}),
    Recipe.of({"net.a": FP32, "net.b": FP32, "net.b#add_0": FP32}),
]
SCORES = [
    met(Score.of(0.1 + 0.2, 1 / 3)),
    Score.failing("no room", 0.5),
    met(Score.of(-1e-300, 2.0, 0.25)),
]


@pytest.fixture
def path(tmp_path):
    return tmp_path / "workspace" / "history.jsonl"


@pytest.fixture
def written(path):
    write(path)
    return path


def write(path):
    history = History.open(path, PRINTS)
    history.check_baseline(0.7 + 0.1)
    for recipe, score in zip(RECIPES, SCORES, strict=True):
        history.append(recipe, score)


def test_what_was_tried_is_found_again_to_the_last_bit(written):
    history = History.open(written, PRINTS)
    assert [past.recipe for past in history.trials] == RECIPES
    assert [history.find(recipe.key) for recipe in RECIPES] == SCORES
    assert history.baseline == 0.7 + 0.1
    assert (history.repaired, history.archived) == (None, None)
    assert history.trials[1] == PastTrial(RECIPES[1], SCORES[1])


def test_what_was_not_tried_is_not_found(written):
    assert History.open(written, PRINTS).find(Recipe.of({"net.a": INT8}).key) is None


def test_a_resumed_history_goes_on_in_the_same_file(written):
    more = Recipe.of({"net.c": INT8})
    History.open(written, PRINTS).append(more, SCORES[0])
    assert [past.recipe for past in History.open(written, PRINTS).trials] == [*RECIPES, more]


def test_without_a_path_it_is_kept_in_memory(tmp_path):
    history = History.open(None, PRINTS)
    history.check_baseline(0.9)
    history.append(RECIPES[0], SCORES[0])
    history.check_baseline(0.9)
    assert history.find(RECIPES[0].key) == SCORES[0]
    history.check_baseline(0.8)
    assert history.trials == ()
    assert list(tmp_path.iterdir()) == []


def test_a_torn_last_line_is_cut_off_wherever_it_tore(written):
    whole = written.read_bytes()
    last = whole.rindex(b"\n", 0, -1) + 1
    for end in range(last + 1, len(whole)):
        written.write_bytes(whole[:end])
        history = History.open(written, PRINTS)
        assert [past.recipe for past in history.trials] == RECIPES[:2]
        assert history.repaired == (
            f"`{written}`, line 5: the last line was not written to its end and is cut off"
        )
        assert written.read_bytes() == whole[:last]


def test_after_a_cut_the_trial_can_be_written_again(written):
    whole = written.read_bytes()
    written.write_bytes(whole[:-7])
    History.open(written, PRINTS).append(RECIPES[2], SCORES[2])
    assert written.read_bytes() == whole


def test_a_damaged_last_line_is_cut_off(written):
    whole = written.read_bytes()
    written.write_bytes(whole[:-20] + b"x" + whole[-19:])
    assert len(History.open(written, PRINTS).trials) == 2


def test_a_flipped_byte_elsewhere_is_an_error_wherever_it_is(written):
    whole = written.read_bytes()
    last = whole.rindex(b"\n", 0, -1) + 1
    for place in range(0, last, 7):
        written.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        line = whole.count(b"\n", 0, place) + 1
        with pytest.raises(ArtifactError, match=rf"history\.jsonl`, line {line}: .*move it away"):
            History.open(written, PRINTS)


def test_a_line_that_is_gone_is_noticed(written):
    lines = written.read_bytes().splitlines(keepends=True)
    written.write_bytes(b"".join(lines[:2] + lines[3:]))
    with pytest.raises(ArtifactError, match="line 3: the line is damaged"):
        History.open(written, PRINTS)


@pytest.mark.parametrize("content", [b"", b"\n", b"{", b"\x00" * 4096, b"[]\n", b"[" * 100_000])
def test_a_file_without_a_header_is_an_error(written, content):
    written.write_bytes(content)
    with pytest.raises(ArtifactError, match="line 1: the line is damaged"):
        History.open(written, PRINTS)


@pytest.mark.parametrize(
    "content", [{"kind": "trial"}, {"kind": "song"}, {}, {"kind": "baseline", "accuracy": None}]
)
def test_a_line_of_another_program_is_an_error(written, content):
    journal.append(written, 5, content)
    with pytest.raises(ArtifactError, match="line 6: not a line that lpot_lightning writes"):
        History.open(written, PRINTS)


def test_what_is_no_file_is_not_waited_for(path):
    path.parent.mkdir()
    os.mkfifo(path)
    with pytest.raises(ArtifactError, match="it is a FIFO; allowed: a regular file"):
        History.open(path, {})
    path.unlink()
    with path.open("wb") as file:
        file.truncate(40 << 30)
    with pytest.raises(ArtifactError, match="it has 40 GiB; allowed: 1 GiB"):
        History.open(path, {})


def test_the_header_is_there_as_a_whole_or_not_at_all(path, monkeypatch):
    def killed(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", killed)
    with pytest.raises(KeyboardInterrupt):
        History.open(path, PRINTS)
    monkeypatch.undo()
    assert not path.exists()
    assert History.open(path, PRINTS).archived is None
    assert [kept.name for kept in path.parent.iterdir()] == ["history.jsonl"]


def test_the_header_is_on_disk_before_it_counts(path, monkeypatch):
    done = []
    sync, replace = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda *a: done.append("fsync") or sync(*a))
    monkeypatch.setattr(os, "replace", lambda *a: done.append("replace") or replace(*a))
    History.open(path, PRINTS)
    assert done == ["fsync", "fsync", "replace", "fsync"]  # the first is of the folder's name


def test_a_line_is_one_write_and_one_sync(path, monkeypatch):
    history = History.open(path, PRINTS)
    done = []
    write, sync = os.write, os.fsync
    monkeypatch.setattr(os, "write", lambda *a: done.append("write") or write(*a))
    monkeypatch.setattr(os, "fsync", lambda *a: done.append("fsync") or sync(*a))
    history.append(RECIPES[0], SCORES[0])
    assert done == ["write", "fsync"]


def test_another_configuration_archives_the_history(written):
    history = History.open(written, {**PRINTS, "config": "decade", "torch": "2.13"})
    kept = written.with_name("history.1.jsonl")
    assert history.trials == ()
    assert history.archived == (
        f"what another run has left is kept as `{kept}`: different are config, torch"
    )
    assert len(History.open(kept, PRINTS).trials) == 3


def test_an_archive_is_never_overwritten(written):
    for name in ("one", "two", "three"):
        History.open(written, {"config": name})
    names = sorted(kept.name for kept in written.parent.iterdir())
    assert names == ["history.1.jsonl", "history.2.jsonl", "history.3.jsonl", "history.jsonl"]


def test_another_format_archives_the_history(path):
    path.parent.mkdir()
    journal.create(path, {"kind": "header", "format": 2, "fingerprints": PRINTS})
    assert "different are format" in History.open(path, PRINTS).archived


def test_another_baseline_archives_the_history(written):
    history = History.open(written, PRINTS)
    history.check_baseline(0.8)
    assert history.trials == ()
    assert "baseline (0.7999999999999999 then, 0.8 now)" in history.archived
    assert History.open(written, PRINTS).baseline == 0.8
    assert written.with_name("history.1.jsonl").exists()


def test_the_same_baseline_keeps_it(written):
    before = written.read_bytes()
    History.open(written, PRINTS).check_baseline(0.7 + 0.1)
    assert written.read_bytes() == before


def test_where_it_must_match_a_difference_is_an_error(written):
    before = written.read_bytes()
    with pytest.raises(ArtifactError, match=r"different are weights; .*tuning\.workspace\.resume"):
        History.open(written, {**PRINTS, "weights": "other"}, must_match=True)
    history = History.open(written, PRINTS, must_match=True)
    with pytest.raises(ArtifactError, match="different are baseline"):
        history.check_baseline(0.5)
    assert written.read_bytes() == before


def test_where_it_must_match_it_must_be_there(path):
    with pytest.raises(ArtifactError, match="nothing to resume"):
        History.open(path, PRINTS, must_match=True)
    assert not path.parent.exists()


def test_a_folder_that_cannot_be_written_says_so(path, monkeypatch):
    def denied(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "open", denied)
    with pytest.raises(ArtifactError, match=r"cannot be begun: Permission denied.*workspace\.path"):
        History.open(path, PRINTS)


def test_a_folder_that_is_a_file_says_so(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ArtifactError, match="cannot be begun"):
        History.open(tmp_path / "file" / "history.jsonl", PRINTS)


def test_a_full_disk_leaves_no_half_line(written, monkeypatch):
    before = written.read_bytes()
    history = History.open(written, PRINTS)
    write = os.write
    monkeypatch.setattr(os, "write", lambda handle, line: write(handle, line[:30]))
    more = Recipe.of({"net.c": INT8})
    with pytest.raises(ArtifactError, match="cannot be written: no room for the whole line"):
        history.append(more, SCORES[0])
    monkeypatch.undo()
    assert written.read_bytes() == before
    assert history.find(more.key) is None
    history.append(more, SCORES[0])
    assert len(History.open(written, PRINTS).trials) == 4


def test_every_line_is_json_that_people_can_read(written):
    kinds = [json.loads(line)["kind"] for line in written.read_text().splitlines()]
    assert kinds == ["header", "baseline", "trial", "trial", "trial"]


def test_what_was_found_out_without_a_trial_is_found_again(written):
    ops = [{"op": "net.a", "damage": 1 / 3, "cost": 0.5}]
    History.open(written, PRINTS).keep("ranking", RECIPES[0].key, {"ops": ops})
    again = History.open(written, PRINTS)
    assert again.finding("ranking", RECIPES[0].key)["ops"] == ops
    assert again.finding("repair", RECIPES[0].key) is None
    assert [past.recipe for past in again.trials] == RECIPES


def test_another_process_is_told_all_of_it(written):
    history = History.open(written, PRINTS)
    history.keep("repair", RECIPES[0].key, {"repaired": RECIPES[1].to_dict(), "repairs": []})
    told = History.copied(history.known)
    assert told.known == history.known
    assert told.find(RECIPES[1].key) == SCORES[1]
    assert told.finding("repair", RECIPES[0].key)["repairs"] == []


def test_somebody_who_looks_sees_what_belongs_to_whatever_run_and_changes_nothing(written):
    with written.open("ab") as file:
        file.write(b'{"seq": 5, "kind"')
    before = written.read_bytes()
    seen = look_at(written)
    assert [past.recipe for past in seen.trials] == RECIPES
    assert [past.score for past in seen.trials] == SCORES
    assert (seen.baseline, seen.torn) == (0.7 + 0.1, True)
    assert written.read_bytes() == before


def test_somebody_who_looks_is_told_of_a_damaged_line(written):
    lines = written.read_bytes().splitlines(keepends=True)
    written.write_bytes(b"".join([lines[0], b"{}\n", *lines[2:]]))
    with pytest.raises(ArtifactError, match="line 2: the line is damaged"):
        look_at(written)


def forged(path, place, change):
    """Change a line as somebody would who also puts its CRC right."""
    lines = path.read_bytes().splitlines(keepends=True)
    record = {k: v for k, v in json.loads(lines[place]).items() if k not in ("seq", "crc")}
    change(record)
    lines[place] = journal._encode(place, record)
    path.write_bytes(b"".join(lines))


@pytest.mark.parametrize(
    ("place", "change", "said"),
    [
        (1, lambda line: line.update(accuracy="0.8"), "`accuracy` is `0.8`; allowed: a number"),
        (1, lambda line: line.update(kind="base"), "`kind` is `base`"),
        (2, lambda line: line["score"].update(evaluations=""), "`score.evaluations` is ``"),
        (2, lambda line: line["score"].update(evaluations=-1), "`score.evaluations` is `-1`"),
        (2, lambda line: line["score"].update(seconds=None), "`score.seconds` is `None`"),
        (2, lambda line: line["score"].update(objective="5"), "`score.objective` is `5`"),
        (2, lambda line: line["score"].update(accuracy="good"), "TypeError"),
        (2, lambda line: line["score"].update(accuracy=True), "`score.accuracy` is `True`"),
        (2, lambda line: line["score"].update(screened=True), "cannot be accepted"),
        (2, lambda line: line["score"].update(screened=1), "`screened and accepted[0]` is `1`"),
        (2, lambda line: line.update(accepted="yes"), "`screened and accepted[1]` is `yes`"),
        (3, lambda line: line["score"].update(failure=3), "`score.failure` is `3`"),
        (2, lambda line: line["recipe"].update(other=FP32.to_dict()), "has no op `other`"),
    ],
)
def test_a_line_of_right_crc_that_no_run_writes_is_told_when_it_is_opened(
    written, place, change, said
):
    forged(written, place, change)
    with pytest.raises(ArtifactError) as told:
        History.open(written, PRINTS, ops={"net.a", "net.b", "net.b#add_0"})
    assert f"line {place + 1}: not a line that lpot_lightning writes (" in str(told.value)
    assert said in str(told.value)


def test_a_finding_of_right_crc_that_no_run_writes_is_told_when_it_is_opened(written):
    History.open(written, PRINTS).keep("share", "net.a as bf16", {"share": 0.25})
    forged(written, 5, lambda line: line.update(share="a quarter"))
    with pytest.raises(ArtifactError, match="line 6: .*`share.share` is `a quarter`"):
        look_at(written)
