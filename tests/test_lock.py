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
from lpot_lightning.files import TEMPORARY
from lpot_lightning.lock import WorkspaceLock

CHILD = """
import os, sys, time
from pathlib import Path
from lpot_lightning.lock import WorkspaceLock
lock = WorkspaceLock(Path(sys.argv[1]))
lock.acquire()
child = os.fork()
print(child or os.getpid(), flush=True)
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
