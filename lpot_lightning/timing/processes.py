"""Several processes that measure at the same time, each on its own cores."""

from __future__ import annotations

import ast
import copyreg
import io
import multiprocessing
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from multiprocessing.reduction import ForkingPickler
from pathlib import Path
from types import ModuleType

from torch import nn

from lpot_lightning.errors import BenchmarkError, ConfError, in_short
from lpot_lightning.machine.signals import uninterrupted
from lpot_lightning.timing.cores import CpuShare
from lpot_lightning.timing.in_process import InstanceFault, run_instance
from lpot_lightning.timing.in_turns import Timings, Work

_SECONDS = 5.0  # for a process to end when it is asked to


def find_in(cpu_shares: Sequence[CpuShare], work: Work) -> tuple[Timings, ...]:
    """Do ``work`` in one new process for each of ``cpu_shares``, in all of them at the same time.

    The processes are spawned: one that is forked hangs in the first op that torch computes with
    several threads. They get the work through a pipe, and no file is written. Whatever happens,
    all of them are gone afterwards.

    Raises:
        ConfError: if the work cannot be sent to another process.
        BenchmarkError: if a process fails or dies.
    """
    content = _sent(work)
    context = multiprocessing.get_context("spawn")
    together = context.Barrier(len(cpu_shares))
    pipes: list[Connection] = []
    started: list[SpawnProcess] = []
    try:
        with uninterrupted(), _main_unseen_unless_needed(content):  # none is started and forgotten
            for share in cpu_shares:
                ours, theirs = context.Pipe()
                pipes.append(ours)
                process = context.Process(target=run_instance, args=(theirs, together, share))
                process.start()
                started.append(process)
                theirs.close()
        for pipe in pipes:
            with suppress(ConnectionError):  # it has died: that is told below
                pipe.send_bytes(content)
        return _received(pipes, started)
    finally:
        with uninterrupted():
            _end(started)
            for pipe in pipes:
                pipe.close()


def _received(pipes: Sequence[Connection], started: Sequence[SpawnProcess]) -> tuple[Timings, ...]:
    found: dict[int, Timings] = {}
    while len(found) < len(pipes):
        open_ones = {pipes[number]: number for number in range(len(pipes)) if number not in found}
        for pipe in wait(list(open_ones)):
            assert isinstance(pipe, Connection)
            number = open_ones[pipe]
            found[number] = _from(pipe, started[number], f"{number + 1} of {len(pipes)}")
    return tuple(found[number] for number in range(len(pipes)))


def _from(pipe: Connection, process: SpawnProcess, which: str) -> Timings:
    try:
        came = pipe.recv()
    except (EOFError, ConnectionError):
        process.join(_SECONDS)
        raise BenchmarkError(
            f"instance {which} ended before it had measured, {_ending(process.exitcode)}"
        ) from None
    if isinstance(came, InstanceFault):
        error = BenchmarkError(f"instance {which} failed: {came.text}")
        if came.details:
            error.add_note(came.details)
        raise error
    assert isinstance(came, Timings)
    return came


def _ending(code: int | None) -> str:
    if code is not None and code < 0:
        name = signal.Signals(-code).name
        hint = ", which the system sends where memory runs out" if name == "SIGKILL" else ""
        return f"by the signal {name}{hint}"
    return f"with exit code {code}; what it said is on stderr"


def _end(started: Sequence[SpawnProcess]) -> None:
    """End what is still there, and wait until it is gone."""
    for process in started:
        if process.is_alive():
            process.terminate()
    for process in started:
        process.join(_SECONDS)
        if process.is_alive():
            process.kill()
            process.join()
        process.close()


def _sent(work: Work) -> bytes:
    """Return ``work`` as bytes, tensors by value.

    Torch would move each tensor, the user's own, to shared memory and send a file descriptor: of
    those a process may have about a thousand.
    """
    buffer = io.BytesIO()
    pickler = ForkingPickler(buffer)
    pickler.dispatch_table = copyreg.dispatch_table
    try:
        pickler.dump(work)
    except Exception as error:  # whatever the objects in a user's model say
        raise ConfError(_cannot_be_sent(work, error)) from error
    return buffer.getvalue()


def _cannot_be_sent(work: Work, error: Exception) -> str:
    names = {"model": work.model, "fp32": work.fp32, "b_func": work.func}
    shown = [
        f"`{name}`, a `{type(one).__name__}`,"
        for name, one in names.items()
        if isinstance(one, nn.Module) or (name == "b_func" and one is not None)
    ]
    return (
        f"{' or '.join(shown)} cannot be sent to another process ({in_short(error)}), which"
        " `evaluation.performance.configs` asks for: define classes and functions at the top of a"
        " module, not in a function, or leave `configs` out"
    )


@contextmanager
def _main_unseen_unless_needed(content: bytes) -> Iterator[None]:
    """Keep new processes from running the user's script again; only what is defined in it needs it.

    Raises:
        ConfError: if it would run again as a whole.
    """
    main = sys.modules["__main__"]
    if b"__main__" not in content:
        sys.modules["__main__"] = ModuleType("__main__")
    elif not _has_guard(main):
        raise ConfError(
            "a class or function of what is timed is defined in the script itself, which each"
            " instance has to import: put what the script does under"
            " `if __name__ == '__main__':`, so that it is not done again, or move the definition"
            " to a module of its own"
        )
    try:
        yield
    finally:
        sys.modules["__main__"] = main


def _has_guard(main: ModuleType) -> bool:
    """Whether the script asks for its ``__name__``; what has no file cannot run again."""
    file = getattr(main, "__file__", None)
    if file is None:
        return False
    with suppress(OSError, SyntaxError, ValueError):
        tree = ast.parse(Path(file).read_bytes())
        tests = [node.test for node in tree.body if isinstance(node, ast.If)]
        return any("__name__" in ast.unparse(test) for test in tests)
    return True
