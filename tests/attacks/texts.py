"""Hostile texts: YAML, JSON and lines of JSON."""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from attack import Attack, Content, written
from sealing import seal_again

_APPLY = "!!python/object/apply:"
TAGS: dict[str, str] = {
    "os.system": f"{_APPLY}os.system ['touch MARKER']",
    "Popen": f"{_APPLY}subprocess.Popen [[touch, MARKER]]",
    "eval": f"{_APPLY}builtins.eval [\"open('MARKER', 'w')\"]",
    "exec": f"{_APPLY}builtins.exec [\"open('MARKER', 'w')\"]",
    "keywords": f"{_APPLY}subprocess.run {{args: [[touch, MARKER]]}}",
    "new": "!!python/object/new:os.system ['touch MARKER']",
    "new with a state": "!!python/object/new:type {args: [x, !!python/tuple [], {}], state: {}}",
    "object": "!!python/object:pathlib.Path {x: 1}",
    "name": "!!python/name:os.system ''",
    "module": "!!python/module:colorsys ''",
    "full tag": "!<tag:yaml.org,2002:python/object/apply:os.system> ['touch MARKER']",
    "tuple": "!!python/tuple [1, 2]",
    "bytes": "!!python/bytes eA==",
    "complex": "!!python/complex 1+1j",
    "binary": "!!binary " + "eHh4" * 2000,
    "set": "!!set {a, b}",
    "omap": "!!omap [a: 1, b: 2]",
    "pairs": "!!pairs [a: 1, a: 2]",
    "timestamp": "!!timestamp 2001-12-14t21:59:43.10-05:00",
    "bad timestamp": "!!timestamp 9999-99-99",
    "int of text": "!!int text",
    "float of text": "!!float text",
    "bool of text": "!!bool text",
    "null of a map": "!!null {a: 1}",
    "str of a list": "!!str [a]",
    "map of a list": "!!map [a]",
    "include": "!include /etc/passwd",
    "env": "!ENV ${HOME}",
    "pruner elsewhere": "!Pruner {x: 1}",
    "ruby": "!ruby/object:Gem::Installer {i: x}",
    "javascript": "!!js/function 'function(){}'",
    "java": "!!javax.script.ScriptEngineManager [!!java.net.URL ['http://127.0.0.1:9/']]",
    "long tag": "!" + "x" * 5000 + " 1",
    "no such handle": "!no!such 1",
}
NAMES: dict[str, str] = {
    "environment": "${oc.env:HOME}",
    "environment, else": "${oc.env:NOT_THERE,x}",
    "decode": "${oc.decode:'[1, 2]'}",
    "create": "${oc.create:{a: 1}}",
    "eval": "${eval:\"__import__('os').system('touch MARKER')\"}",
    "interpolation of itself": "${model.name}",
    "shell": "$(touch MARKER)",
    "backticks": "`touch MARKER`",
    "template": "{{ config.__class__.__init__.__globals__ }}",
    "percent": "%(os)s %s %n",
    "folder above": "../../../MARKER",
    "absolute": "/tmp/MARKER",
    "home of nobody": "~nouser/x",
    "null byte": '"a\\0b"',
    "escape codes": '"\\e[31mred\\a"',
    "right to left": '"\\u202eexe"',
    "lonely surrogate": '"\\ud800"',
    "long": "x" * 5000,
    "dot": ".",
    "dots": "..",
    "nothing": '""',
    "blank": '" "',
}
"""Texts where a name is asked for: what is in them stays text, or is refused."""
NUMBERS = {
    "10**5 digits": "1" * 100_000,
    "sexagesimal": ":".join(["1"] * 5000),
    "1e400": "1e400",
    "infinity": ".inf",
    "not a number": ".nan",
    "minus zero": "-0.0",
    "hexadecimal": "0x" + "f" * 5000,
    "octal": "0o777",
    "binary": "0b" + "1" * 10_000,
    "2**64": "18446744073709551616",
    "underscores": "1" + "_" * 50_000 + "1",
    "date": "2001-01-01",
    "yes": "yes",
}


def _laughs(levels: int, each: int) -> str:
    """Return a text of few bytes that stands for ``each ** levels`` values."""
    made = ["x0: &x0 [y]"]
    made += [f"x{n}: &x{n} [{', '.join([f'*x{n - 1}'] * each)}]" for n in range(1, levels)]
    return "\n".join(made)


def _mapped_laughs(levels: int) -> str:
    made = ["x0: &x0 {y: z}"]
    made += [
        f"x{n}: &x{n} {{{', '.join(f'k{k}: *x{n - 1}' for k in range(9))}}}"
        for n in range(1, levels)
    ]
    return "\n".join(made)


