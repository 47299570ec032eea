"""Several processes that measure at the same time."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import time
from pathlib import Path

import instance_scenes as scenes
import pytest
from instance_scenes import conf
from plain_scenes import eval_loader, net, quantization
from torch import nn
from warm_python import python

from lpot_lightning import Benchmark, ConfError
from lpot_lightning.errors import BenchmarkError
from lpot_lightning.timing.cores import usable_cores

CORES = usable_cores() if hasattr(os, "sched_getaffinity") else ()
ROOT = Path(__file__).parents[2]
HERE = ROOT / "tests/scenes"
WARM = pytest.mark.usefixtures("warm_processes")
pytestmark = pytest.mark.skipif(len(CORES) < 2, reason="two cores are needed")


@pytest.fixture(autouse=True)
def _nothing_is_left():
    yield
    assert multiprocessing.active_children() == []


def test_each_on_its_own_core_and_summed():
    model = scenes.Small()
    storage, affinity = model.first.weight.data_ptr(), os.sched_getaffinity(0)
    result = Benchmark(conf())(model, scenes.batches())
    one, other = result.instances
    assert (one.cores, other.cores) == ((CORES[0],), (CORES[1],))
    assert result.throughput == pytest.approx(one.speed.throughput + other.speed.throughput)
    assert (one.speed.iterations, result.speed.iterations) == (3, 6)
    assert (result.threads, result.speed.batch_size) == (1, 5)
    assert os.sched_getaffinity(0) == affinity
    assert (model.first.weight.data_ptr(), model.first.weight.is_shared()) == (storage, False)


def test_where_it_is_pinned_to_and_what_it_was_sent():
    model = scenes.Small()
    asked = conf(instances=1, kmp_blocktime=3, inter_num_of_threads=2)
    result = Benchmark(asked)(model, b_func=scenes.here)
    expected = int(f"{CORES[0]}112" + "31") + scenes.weight_of(model)
    assert result.accuracy == pytest.approx(expected, abs=1e-6)
    assert "KMP_BLOCKTIME" not in os.environ


@WARM
def test_int8_of_a_workspace_against_fp32(workspace):
    model = net()
    quantization(workspace)(model)
    result = Benchmark(conf())(workspace, eval_loader(), fp32=model)
    assert (result.label, len(result.instances)) == ("int8", 2)
    assert result.fp32.iterations == result.speed.iterations == 6
    assert result.speedup > 0


@WARM
def test_one_that_fails_says_why():
    with pytest.raises(BenchmarkError) as caught:
        Benchmark(conf())(scenes.Small(), b_func=scenes.fail_on_the_second_core)
    assert str(caught.value) == (
        "instance 2 of 2 failed: `b_func` fails with `Small` (RuntimeError: no such thing here); it"
        " is called with the model alone, in eval mode, and brings its own data"
    )


@WARM
def test_one_that_is_killed_ends_the_others():
    with pytest.raises(BenchmarkError) as caught:
        Benchmark(conf())(scenes.Small(), b_func=scenes.die)
    assert str(caught.value).endswith(
        "of 2 ended before it had measured, by the signal SIGKILL, which the system sends where"
        " memory runs out"
    )


@WARM
def test_one_that_leaves():
    with pytest.raises(BenchmarkError) as caught:
        Benchmark(conf(instances=1))(scenes.Small(), b_func=scenes.leave)
    assert str(caught.value) == (
        "instance 1 of 1 ended before it had measured, with exit code 7; what it said is on stderr"
    )


def test_more_cores_than_there_are_is_said_before_anything_starts(monkeypatch):
    monkeypatch.setattr("lpot_lightning.lpot.benchmark_call.find_in", None)
    with pytest.raises(ConfError, match="asks for 2 x 999 cores, and this process may use"):
        Benchmark(conf(cores_per_instance=999))(scenes.Small(), scenes.batches())


def test_what_cannot_be_sent():
    class Local(nn.Linear):
        pass

    with pytest.raises(ConfError) as caught:
        Benchmark(conf())(Local(4, 2), scenes.batches())
    text = str(caught.value)
    assert text.startswith("`model`, a `Local`, cannot be sent to another process (")
    assert text.endswith(
        "which `evaluation.performance.configs` asks for: define classes and functions at the top"
        " of a module, not in a function, or leave `configs` out"
    )
    with pytest.raises(ConfError, match="`model`, a `Small`, or `b_func`, a `function`, cannot be"):
        Benchmark(conf())(scenes.Small(), b_func=lambda model: None)


SCRIPT = """
from torch import nn
from lpot_lightning import Benchmark
from instance_scenes import Small, batches, conf

class Own(nn.Linear):
    pass

print("ran")
if {guard}:
    print(len(Benchmark(conf(1))({model}, batches()).instances))
"""


def script(folder: Path, **given: str) -> subprocess.CompletedProcess[str]:
    path = folder / "main.py"
    path.write_text(SCRIPT.format(**given))
    paths = os.pathsep.join([str(ROOT), str(HERE), os.environ.get("PYTHONPATH", "")])
    return subprocess.run(
        [python(), str(path)],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": paths},
        cwd=folder,
    )


def test_the_script_is_run_again_only_for_a_class_of_its_own_and_with_a_guard(tmp_path):
    done = script(tmp_path, guard="True", model="Small()")
    assert done.stdout.split() == ["ran", "1"], done.stderr
    done = script(tmp_path, guard="True", model="Own(4, 2)")
    assert done.stdout.split() == ["ran"]
    assert "put what the script does under `if __name__ == '__main__':`, so that" in done.stderr
    done = script(tmp_path, guard='__name__ == "__main__"', model="Own(4, 2)")
    assert done.stdout.split() == ["ran", "ran", "1"], done.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_processes_end_with_the_one_that_started_them(tmp_path, number):
    code = (
        "from lpot_lightning import Benchmark; import instance_scenes as s;"
        "Benchmark(s.conf())(s.Small(), b_func=s.sleep)"
    )
    paths = os.pathsep.join([str(ROOT), str(HERE)])
    env = {**os.environ, "PYTHONPATH": paths}
    with subprocess.Popen(
        [python(), "-c", code], env=env, cwd=tmp_path, stderr=subprocess.PIPE
    ) as parent:
        until(lambda: len(list(tmp_path.glob("*.pid"))) == 2)
        parent.send_signal(number)
        assert parent.wait(60) != 0
        pids = [int(path.stem) for path in tmp_path.glob("*.pid")]
        until(lambda: not any(map(is_there, pids)))


def until(true) -> None:
    ends = time.monotonic() + 60
    while not true():
        assert time.monotonic() < ends
        time.sleep(0.05)


def is_there(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except OSError:
        return False
    return state != "Z"  # gone, and nobody has asked how yet
