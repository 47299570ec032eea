"""Processes that agree, fail together and do not wait for the dead."""

import datetime
import os
import signal
import socket
import time
import traceback
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from lpot_lightning.errors import (
    ArtifactError,
    BenchmarkError,
    BusyError,
    DataError,
    LpotError,
    NotYetError,
    PruningError,
)
from lpot_lightning.machine import roll_call
from lpot_lightning.machine.ranks import GlooRanks, RankError, Ranks, _first_of
from lpot_lightning.machine.roll_call import ProcessLostError

LIMIT = datetime.timedelta(seconds=2)


def _child(rank, scene, folder, port):
    torch.set_num_threads(1)
    roll_call.PATIENCE = 0.5
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    limit = datetime.timedelta(seconds=20)
    dist.init_process_group("gloo", rank=rank, world_size=2, timeout=limit)
    try:
        scene(GlooRanks(LIMIT))
    except BaseException:
        (folder / f"{rank}.txt").write_text(traceback.format_exc())
        raise


def in_two(scene, folder: Path) -> None:
    """Run ``scene(ranks)`` in two processes, and show what went wrong in either."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    context = mp.start_processes(_child, (scene, folder, port), 2, join=False, start_method="fork")
    for process in context.processes:
        process.join(60)
    assert not [text.read_text() for text in folder.glob("*.txt")]
    assert [process.exitcode for process in context.processes] == [0, 0]


def test_alone():
    alone = Ranks()
    assert (alone.gather(3), alone.agreed(3), alone.on_zero(lambda: 3)) == ([3], 3, 3)
    with pytest.raises(ValueError, match="mine"):
        alone.together(raises(ValueError("mine")))


def raises(error):
    def work():
        raise error

    return work


def test_values_of_all_and_of_rank_zero(tmp_path):
    def scene(ranks):
        assert ranks.gather(ranks.rank * 10) == [0, 10]
        assert ranks.agreed(ranks.rank) == 0
        assert ranks.on_zero(os.getpid) == ranks.gather(os.getpid())[0]
        ranks.close()

    in_two(scene, tmp_path)


def test_tensors_of_every_kind_become_those_of_rank_zero(tmp_path):
    def scene(ranks):
        kinds = (torch.float32, torch.bfloat16, torch.int64, torch.bool, torch.complex64)
        own = [torch.full((2, 3), ranks.rank).to(kind).t() for kind in kinds]
        own += [torch.tensor(float(ranks.rank)), torch.empty(0)]
        ranks.make_equal(own)
        assert all(not tensor.any() for tensor in own)

    in_two(scene, tmp_path)


def test_a_fault_of_one_wakes_the_other_and_both_go_on(tmp_path):
    def scene(ranks):
        def work():
            if ranks.rank == 1:
                raise ValueError("out of milk")
            dist.all_reduce(torch.ones(3), group=ranks.data)

        for _ in range(2):
            with pytest.raises(RankError, match="process 1: ValueError: out of milk"):
                ranks.together(work)
        assert ranks.together(lambda: ranks.gather(1)) == [1, 1]

    in_two(scene, tmp_path)


def test_the_same_fault_in_all_is_the_fault_itself(tmp_path):
    def scene(ranks):
        with pytest.raises(ValueError, match="out of milk"):
            ranks.together(raises(ValueError("out of milk")))

    in_two(scene, tmp_path)


def test_our_own_errors_keep_their_kind(tmp_path):
    def scene(ranks):
        with pytest.raises(DataError, match="no batch"):
            ranks.on_zero(raises(DataError("no batch")))

    in_two(scene, tmp_path)


class LostError(ArtifactError):
    """A kind that somebody adds."""


@pytest.mark.parametrize(
    "kind", [LpotError, NotYetError, BenchmarkError, BusyError, PruningError, LostError]
)
def test_every_kind_of_ours_is_made_again_in_other_processes(kind):
    told = _first_of([None, (kind.__name__, "it is in use")])
    assert type(told) is kind
    assert str(told) == "it is in use"


def test_a_kind_that_is_not_ours_is_told_with_its_process():
    assert str(_first_of([None, ("OSError", "gone")])) == "process 1: OSError: gone"


def test_nobody_waits_for_a_process_that_ended(tmp_path):
    def scene(ranks):
        if ranks.rank == 0:
            with pytest.raises(
                ProcessLostError, match="process 1 of 2 has ended, or does not"
            ) as lost:
                ranks.together(lambda: None)
            assert list(lost.value.missing) == [1]

    in_two(scene, tmp_path)


LATE = r"process 1 of 2 did not come within 2 s, the `timeout` of the strategy"


def late(ranks, work):
    """Check that the first process waits for the second one as long as it may, and no longer."""
    over = Path("over")
    if ranks.rank == 1:
        end = time.monotonic() + 5
        while not over.exists() and time.monotonic() < end:
            time.sleep(0.05)
        os._exit(0)
    began = time.monotonic()
    with pytest.raises(ProcessLostError, match=LATE):
        work()
    assert 1.9 < time.monotonic() - began < 4.5
    over.touch()


def test_one_that_does_not_come_is_named(tmp_path):
    def scene(ranks):
        late(ranks, lambda: ranks.gather(1))
        with pytest.raises(ProcessLostError, match=LATE):  # and it is not waited for again
            ranks.gather(1)

    in_two(scene, tmp_path)


def test_also_in_the_middle_of_what_the_model_exchanges(tmp_path):
    def scene(ranks):
        work = lambda: dist.all_reduce(torch.ones(3), group=ranks.data)  # noqa: E731
        late(ranks, lambda: ranks.together(work))

    in_two(scene, tmp_path)


def test_also_where_tensors_are_made_equal(tmp_path):
    in_two(lambda ranks: late(ranks, lambda: ranks.make_equal([torch.ones(1 << 20)])), tmp_path)


def test_also_while_connections_are_made(tmp_path):
    in_two(lambda ranks: late(ranks, lambda: GlooRanks(LIMIT)), tmp_path)


def test_rank_zero_works_alone_for_longer_than_others_are_waited_for(tmp_path):
    def scene(ranks):
        assert ranks.on_zero(lambda: time.sleep(3.0) or "done") == "done"
        assert ranks.gather(ranks.rank) == [0, 1]

    in_two(scene, tmp_path)


def test_its_fault_reaches_the_other_and_both_go_on(tmp_path):
    def scene(ranks):
        with pytest.raises(RankError, match="process 0: ValueError: out of milk"):
            ranks.on_zero(lambda: time.sleep(1) or raises(ValueError("out of milk"))())
        assert ranks.on_zero(lambda: 3) == 3

    in_two(scene, tmp_path)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_nobody_waits_for_a_rank_zero_that_works_no_more(tmp_path, number):
    """One that is stopped has the store, too, which then does not answer."""

    def scene(ranks):
        first = ranks.gather(os.getpid())[0]
        with pytest.raises(ProcessLostError, match=r"process [01] of 2"):
            ranks.on_zero(lambda: os.kill(os.getpid(), number))
        if number == signal.SIGSTOP:
            os.kill(first, signal.SIGKILL)

    began = time.monotonic()
    with pytest.raises(AssertionError, match=r"\[-9, 0\]"):
        in_two(scene, tmp_path)
    assert time.monotonic() - began < 10
