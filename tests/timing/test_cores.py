"""Which cores the processes get, on a machine that is made up."""

from __future__ import annotations

import os

import pytest

from lpot_lightning.conf.blocks import ConfigsConf
from lpot_lightning.errors import ConfError
from lpot_lightning.timing.cores import CpuShare, cpu_shares, usable_cores


@pytest.fixture(autouse=True)
def eight_cores_of_two_threads(monkeypatch, tmp_path):
    """Logical CPU n and n + 8 are one core, as Linux counts them."""
    for cpu in range(16):
        (tmp_path / str(cpu)).write_text(f"{cpu % 8},{cpu % 8 + 8}\n")
    monkeypatch.setattr("lpot_lightning.timing.cores._TOPOLOGY", f"{tmp_path}/{{}}")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(16)), raising=False)


def test_one_logical_cpu_of_each_core():
    assert usable_cores() == (0, 1, 2, 3, 4, 5, 6, 7)


def test_only_those_that_this_process_may_use(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {3, 9, 11, 12})
    assert usable_cores() == (3, 9, 12)


def test_where_the_system_hides_its_topology_each_cpu_counts(monkeypatch):
    monkeypatch.setattr("lpot_lightning.timing.cores._TOPOLOGY", "/nowhere/{}")
    assert len(usable_cores()) == 16


@pytest.mark.parametrize(
    "asked", [None, ConfigsConf(), ConfigsConf(intra_num_of_threads=4)], ids=str
)
def test_what_needs_no_processes_of_its_own(asked):
    assert cpu_shares(asked) == ()


def test_cores_per_instance_and_instances():
    found = cpu_shares(ConfigsConf(cores_per_instance=3, num_of_instance=2))
    assert found == (CpuShare((0, 1, 2), 3), CpuShare((3, 4, 5), 3))


def test_instances_alone_share_all_cores_equally():
    assert [one.cores for one in cpu_shares(ConfigsConf(num_of_instance=3))] == [
        (0, 1), (2, 3), (4, 5),
    ]  # fmt: skip


def test_one_instance_on_fewer_cores():
    assert cpu_shares(ConfigsConf(cores_per_instance=4)) == (CpuShare((0, 1, 2, 3), 4),)


def test_threads_and_variables_of_openmp():
    (found,) = cpu_shares(
        ConfigsConf(
            intra_num_of_threads=2,
            inter_num_of_threads=1,
            kmp_blocktime=0,
            kmp_affinity="compact",
        )
    )
    assert (found.threads, found.inter_threads) == (2, 1)
    assert found.environment == (("KMP_BLOCKTIME", "0"), ("KMP_AFFINITY", "compact"))


@pytest.mark.parametrize(
    ("asked", "text"),
    [
        (
            {"cores_per_instance": 4, "num_of_instance": 3},
            "`evaluation.performance.configs` asks for 3 x 4 cores, and this process may use 8"
            " physical ones: lower `num_of_instance` or `cores_per_instance`",
        ),
        (
            {"cores_per_instance": 9},
            "`evaluation.performance.configs` asks for 1 x 9 cores, and this process may use 8"
            " physical ones: lower `num_of_instance` or `cores_per_instance`",
        ),
        (
            {"num_of_instance": 9},
            "`evaluation.performance.configs.num_of_instance` is 9, and this process may use 8"
            " physical cores: ask for 8 or fewer",
        ),
    ],
    ids=str,
)
def test_more_cores_than_there_are(asked, text):
    with pytest.raises(ConfError) as caught:
        cpu_shares(ConfigsConf(**asked))
    assert str(caught.value) == text


def test_a_system_that_cannot_pin(monkeypatch):
    monkeypatch.delattr(os, "sched_getaffinity")
    with pytest.raises(ConfError, match="which only Linux can do: leave `num_of_instance` and"):
        cpu_shares(ConfigsConf(num_of_instance=2))
