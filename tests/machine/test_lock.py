"""One run a workspace, and none that outlives its process."""

import copy
import errno
import fcntl
import gc
import json
import os
import re
import signal
import stat
import subprocess
import sys

import pytest

from lpot_lightning.errors import ArtifactError, BusyError
from lpot_lightning.machine.files import TEMPORARY
from lpot_lightning.machine.lock import WorkspaceLock

CHILD = """
import os, sys, time
from pathlib import Path
from lpot_lightning.machine.lock import WorkspaceLock
lock = WorkspaceLock(Path(sys.argv[1]))
lock.acquire()
child = os.fork()
os.write(1, b"%d\\n" % (child or os.getpid()))  # in one piece: the other writes, too
time.sleep(60)
"""


def is_free(folder) -> bool:
    try:
        with WorkspaceLock(folder):
            return True
    except BusyError:
        return False


def test_a_second_run_is_refused_and_told_who_holds_it(tmp_path):
    second = WorkspaceLock(tmp_path / "new" / "ws")
    with WorkspaceLock(tmp_path / "new" / "ws"), pytest.raises(BusyError) as told:
        second.acquire()
    assert re.fullmatch(
        r"the workspace `.*/new/ws` is used by another run of this process since 20\d\d-.* UTC"
        r" \(.+\); wait for it, or give another one in `tuning\.workspace\.path`",
        str(told.value),
    )
    assert is_free(tmp_path / "new" / "ws")


def test_a_lock_can_be_taken_again_and_left_twice(tmp_path):
    lock = WorkspaceLock(tmp_path)
    for _ in range(2):
        lock.acquire()
        assert not is_free(tmp_path)
        lock.release()
        lock.release()
        assert is_free(tmp_path)


def test_the_file_stays_and_names_the_holder_while_there_is_one(tmp_path):
    with WorkspaceLock(tmp_path):
        (line,) = (tmp_path / "lock").read_text().splitlines()
        assert json.loads(line)["pid"] == os.getpid()
    assert (tmp_path / "lock").read_bytes() == b""


def test_what_is_unfinished_is_swept_by_the_holder_only(tmp_path):
    left = tmp_path / f"{TEMPORARY}left_0ve"
    left.write_bytes(b"")
    with WorkspaceLock(tmp_path):
        assert not left.exists()
        left.write_bytes(b"in the making")
        assert not is_free(tmp_path)
        assert left.exists()


