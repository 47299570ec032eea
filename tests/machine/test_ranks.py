"""Processes that agree, fail together and do not wait for the dead."""

import datetime
import os
import socket
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
    QuantizationError,
)
from lpot_lightning.machine.ranks import GlooRanks, RankError, Ranks, _first_of


def _child(rank, scene, folder, port):
    torch.set_num_threads(1)
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    limit = datetime.timedelta(seconds=20)
    dist.init_process_group("gloo", rank=rank, world_size=2, timeout=limit)
    try:
        scene(GlooRanks())
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
            with pytest.raises(QuantizationError, match="process 0 of 2 does not reach"):
                ranks.together(lambda: None)

    in_two(scene, tmp_path)
