from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
from small_run import net, run

from lpot_lightning.errors import ArtifactError
from lpot_lightning.runs.pruning_result import read_pruning_result
from lpot_lightning.runs.tuning_result import by_reason, read_result


def test_names_with_the_same_reason_share_a_line() -> None:
    found = by_reason({"a": "no kernel", "b": "never called", "c": "no kernel"})
    assert found == ["a, c: no kernel", "b: never called"]


def test_many_names_are_shortened() -> None:
    (line,) = by_reason({f"layers.{number}": "no kernel" for number in range(40)})
    assert line == "layers.0, layers.1, layers.2, layers.3 and 36 more: no kernel"


def test_the_table_shows_a_relative_drop_as_a_share_and_an_absolute_one_as_points() -> None:
    assert re.search(r"drop / allowed +0\.\d\d% / 1\.00%\n", run(net()).table())
    absolute = run(net(), accuracy_criterion={"absolute": 0.02})
    assert re.search(r"drop / allowed +0\.\d{4} / 0\.0200\n", absolute.table())


def test_the_drop_is_positive_where_int8_is_worse() -> None:
    result = run(net(fragile=True), exit_policy={"performance_only": True})
    assert result.accuracy < result.baseline
    assert result.drop > 0


@pytest.mark.parametrize("read", [read_result, read_pruning_result])
@pytest.mark.parametrize(
    "content", [b"", b"[]", b"3", b"[" * 100_000, b'{"criterion": 3}', b"\xff", b"1" * 9999]
)
def test_what_is_no_result_is_told(tmp_path: Path, read, content: bytes) -> None:
    path = tmp_path / "result.json"
    path.write_bytes(content)
    with pytest.raises(ArtifactError, match=r"result\.json` is not what lpot_lightning writes"):
        read(path)
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(ArtifactError, match="it is a FIFO; allowed: a regular file"):
        read(path)
