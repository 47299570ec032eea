"""Every field against hostile values, every key against a slip of the finger."""

from __future__ import annotations

import copy
import random
from collections.abc import Iterator
from typing import Any

import pytest
from conf_scenes import everything

from lpot_lightning.conf.reader import read_conf
from lpot_lightning.errors import ConfError

HOSTILE: list[Any] = [
    True,
    -1,
    0,
    1.5,
    10**5000,
    float("nan"),
    float("-inf"),
    "",
    " ",
    "x",
    "1",
    "None",
    "\0",
    "\ud800",
    "a\nb",
    [],
    [[]],
    [None],
    [1, "x"],
    {},
    {"": None},
    b"x",
    object(),
]


def places(value: Any, keys: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the way to every value of a nested mapping."""
    entries = value.items() if isinstance(value, dict) else enumerate(value)
    for key, item in entries:
        yield (*keys, key)
        if isinstance(item, (dict, list)):
            yield from places(item, (*keys, key))


def section_of(keys: tuple[Any, ...]) -> dict[str, Any]:
    """Return the section of a key; the others would only take time."""
    return {part: value for part, value in everything().items() if part in ("model", keys[0])}


def with_value(keys: tuple[Any, ...], value: Any) -> dict[str, Any]:
    conf = section_of(keys)
    parent: Any = conf
    for key in keys[:-1]:
        parent = parent[key]
    parent[keys[-1]] = value
    return conf


def renamed(keys: tuple[Any, ...], name: str) -> dict[str, Any]:
    conf = section_of(keys)
    parent: Any = conf
    for key in keys[:-1]:
        parent = parent[key]
    parent[name] = parent.pop(keys[-1])
    return conf


def problem_of(conf: dict[str, Any]) -> str:
    """Return the text of the error or warning, or nothing if the conf survives a round trip."""
    try:
        read = read_conf(conf)
    except (ConfError, UserWarning) as problem:
        return str(problem)
    return "" if read_conf(read.to_dict()) == read else "`the round trip` is broken"


def refusal_of(conf: dict[str, Any]) -> str:
    """Return the text of the error, or nothing if there is none."""
    try:
        read_conf(conf)
    except ConfError as problem:
        return str(problem)
    return ""


def spelled(keys: tuple[Any, ...]) -> str:
    return "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in keys)[1:]


PLACES = list(places(everything()))
SECTIONS = list(everything())
NAMED = [keys for keys in PLACES if isinstance(keys[-1], str) and "op_wise" not in keys[-2:-1]]


def places_in(section: str) -> list[tuple[Any, ...]]:
    return [keys for keys in PLACES if keys[0] == section]


def slips(name: str) -> set[str]:
    """Return the name with one letter lost, doubled, swapped or in the wrong case."""
    lost = {name[:i] + name[i + 1 :] for i in range(len(name))}
    doubled = {name[:i] + name[i] + name[i:] for i in range(len(name))}
    swapped = {name[:i] + name[i + 1] + name[i] + name[i + 2 :] for i in range(len(name) - 1)}
    return {slip for slip in lost | doubled | swapped | {name.upper()} if slip not in ("", name)}


def test_everything_is_everything():
    assert len(PLACES) > 150


def faults_of(said: str, section: str) -> list[str]:
    """Return what is wrong with the text of a refusal; none is needed."""
    checks = {
        "is not printable": all(line.isprintable() for line in said.splitlines()),
        "is too long": all(len(line) < 500 for line in said.splitlines()),
        "is told twice": len(set(said.splitlines())) == len(said.splitlines()),
        f"does not name `{section}`": all(f"`{section}" in line for line in said.splitlines()),
    }
    return [fault for fault, right in checks.items() if not right]


@pytest.mark.parametrize("section", SECTIONS)
def test_a_hostile_value_is_refused_by_name_or_taken_for_what_it_is(section):
    wrong = []
    for keys in places_in(section):
        for number, value in enumerate(HOSTILE):
            said = problem_of(with_value(keys, value))
            wrong += [(spelled(keys), number, one, said) for one in faults_of(said, section)]
    assert wrong == []


@pytest.mark.parametrize("section", SECTIONS)
def test_a_value_of_no_kind_is_refused_with_its_key(section):
    wrong = []
    for keys in places_in(section):
        if isinstance(keys[-1], int):
            continue
        said = refusal_of(with_value(keys, {"no such key": [1]}))
        if f"`{spelled(keys)[:20]}" not in said:
            wrong.append((spelled(keys), said))
    assert wrong == []


@pytest.mark.parametrize("most", [3, pytest.param(1000, marks=pytest.mark.soak)])
def test_a_slip_of_the_finger_is_refused_and_understood(most):
    """Some slips of each key, by chance, and all of them in `make soak`."""
    right, wrong, draw = 0, [], random.Random(0)
    for keys in NAMED:
        every = sorted(slips(keys[-1]))
        for slip in draw.sample(every, min(most, len(every))):
            with pytest.raises(ConfError) as caught:
                read_conf(renamed(keys, slip))
            if f"Did you mean `{keys[-1]}`?" in str(caught.value):
                right += 1
            else:
                wrong.append((slip, str(caught.value)))
    assert right / (right + len(wrong)) >= 0.99, wrong


@pytest.mark.parametrize("section", SECTIONS)
def test_a_key_that_moved_up_one_level_is_refused(section):
    moved = {spelled(keys): moved_up(keys) for keys in NAMED if keys[0] == section}
    confs = {name: conf for name, conf in moved.items() if conf is not None}
    assert [name for name, conf in confs.items() if not refusal_of(conf)] == []


def moved_up(keys: tuple[Any, ...]) -> dict[str, Any] | None:
    """Return the conf with a key one level higher, or nothing where it may be there."""
    conf: Any = everything()
    parent = grandparent = conf
    for key in keys[:-1]:
        grandparent, parent = parent, parent[key]
    if keys[-1] in grandparent or isinstance(grandparent, list) or keys[-3:-2] == ("op_wise",):
        return None
    grandparent[keys[-1]] = copy.deepcopy(parent.pop(keys[-1]))
    return conf