def _merges(levels: int) -> str:
    made = ["m0: &m0 {a: 1}"]
    made += [f"m{n}: &m{n} {{<<: [{', '.join([f'*m{n - 1}'] * 9)}]}}" for n in range(1, levels)]
    return "\n".join(made)


DOCUMENTS: dict[str, Content] = {
    "nothing": b"",
    "blanks": b" \n" * 1000,
    "a comment": b"# x",
    "50 MB of comment": lambda: b"#" + b"x" * (50 << 20),
    "50 MB of lines": lambda: b"\n" * (50 << 20),
    "20 MB of one text": lambda: b"x: '" + b"y" * (20 << 20) + b"'",
    "two documents": b"a: 1\n---\nb: 2\n",
    "10,000 documents": b"---\na: 1\n" * 10_000,
    "an end alone": b"...\n",
    "a text": b"text",
    "a list": b"[1, 2]",
    "a number": b"1",
    "null": b"~",
    "null byte": b"a: \0",
    "null bytes": bytes(1000),
    "byte order mark": b"\xef\xbb\xbfa: 1",
    "UTF-16": "a: 1".encode("utf-16"),
    "UTF-32": "a: 1".encode("utf-32"),
    "Latin-1": b"a: \xe9",
    "overlong UTF-8": b"a: \xc0\xaf",
    "a tab": b"a:\n\t- 1",
    "control characters": b"a: \x01\x02\x7f",
    "a reserved mark": b"a: @x",
    "a tie": b"a: `x",
    "no end of a quote": b"a: 'x",
    "no end of a list": b"a: [1, 2",
    "2,000 lists": b"[" * 2000,
    "100,000 lists": b"[" * 100_000,
    "100,000 lists, closed": b"[" * 100_000 + b"]" * 100_000,
    "100,000 mappings": b"{a: " * 100_000,
    "10,000 levels of lines": b"\n".join(b" " * n + b"a:" for n in range(3000)),
    "100,000 dashes": b"- " * 100_000,
    "100,000 question marks": b"? " * 100_000,
    "200,000 values": b"[" + b"1, " * 200_000 + b"1]",
    "200,000 keys": b"\n".join(b"k%d: 1" % n for n in range(200_000)),
    "a list of itself": b"&a [*a]",
    "a mapping of itself": b"&a {b: *a}",
    "a key that is itself": b"&a {*a : 1}",
    "an alias of nothing": b"a: *b",
    "an anchor of 10,000 bytes": b"a: &" + b"x" * 10_000 + b" 1",
    "an anchor twice": b"a: &x 1\nb: &x 2\nc: *x",
    "laughs of 8 levels": _laughs(8, 9).encode(),
    "laughs of 30 levels": _laughs(30, 9).encode(),
    "laughs of 9,000 each": _laughs(3, 9000).encode(),
    "laughs of mappings": _mapped_laughs(10).encode(),
    "merge of itself": b"&a {<<: *a}",
    "merge of a list": b"<<: [1, 2]",
    "merge of a number": b"<<: 1",
    "merges of merges": _merges(9).encode(),
    "a key twice": b"model: {name: a}\nmodel: {name: b}",
    "a key that is a list": b"? [a, b]\n: 1",
    "a key that is a mapping": b"{a: 1}: 2",
    "a key that is null": b"~: 1",
    "a key of 5,000 bytes": b"x" * 5000 + b": 1",
    "a key with a dot": b"a.b.c: 1",
    "`__class__`": b"__class__: {__init__: {__globals__: 1}}",
    "`_target_`": b"_target_: os.system\ncommand: touch MARKER",
    "`class_path`": b"class_path: os.system\ninit_args: {command: touch MARKER}",
    "`__py/object__`": b'{"py/object": "os.system", "py/reduce": [1]}',
    "a directive": b"%YAML 9.9\n---\na: 1",
    "a handle": b"%TAG ! tag:yaml.org,2002:python/\n---\na: !name:os.system ''",
    "a pickle": b"cos\nsystem\n(S'touch MARKER'\ntR.",
    "an archive": b"PK\x03\x04" + bytes(1000),
    "a picture": b"\x89PNG\r\n\x1a\n" + bytes(1000),
    "JSON of 10,000 levels": b'{"a":' * 10_000 + b"1" + b"}" * 10_000,
    "a block scalar of 100,000 blanks": b"a: |\n" + b" " * 100_000 + b"x",
    "a line of 1 MB": b"a: " + b"x " * (1 << 19),
}  # fmt: skip
YAMLS = {
    "conf": ("conf", "conf.yaml", "model", "name"),
    "tune config": ("pair", "best_configure.yaml", "versions", "model"),
    "pruned tune config": ("pruned pair", "pruned_configure.yaml", "versions", "model"),
    "deploy": ("deploy", "deploy.yaml", "model", "name"),
}
"""Door, file, and two keys of each."""


