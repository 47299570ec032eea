"""A text that was changed is told by the hash that it holds."""

import json

import pytest

from lpot_lightning.machine.checksums import (
    FIELD,
    ChecksumError,
    check_mark,
    marked,
    unmarked,
    with_checksum,
    without_checksum,
)

PLAIN = {"b": [1, 2.5, None], "a": {"é": "x", "n": 1e-300}}
YAML = b"device: cpu\nmodel: {name: net}\n"


def test_what_is_written_is_read_whatever_the_order_and_the_spaces():
    text = json.dumps(with_checksum(PLAIN), indent=3, sort_keys=True)
    assert without_checksum(json.loads(text)) == PLAIN


def test_what_an_earlier_version_wrote_has_no_hash_and_is_read():
    assert without_checksum(PLAIN) == PLAIN


@pytest.mark.parametrize("change", [{"b": []}, {"c": 1}, {FIELD: None}, {FIELD: "0" * 64}])
def test_what_was_changed_is_told(change):
    with pytest.raises(ChecksumError, match=r"its SHA-256 is [0-9a-f]{16}…, it says `"):
        without_checksum({**with_checksum(PLAIN), **change})


def test_a_yaml_says_its_hash_in_a_comment():
    line, rest = marked(YAML).split(b"\n", 1)
    assert line.startswith(b"# written by lpot_lightning, sha256 ")
    assert rest == YAML == unmarked(marked(YAML)) == unmarked(YAML)
    check_mark(marked(YAML))
    check_mark(YAML)


@pytest.mark.parametrize("how", [lambda one: one.replace(b"\n", b"\r\n"), b"\xef\xbb\xbf".__add__])
def test_ends_of_lines_and_a_mark_of_bytes_do_not_count(how):
    check_mark(how(marked(YAML)))


def test_a_yaml_that_was_changed_is_told_in_any_byte_that_counts():
    content = marked(YAML)
    first, rest = content.index(b"sha256 ") + 7, content.index(b"\n") + 1
    for place in (*range(first, first + 64), *range(rest, len(content))):
        damaged = content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :]
        with pytest.raises(ChecksumError):
            check_mark(damaged)


@pytest.mark.parametrize("content", [marked(YAML), b"\xef\xbb\xbf" + marked(YAML)])
def test_a_line_that_was_damaged_itself_is_no_missing_one(content):
    end = content.index(b"\n") + 1
    for place in range(content.index(b"#"), end):
        for changed in (content[place : place + 1] + b"x", b"", b"x"):
            damaged = content[:place] + changed + content[place + 1 : -3] + b"s}\n"
            with pytest.raises(ChecksumError):
                check_mark(damaged)


def test_a_comment_of_somebody_else_is_none_of_ours():
    check_mark(b"# for lpot_lightning, sha256 of the data is elsewhere\n" + YAML)
    check_mark(b"# " + b"0123456789abcdef" * 4 + b"\n" + YAML)
    check_mark(b"# 20210305; ours, after the deploy.yaml written by lpot_lightning\n" + YAML)
    check_mark(YAML * 20 + b"# written by lpot_lightning\n")
