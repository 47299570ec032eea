"""A `python` that starts at once: it forks a process that has imported everything.

`python()` is a program that takes the place of `sys.executable`. It hands its arguments, folder,
environment and open files to a server, which forks a child for them; signals go to the child, its
exit code comes back. What a child starts by its own `sys.executable` is started so, too. That costs
nothing where an interpreter with torch and Lightning takes seven seconds to come up. As in the
tests themselves, int8 is timed as briefly as can be, and no disk is waited for.

A test that is about the start itself takes `sys.executable`.
"""

from __future__ import annotations

import atexit
import contextlib
import fcntl
import functools
import gc
import json
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import traceback
from pathlib import Path
from typing import Any, NoReturn

FORWARDED = signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2
FLAGS = {"-B", "-E", "-I", "-P", "-s", "-u"}
"""Flags of an interpreter that change nothing here; multiprocessing repeats them."""
HIGH = 500  # file descriptors are moved behind it while each goes to its place


@functools.cache
def python() -> str:
    """Return the program; all workers of a test run have one server, which ends with the last."""
    if not hasattr(os, "pidfd_open"):
        return sys.executable
    folder = _folder()
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "socket").exists():
            _start(folder)
        # the server ends when nobody holds this open any more
        atexit.register(os.close, os.open(folder / "held", os.O_WRONLY | os.O_NONBLOCK))
    return str(folder / "python")


def _folder() -> Path:
    run = os.environ.get("PYTEST_XDIST_TESTRUNUID")
    if run is None:
        return Path(tempfile.mkdtemp(prefix="warm-"))
    folder = Path(tempfile.gettempdir(), f"warm-{run}")
    folder.mkdir(mode=0o700, exist_ok=True)
    return folder