def yamls() -> Iterator[Attack]:
    """Yield hostile YAMLs in each place where one is read."""
    for place, (door, file, _, key) in YAMLS.items():
        for name, content in DOCUMENTS.items():
            yield Attack(f"YAML: {name} as {place}", door, written(file, content))
        for name, tag in TAGS.items():
            yield Attack(f"tag: {name} as all of {place}", door, written(file, tag.encode()))
            for where, put in _inside(file, key, tag).items():
                yield Attack(f"tag: {name} {where} of {place}", door, put, may_load=True)
        for group, values in {"name": NAMES, "number": NUMBERS}.items():
            for name, value in values.items():
                for where, put in _inside(file, key, value).items():
                    yield Attack(f"{group}: {name} {where} of {place}", door, put, may_load=True)


def _inside(file: str, key: str, value: str) -> dict[str, Callable[[Path], object]]:
    def replaced(folder: Path) -> None:
        lines = (folder / file).read_text().splitlines()
        number = next(n for n, line in enumerate(lines) if line.lstrip("{ ").startswith(f"{key}:"))
        blank = " " * (len(lines[number]) - len(lines[number].lstrip()))
        lines[number] = f"{blank}{key}: {value}"
        (folder / file).write_text("\n".join(lines) + "\n")

    def added(folder: Path) -> None:
        with (folder / file).open("a") as opened:
            opened.write(f"added: {value}\n")

    return {"at a key": replaced, "at a new key": added}


JSONS: dict[str, Content] = {
    "nothing": b"",
    "a text": b'"x"',
    "a list": b"[]",
    "a number": b"1",
    "null": b"null",
    "an empty mapping": b"{}",
    "cut off": b'{"status": "met", "mon',
    "100,000 levels": b"[" * 100_000,
    "100,000 levels, closed": b"[" * 100_000 + b"]" * 100_000,
    "100,000 mappings": b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
    "not a number": b'{"accuracy": NaN}',
    "infinity": b'{"accuracy": -Infinity}',
    "10**5 digits": b'{"accuracy": ' + b"1" * 100_000 + b"}",
    "1e400": b'{"accuracy": 1e400}',
    "a key twice": b'{"status": "met", "status": "not_met"}',
    "null byte": b'{"a\\u0000": 1}',
    "null bytes": bytes(1000),
    "a lonely surrogate": b'{"status": "\\ud800"}',
    "a byte order mark": b"\xef\xbb\xbf{}",
    "UTF-16": "{}".encode("utf-16"),
    "Latin-1": b'{"a": "\xe9"}',
    "a million values": b"[" + b"1," * 1_000_000 + b"1]",
    "50 MB of a text": lambda: b'{"status": "' + b"x" * (50 << 20) + b'"}',
    "50 MB of blanks": lambda: b" " * (50 << 20) + b"{}",
    "a pickle": b"cos\nsystem\n(S'touch MARKER'\ntR.",
    "an archive": b"PK\x03\x04" + bytes(1000),
    "comments": b"// x\n{}",
    "single quotes": b"{'a': 1}",
    "two values": b"{}{}",
    "`py/object`": b'{"py/object": "os.system", "py/reduce": ["touch MARKER"]}',
    "`__class__`": b'{"__class__": "os.system", "held": 1, "origin": 2}',
}
VALUES: tuple[Any, ...] = (
    None, True, "", "x", -1, 0, 1.5, 10**30, float("inf"), [], [[]], {}, {"x": 1}, "../../MARKER",
    "${oc.env:HOME}", "a\0b", "\x1b[31m", "x" * 5000,
)  # fmt: skip
RECORDS = "export records"
RESULTS = {"result": "result.json", "pruning result": "pruning_result.json"}
FIELDS = (
    *("status", "monitor", "criterion", "baseline", "accuracy", "workspace"),
    *("trials", "layers", "held", "origin"),
)


def jsons() -> Iterator[Attack]:
    """Yield hostile results."""
    for name, content in JSONS.items():
        yield Attack(f"JSON: {name} as {RECORDS}", RECORDS, written("exports.json", content))
    for door, file in RESULTS.items():
        for name, content in JSONS.items():
            yield Attack(f"JSON: {name} as {door}", door, written(file, content))
        for field in FIELDS:
            for number, value in enumerate(VALUES):
                put = _with_field(file, field, value)
                yield Attack(f"field: {field} is value {number} of {door}", door, put, True)


def _with_field(file: str, field: str, value: Any) -> Callable[[Path], object]:
    def put(folder: Path) -> None:
        plain = json.loads((folder / file).read_bytes())
        (folder / file).write_text(json.dumps({**plain, field: value}))

    return put


