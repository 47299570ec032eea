"""Which cores each of several processes gets."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from lpot_lightning.conf.blocks import ConfigsConf
from lpot_lightning.errors import ConfError

_TOPOLOGY = "/sys/devices/system/cpu/cpu{}/topology/thread_siblings_list"
_KEY = "evaluation.performance.configs"


@dataclass(frozen=True)
class CpuShare:
    """Where one process computes.

    Args:
        cores: that it is pinned to.
        threads: of one op.
        inter_threads: for ops side by side; ``None`` leaves it to torch.
        environment: variables that its OpenMP reads.
    """

    cores: tuple[int, ...]
    threads: int
    inter_threads: int | None = None
    environment: tuple[tuple[str, str], ...] = ()


def cpu_shares(asked: ConfigsConf | None) -> tuple[CpuShare, ...]:
    """Return where the processes go that a ``configs`` block asks for; none means: here.

    Raises:
        ConfError: if it asks for more cores than there are, or this system cannot pin a process.
    """
    if asked is None or not asks_for_processes(asked):
        return ()
    free = usable_cores()
    each = asked.cores_per_instance or len(free) // asked.num_of_instance
    _check_enough(asked, each, len(free))
    shares = [free[number * each :][:each] for number in range(asked.num_of_instance)]
    return tuple(
        CpuShare(
            share,
            asked.intra_num_of_threads or each,
            asked.inter_num_of_threads,
            _environment(asked),
        )
        for share in shares
    )


def usable_cores() -> tuple[int, ...]:
    """Return one logical CPU of each physical core that this process may use.

    Raises:
        ConfError: if the system does not say.
    """
    if not hasattr(os, "sched_getaffinity"):
        raise ConfError(
            f"`{_KEY}` pins processes to cores, which only Linux can do: leave `num_of_instance`"
            " and `cores_per_instance` out"
        )
    taken: dict[str, int] = {}
    for cpu in sorted(os.sched_getaffinity(0)):
        taken.setdefault(_siblings(cpu), cpu)
    return tuple(taken.values())


def _siblings(cpu: int) -> str:
    """Return the name of the physical core: the logical ones that share it."""
    try:
        return Path(_TOPOLOGY.format(cpu)).read_text().strip()
    except OSError:  # a container may hide it: then each counts
        return f"cpu {cpu}"


def asks_for_processes(asked: ConfigsConf) -> bool:
    """Whether a ``configs`` block needs processes of their own."""
    return (
        asked.num_of_instance > 1
        or asked.cores_per_instance is not None
        or asked.inter_num_of_threads is not None
        or bool(_environment(asked))
    )


def _environment(asked: ConfigsConf) -> tuple[tuple[str, str], ...]:
    found = []
    if asked.kmp_blocktime is not None:
        found.append(("KMP_BLOCKTIME", str(asked.kmp_blocktime)))
    if asked.kmp_affinity != ConfigsConf.kmp_affinity:
        found.append(("KMP_AFFINITY", asked.kmp_affinity))
    return tuple(found)


def _check_enough(asked: ConfigsConf, each: int, free: int) -> None:
    if each == 0:
        raise ConfError(
            f"`{_KEY}.num_of_instance` is {asked.num_of_instance}, and this process may use {free}"
            f" physical cores: ask for {free} or fewer"
        )
    if each * asked.num_of_instance > free:
        raise ConfError(
            f"`{_KEY}` asks for {asked.num_of_instance} x {each} cores, and this process may use"
            f" {free} physical ones: lower `num_of_instance` or `cores_per_instance`"
        )
