"""How blocks are found and run: one that is broken fails, and so does one that says too much."""

from __future__ import annotations

import textwrap
from pathlib import Path

import pytest
from example_things import things_of
from shown_code import Block, agrees, blocks_of, examples_of, run
from shown_commands import check, commands_of
from shown_yaml import read
from users_things import Made, Things

from lpot_lightning.errors import ConfError

PAGE = """
# A page

```python
x = 2
```

<!-- not run: needs a GPU -->
```python
x = train()
```

```text
>>> x + 1
3
```

- in a list:

  ```yaml
  # ptq.yaml
  model: {name: digits}
  ```
"""


def block(code: str, language: str = "python") -> Block:
    return Block(Path("page.md"), 7, language, textwrap.dedent(code))


def run_alone(code: str) -> None:
    run(block(code), {}, lambda statement: None)


def test_blocks_of_a_page(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(PAGE)
    first, second, third, fourth = blocks_of(page)
    assert (first.line, first.code, first.why_not) == (5, "x = 2\n", "")
    assert second.why_not == "needs a GPU"
    assert (third.language, third.code) == ("python", "x + 1")
    assert (fourth.name, fourth.why_not) == ("ptq.yaml", "")


def test_examples_of_a_file(tmp_path: Path) -> None:
    path = tmp_path / "file.py"
    path.write_text(
        'def f():\n    """Do it.\n\n    Example::\n\n        f()\n\n    More.\n    """\n'
    )
    assert [(one.line, one.code) for one in examples_of(path)] == [(6, "f()\n")]


@pytest.mark.parametrize(
    "code",
    [
        "1 + 1  # 3",
        "[1, 2]  # [1]",
        "(1, 2)  # [1, 2]",
        "0.126  # 0.12",
        "'int8'\n# 'fp32'",
        "{'a': 1}  # {'b': 1}",
        "print(1 + 1)  # 3",
        "absent",
        "import absent",
    ],
)
def test_what_is_wrong_fails(code: str) -> None:
    with pytest.raises((AssertionError, NameError, ImportError)) as caught:
        run_alone(f"x = 1\n{code}\n")
    assert "page.md:8: " in "".join(caught.value.__notes__)


def test_what_is_right_passes() -> None:
    run_alone("1 + 1  # 2\n0.126  # 0.13\nprint(1 + 1)  # 2\n'int8'  # what it is\n")
    run_alone("import torch\ntorch.ones(2)\n# [1.0, 1.0]\n")
    run_alone("[3, 1, 2]  # [3, …]\n{'a': 'b c'}  # {'a': 'b…'}\n")


def test_a_dash_of_three_dots_is_anything() -> None:
    assert agrees("a `b`: c", "a `b`: …")
    assert not agrees("a [b]", "a b")
    assert agrees("a [b] *", "a [b] …")


def test_a_page_finds_what_a_user_has(tmp_path: Path) -> None:
    things = Things(Made(tmp_path))
    things.run(block("trainer = Trainer(logger=False)\nmodel(images).shape  # (4, 2)\n"))
    things.run(block("from pathlib import Path\nassert Path('ptq.yaml').read_text()\n"))
    with pytest.raises(NameError):
        things.run(block("unknown\n"))


def test_an_example_finds_what_its_file_has(tmp_path: Path) -> None:
    import lpot_lightning.tuning.score as score

    things = things_of(Made(tmp_path), Path(score.__file__))
    things.run(block("Score.of(0.9, seconds=1.0).accuracy  # 0.9\nread_conf('ptq.yaml')"))


def test_yaml_that_is_wrong_fails(tmp_path: Path) -> None:
    with pytest.raises(ConfError, match="not a known key"):
        read(block("tunning: {}\n", "yaml"))
    read(block("- !Pruner\n  names: ['*']\n", "yaml"))


@pytest.mark.parametrize(
    "line", ["make absent", "pip install 'lpot-lightning[absent]'", "python absent.py", "rm -rf x"]
)
def test_commands_of_nothing_fail(tmp_path: Path, line: str) -> None:
    (words,) = commands_of(block(f"# a comment\nOMP_NUM_THREADS=1 {line}  # one more\n", "sh"))
    with pytest.raises(AssertionError, match=r"page\.md: "):
        check(words, Path("page.md"), Things(Made(tmp_path)))


def test_output_is_no_command() -> None:
    assert list(commands_of(block("$ make \\\n    demo\nfp32 0.9\n", "text"))) == [["make", "demo"]]