def line(number: int, content: dict[str, Any]) -> bytes:
    """Return a line of a history, its CRC right."""
    body = json.dumps({"seq": number, **content})
    return f'{body[:-1]}, "crc": "{zlib.crc32(body.encode()):08x}"}}\n'.encode()


HEAD: dict[str, Any] = {"kind": "header", "format": 1, "fingerprints": {"config": "x"}}
_RECORDS: dict[str, dict[str, Any]] = {
    "baseline": {"kind": "baseline", "accuracy": 0.5},
    "costs": {"kind": "costs", "recipe": "x"},
    "paying": {"kind": "paying", "recipe": "x"},
    "ranking": {"kind": "ranking", "recipe": "x"},
    "about": {"kind": "about", "recipe": "", "about": {}},
    "training": {"kind": "training", "recipe": "", "log": {}},
    "trial": {"kind": "trial", "accepted": True, "score": {}, "recipe": {}},
}
HISTORIES: dict[str, Content] = {
    **{f"JSON, {name}": content for name, content in JSONS.items()},
    "line ends alone": b"\n" * 100_000,
    "no line end": line(0, HEAD)[:-1],
    "another line end": line(0, HEAD)[:-1] + b"\r\n" + line(1, _RECORDS["baseline"]),
    "a line separator": line(0, HEAD)[:-1] + "\u2028".encode() + line(1, _RECORDS["baseline"]),
    "not from the start": line(1, HEAD),
    "a number twice": line(0, HEAD) + line(0, HEAD),
    "a million numbers away": line(0, HEAD) + line(10**6, _RECORDS["baseline"]),
    "another format": line(0, {**HEAD, "format": 99}),
    "a format of text": line(0, {**HEAD, "format": "1"}),
    "a format of truth": line(0, {**HEAD, "format": True}),
    "fingerprints of text": line(0, {**HEAD, "fingerprints": "x"}),
    "fingerprints of numbers": line(0, {**HEAD, "fingerprints": {"config": [1]}}),
    "100,000 lines": line(0, HEAD)
    + b"".join(line(n, _RECORDS["costs"]) for n in range(1, 100_000)),
    "a trial of 10,000 ops": line(0, HEAD)
    + line(1, {**_RECORDS["trial"], "recipe": {"ops": {f"op{n}": {} for n in range(10_000)}}}),
}  # fmt: skip


def histories() -> Iterator[Attack]:
    """Yield hostile histories."""
    for name, content in HISTORIES.items():
        yield Attack(f"history: {name}", "history", written("history.jsonl", content), True)
    for kind, record in _RECORDS.items():
        for field in (*record, "seconds", "evaluations"):
            for number, value in enumerate(VALUES):
                told = f"history: {field} of {kind} is value {number}"
                changed = line(0, HEAD) + line(1, {**record, field: value})
                yield Attack(told, "history", written("history.jsonl", changed), True)


def locks() -> Iterator[Attack]:
    """Yield what is where the lock goes, and what is where files go that are replaced."""
    for name, content in {**JSONS, **DOCUMENTS}.items():
        if not callable(content):
            yield Attack(f"lock: {name}", "lock", written("lock", content), True)
    for file in ("result.json", "deploy.yaml", "best_configure.yaml", "pruning_result.json"):
        for name in ("a script", "a list of itself", "laughs of 30 levels"):
            content = {**DOCUMENTS, "a script": b"#!/bin/sh\ntouch MARKER\n"}[name]
            yield Attack(f"lock: {name} as `{file}`", "lock", written(file, content), True)


def sealed_yamls() -> Iterator[Attack]:
    """Yield tune configs whose fields are of other kinds, their seals made again."""
    import yaml

    for file, door in (("best_configure.yaml", "pair"), ("pruned_configure.yaml", "pruned pair")):
        for field in (
            *("format", "framework", "model", "approach", "versions", "accuracy", "backend"),
            *("engine", "reduce_range", "parts", "op", "modules", "signatures", "probe"),
            *("fp32_model", "weights", "float", "channels", "sparsity"),
        ):
            for number, value in enumerate(VALUES[:-1]):
                put = _resealed(file, field, value, yaml.safe_load)
                yield Attack(f"sealed: {field} is value {number} of {file}", door, put, True)


def _resealed(file: str, field: str, value: Any, read: Any) -> Callable[[Path], object]:
    def put(folder: Path) -> None:
        import yaml

        plain = {**read((folder / file).read_bytes()), field: value}
        (folder / file).write_text(yaml.safe_dump(plain, sort_keys=False))
        if isinstance(plain.get("weights"), dict):
            seal_again(folder)

    return put
