"""YAML of plain values, and none that grows, holds itself or is built by a tag."""

import time

import pytest
import yaml

from lpot_lightning.machine.plain_yaml import MAX_DEPTH, TooMuch, check_plain, read_plain_yaml


def laughs(levels):
    lines = ["z0: &z0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"z{k}: &z{k} [{', '.join([f'*z{k - 1}'] * 9)}]" for k in range(1, levels)]
    return "\n".join(lines).encode()


REFUSED = {
    "a billion laughs": (laughs(9), "stand for more than"),
    "laughs as merges": (laughs(4) + b"\nm: {<<: *z3}", ""),
    "itself in a mapping": (b"&a {b: *a}", "`a` is inside of itself, line 1"),
    "itself in a list": (b"a: &a [1, [*a]]", "`a` is inside of itself"),
    "no anchor": (b"a: *b", "undefined alias"),
    "deep": (b"[" * 100, "deeper than 64 levels"),
    "very deep": (b"[" * 1_000_000, ""),
    "deep in block style": (b"\n".join(b" " * k + b"a:" for k in range(100)), "deeper than 64"),
    "deep by aliases": (
        b"a0: &a0 []\n" + b"".join(b"a%d: &a%d [*a%d]\n" % (k, k, k - 1) for k in range(1, 80)),
        "deeper than 64 levels",
    ),
    "a value too deep": (b"[" * 64 + b"1" + b"]" * 64, "deeper than 64 levels"),
    "a key twice": (b"a: 1\nb: 2\na: 3", "a key is given twice: `a`"),
    "a key twice in other words": (b"1: 1\n0x1: 2", "a key is given twice"),
    "a tag": (b"!!python/object/apply:os.getpid []", "is none of ours, line 1"),
    "a tag of YAML": (b"a: !!set {b}", "the tag `tag:yaml.org,2002:set` is none of ours"),
    "a number to the base 60": (b"1" + b":1" * 100_000, "a number has 200,001 digits"),
    "a number": (b"0x" + b"f" * 100_000, "a number has 100,002 digits"),
    "two documents": (b"a: 1\n--- b", ""),
    "no text": (b"\xff\xfe\x00", ""),
    "values": (b"a: [" + b"1," * 1_100_000 + b"]", "more than 1,000,000 values"),
}


@pytest.mark.parametrize(("content", "words"), REFUSED.values(), ids=list(REFUSED))
def test_what_no_file_of_ours_holds_is_refused_at_once(content, words):
    begun = time.process_time()
    with pytest.raises(yaml.YAMLError) as told:
        read_plain_yaml(content)
    assert words in str(told.value)
    assert time.process_time() - begun < (30 if "values" in words else 1)


PLAIN = {"a": [1, 2.5, True, None, "1e5", "on", "2001-01-01", "<<", "~"], "0.1.2": {3: {}}, "": []}


def test_what_pyyaml_writes_comes_back():
    assert read_plain_yaml(yaml.safe_dump(PLAIN).encode()) == PLAIN
    assert read_plain_yaml(b"") is None


def test_what_is_as_deep_as_allowed_comes_back():
    found = read_plain_yaml(b"[" * 63 + b"1" + b"]" * 63)
    for _ in range(63):
        (found,) = found
    assert found == 1


def test_what_is_shared_comes_back():
    shared = {"scheme": "asym", "channels": list(range(200))}
    plain = {f"op{number}": shared for number in range(400)}
    text = yaml.safe_dump(plain)
    assert "*id001" in text
    assert read_plain_yaml(text.encode()) == plain


def test_a_large_comment_takes_no_time():
    begun = time.process_time()
    assert read_plain_yaml(b"a: 1\n#" + b" " * (15 << 20)) == {"a": 1}
    assert time.process_time() - begun < 2


def test_values_that_came_another_way_are_held_to_the_same():
    itself: list[object] = []
    itself.append({"a": itself})
    wide: object = "x"
    for _ in range(9):
        wide = [wide] * 9
    deep: object = 1
    for _ in range(MAX_DEPTH + 1):
        deep = (deep,)
    check_plain(PLAIN)
    for value in (itself, wide, deep):
        with pytest.raises(TooMuch):
            check_plain({"op": value})