def _start(folder: Path) -> None:
    here, program = Path(__file__).resolve(), folder / "python"
    arguments = f"'{sys.executable}' -I -S '{here}' ask '{folder / 'socket'}'"
    program.write_text(f'#!/bin/sh\nexec {arguments} "$@"\n')
    program.chmod(0o700)
    os.mkfifo(folder / "held")
    server = subprocess.Popen(
        [sys.executable, str(here), "serve", str(folder)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        start_new_session=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert server.stdout is not None
    assert server.stdout.readline() == b"ready\n"
    atexit.register(server.wait)


def ask(address: str, arguments: list[str]) -> NoReturn:
    """Have the arguments run by the server, and end as they do."""
    files = [int(name) for name in os.listdir("/dev/fd")]
    files = [file for file in files if _is_inherited(file)]
    asked = {
        "arguments": arguments,
        "files": files,
        "folder": os.getcwd(),
        "environment": dict(os.environ),
    }
    content = json.dumps(asked).encode()
    with socket.socket(socket.AF_UNIX) as server, server.makefile("r") as answers:
        server.connect(address)
        socket.send_fds(server, [len(content).to_bytes(8, "big")], files)
        server.sendall(content)
        child = int(answers.readline())
        for number in FORWARDED:
            signal.signal(number, functools.partial(_forward, child))
        code = int(answers.readline())
    if code < 0:
        _die_by(-code)
    os._exit(code)


def _is_inherited(file: int) -> bool:
    with contextlib.suppress(OSError):
        return os.get_inheritable(file)
    return False


def _forward(child: int, number: int, frame: object) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(child, number)


def _die_by(number: int) -> NoReturn:
    signal.signal(number, signal.SIG_DFL) if number != signal.SIGKILL else None
    os.kill(os.getpid(), number)
    os._exit(128 + number)


def serve(folder: str) -> None:
    """Import everything, and fork for each that asks, until nobody is there that might."""
    from spared import spare

    sys.path.remove(str(Path(__file__).parent))
    import_everything()
    spare(ahead=True)
    held = os.open(f"{folder}/held", os.O_RDONLY | os.O_NONBLOCK)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(f"{folder}/socket")
        listener.listen()
        os.write(1, b"ready\n")
        while held not in select.select([listener, held], [], [])[0]:
            connection, _ = listener.accept()
            if not os.fork():
                listener.close()
                _supervise(connection, f"{folder}/python")
            connection.close()
            with contextlib.suppress(ChildProcessError):
                while os.waitpid(-1, os.WNOHANG) != (0, 0):
                    pass
    shutil.rmtree(folder)


def import_everything() -> None:
    """Import what examples and commands import, also while they run."""
    import importlib
    import pkgutil

    import lpot_lightning

    own = [one.name for one in pkgutil.walk_packages(lpot_lightning.__path__, "lpot_lightning.")]
    others = (
        "lightning.pytorch.cli",
        "onnxscript.function_libs.torch_lib.ops",
        "PIL.Image",
        "scipy.optimize",
        "sklearn.datasets",
        "torch._dynamo.repro.after_dynamo",  # the first capture imports it, with networkx: 0.3 s
        "torch.distributed.tensor.experimental",
        "torch.multiprocessing.spawn",
        "torch_pruning",
    )
    for name in (*others, *own):
        if not name.endswith("__main__"):
            importlib.import_module(name)
    lpot_lightning.timing.ratio.WARM_UP, lpot_lightning.timing.ratio.MOST = 0, 1
    lpot_lightning.runs.paying.applies = lambda job: False
    os.fsync = os.fstat
    gc.set_threshold(50_000, 20, 20)
    gc.freeze()  # a child that collects garbage would write to all of it


def _supervise(connection: socket.socket, program: str) -> NoReturn:
    """Fork a child, tell its number and its end; kill it when the one that asked has gone."""
    os.closerange(0, 2)  # by those the server and the one that started it know of each other
    size, files, _, _ = socket.recv_fds(connection, 8, 253)
    with connection.makefile("rb") as content:
        asked = json.loads(content.read(int.from_bytes(size, "big")))
    child = os.fork()
    if not child:
        connection.close()
        _run(asked, files, program)
    for file in files:
        os.close(file)
    connection.sendall(f"{child}\n".encode())
    ended = os.pidfd_open(child)
    if ended not in select.select([connection, ended], [], [])[0]:
        os.kill(child, signal.SIGKILL)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    with contextlib.suppress(OSError):
        connection.sendall(f"{code}\n".encode())
    os._exit(0)


def _run(asked: dict[str, Any], files: list[int], program: str) -> NoReturn:
    """Be the interpreter that was asked for."""
    os.setsid()
    high = [fcntl.fcntl(file, fcntl.F_DUPFD, HIGH) for file in files]
    os.closerange(0, HIGH)
    for file, place in zip(high, asked["files"], strict=True):
        os.dup2(file, place)
        os.close(file)
    os.environ.clear()
    os.environ.update(asked["environment"])
    os.chdir(asked["folder"])
    sys.executable = program
    import multiprocessing.process
    import multiprocessing.spawn

    multiprocessing.spawn.set_executable(program)
    multiprocessing.process.ORIGINAL_DIR = asked["folder"]
    import numpy as np

    np.random.seed(None)  # that of `random` is renewed by itself
    import torch._dynamo

    # what an interpreter reads when it imports that
    torch._dynamo.config.disable = os.environ.get("TORCHDYNAMO_DISABLE") == "1"
    code = _exit_code(asked["arguments"])
    with contextlib.suppress(Exception):
        threading._shutdown()
        atexit._run_exitfuncs()
    with contextlib.suppress(OSError, ValueError):
        sys.stdout.flush()
        sys.stderr.flush()
    if code < 0:
        _die_by(-code)
    os._exit(code)  # to take the modules down takes longer than many a run


def _exit_code(arguments: list[str]) -> int:
    try:
        _execute(arguments)
    except SystemExit as ended:
        if ended.code is None or isinstance(ended.code, int):
            return (ended.code or 0) & 255
        sys.stderr.write(f"{ended.code}\n")
        return 1
    except KeyboardInterrupt:
        traceback.print_exc()
        return -signal.SIGINT
    except BaseException:
        traceback.print_exc()
        return 1
    return 0


def _execute(arguments: list[str]) -> None:
    import runpy
    import types

    while arguments[0] in FLAGS:
        arguments = arguments[1:]
    given = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    sys.path[:0] = [path for path in given if path and path not in sys.path]
    name, *others = arguments
    main = sys.modules["__main__"] = types.ModuleType("__main__")
    if name == "-m":
        sys.argv = others
        sys.path.insert(0, os.getcwd())
        runpy.run_module(others[0], run_name="__main__", alter_sys=True)
        return
    if name == "-c":
        code, sys.argv = others[0], ["-c", *others[1:]]
        sys.path.insert(0, "")
    else:
        assert not name.startswith("-"), f"{name} needs an interpreter of its own"
        code, sys.argv = Path(name).read_text(), arguments
        sys.path.insert(0, str(Path(name).resolve().parent))
        main.__file__ = name
    exec(compile(code, "<string>" if name == "-c" else name, "exec"), vars(main))  # noqa: S102


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["ask", address, *arguments]:
            ask(address, arguments)
        case ["serve", folder]:
            serve(folder)