def test_killed_with_a_child_alive_it_is_free_at_once(tmp_path):
    run = [sys.executable, "-c", CHILD, str(tmp_path)]
    with subprocess.Popen(run, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        pids = {int(holder.stdout.readline()) for _ in range(2)}
        (child,) = pids - {holder.pid}
        with pytest.raises(BusyError, match=rf"process {holder.pid} on host .* since .* \(-c\);"):
            WorkspaceLock(tmp_path).acquire()
        try:
            holder.kill()
            holder.wait()
            os.kill(child, 0)  # it lives
            assert is_free(tmp_path)
        finally:
            os.kill(child, signal.SIGKILL)


def test_a_child_that_ends_leaves_the_lock_to_its_parent(tmp_path):
    lock = WorkspaceLock(tmp_path)
    lock.acquire()
    child = os.fork()
    if not child:
        lock.release()
        del lock
        gc.collect()
        os._exit(0)
    os.waitpid(child, 0)
    assert not is_free(tmp_path)
    lock.release()


def test_a_program_that_is_started_does_not_hold_it(tmp_path):
    with WorkspaceLock(tmp_path):
        sleeper = subprocess.Popen(["sleep", "60"], close_fds=False)
    try:
        assert is_free(tmp_path)
    finally:
        sleeper.kill()
        sleeper.wait()


def test_a_forgotten_lock_is_free(tmp_path):
    WorkspaceLock(tmp_path).acquire()
    gc.collect()
    assert is_free(tmp_path)


def test_a_copy_holds_nothing(tmp_path):
    with WorkspaceLock(tmp_path) as lock:
        copied = copy.deepcopy(lock)
        copied.release()
        del copied
        gc.collect()
        assert not is_free(tmp_path)


def test_a_file_system_without_locks_is_named(tmp_path, monkeypatch):
    def unable(*_):
        raise OSError(errno.EOPNOTSUPP, "Operation not supported")

    monkeypatch.setattr(fcntl, "flock", unable)
    with pytest.raises(ArtifactError, match=r"has no locks .*`tuning\.workspace\.path`") as told:
        WorkspaceLock(tmp_path).acquire()
    assert not isinstance(told.value, BusyError)
    monkeypatch.undo()
    assert is_free(tmp_path)


def test_without_fcntl_nobody_is_kept_out(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "fcntl", None)
    with WorkspaceLock(tmp_path):
        assert is_free(tmp_path)


def test_a_folder_in_its_place_is_told(tmp_path):
    (tmp_path / "lock").mkdir()
    with pytest.raises(ArtifactError, match=r"cannot write to the workspace: `.*/lock`"):
        WorkspaceLock(tmp_path).acquire()


def test_its_mode_follows_the_umask(tmp_path):
    before = os.umask(0o027)
    try:
        with WorkspaceLock(tmp_path):
            assert stat.S_IMODE((tmp_path / "lock").stat().st_mode) == 0o640
    finally:
        os.umask(before)


def refused(folder, words):
    with pytest.raises(ArtifactError, match=words) as told:
        WorkspaceLock(folder).acquire()
    assert not isinstance(told.value, BusyError)
    assert "tuning.workspace.path" in str(told.value)


@pytest.mark.parametrize(
    "content", ["my own file", '{"pid": 1}', "[1]", "3", "[" * 100_000, '{"a": "' + "x" * 9000]
)
def test_a_lock_of_somebody_else_is_left_as_it_is(tmp_path, content):
    (tmp_path / "lock").write_text(content)
    refused(tmp_path, r"`.*/lock` is not what lpot_lightning writes")
    assert (tmp_path / "lock").read_text() == content


@pytest.mark.parametrize("target", ["precious.txt", "gone.txt", "empty.txt"])
def test_a_link_in_its_place_is_not_followed(tmp_path, target):
    (tmp_path / "precious.txt").write_text("years of work")
    (tmp_path / "empty.txt").write_text("")
    (tmp_path / "ws").mkdir()
    (tmp_path / "ws" / "lock").symlink_to(tmp_path / target)
    refused(tmp_path / "ws", "`.*/lock`: it is a link")
    assert (tmp_path / "precious.txt").read_text() == "years of work"
    assert not (tmp_path / "gone.txt").exists()


def test_a_fifo_in_its_place_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "lock")
    refused(tmp_path, "`.*/lock`: it is a FIFO; allowed: a regular file")


@pytest.mark.parametrize("left", [
    b"", b"\0" * 80, b'{"pid": 1, "host": "h", "since": "s", "program": "p"}\n',
    b'{"p', b'{"pid": 1, "host": "h', b'{"pid": 1, "ho' + b"\0" * 80,
    b'{"pid": 1, "host": "h", "since": "s", "program": "p"}\0',
])  # fmt: skip
def test_what_a_killed_run_has_left_is_ours(tmp_path, left):
    (tmp_path / "lock").write_bytes(left)
    assert is_free(tmp_path)


def test_what_others_wrote_into_it_meanwhile_is_left(tmp_path):
    with WorkspaceLock(tmp_path):
        (tmp_path / "lock").write_text("my own file")
    assert (tmp_path / "lock").read_text() == "my own file"


def test_on_a_full_disk_half_a_name_is_none(tmp_path, monkeypatch):
    write = os.write
    monkeypatch.setattr(os, "write", lambda handle, line: write(handle, line[:9]))
    lock = WorkspaceLock(tmp_path)
    lock.acquire()
    monkeypatch.undo()
    assert (tmp_path / "lock").read_bytes() == b""
    assert not is_free(tmp_path)


def test_a_file_of_somebody_else_is_refused_before_there_is_a_lock(tmp_path):
    (tmp_path / "result.json").write_text('{"my": "own"}')
    refused(tmp_path, r"`.*/result\.json` is not what lpot_lightning writes, and the run would rep")
    assert [path.name for path in tmp_path.iterdir()] == ["result.json"]
