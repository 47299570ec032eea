"""Calls that change files are counted, and met by faults."""

from __future__ import annotations

import errno
import os
import shutil
import signal
from pathlib import Path

import pytest

from lpot_lightning.errors import ArtifactError
from lpot_lightning.machine.files import write_file
from lpot_lightning.selftest.file_calls import FailingAt, FileCalls, KilledAt


def in_child(work) -> int:
    """Return the exit code of ``work`` in a process of its own."""
    child = os.fork()
    if not child:
        try:
            work()
        except BaseException:
            os._exit(1)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def names_of(work) -> list[str]:
    """Return the calls that ``work`` makes in the folder ``seen``."""
    Path("seen").mkdir()
    told = os.open("told", os.O_WRONLY | os.O_CREAT)
    write = os.write

    def child() -> None:
        FileCalls([Path("seen")], after=lambda call: write(told, f"{call.name}\n".encode())).patch()
        work()

    assert in_child(child) == 0
    return Path("told").read_text().split()


def test_a_file_that_is_written_whole():
    calls = names_of(lambda: write_file(Path("seen/a"), b"content"))
    assert calls == ["open", "write", "fsync", "chmod", "replace", "fsync"] or calls == [
        "open", "write", "chmod", "replace"
    ]  # tests do not sync  # fmt: skip


def test_files_of_python_and_folders():
    def work() -> None:
        with open("seen/a", "wb") as file:
            file.write(b"content")
        Path("seen/b").mkdir()
        shutil.rmtree("seen/b")
        os.link("seen/a", "seen/c")
        os.truncate("seen/a", 3)
        Path("other").write_bytes(b"is not seen")

    assert names_of(work) == ["open", "write", "mkdir", "rmdir", "link", "truncate"]


def test_a_kill_in_the_middle_of_a_write():
    Path("seen").mkdir()

    def child() -> None:
        FileCalls([Path("seen")], KilledAt(2)).patch()
        with open("seen/a", "wb") as file:
            file.write(b"content!")

    assert in_child(child) == -signal.SIGKILL
    assert Path("seen/a").read_bytes() == b"cont"


@pytest.mark.parametrize("lasts", [False, True])
def test_a_disk_that_is_full(lasts):
    Path("seen").mkdir()

    def child() -> None:
        FileCalls([Path("seen")], FailingAt(2, errno.ENOSPC, lasts=lasts)).patch()
        with pytest.raises(ArtifactError, match="cannot write `seen/a`: No space left on device"):
            write_file(Path("seen/a"), b"content")
        if lasts:
            with pytest.raises(ArtifactError, match="No space left"):
                write_file(Path("seen/a"), b"content")
        else:
            write_file(Path("seen/a"), b"content")

    assert in_child(child) == 0
    assert [one.name for one in Path("seen").iterdir()] == ([] if lasts else ["a"])
