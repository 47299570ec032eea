"""Let one of two processes hang, die, raise or be slow, and see how the other one ends.

    python tests/scenes/ranks_chaos.py --faults 12 --seed 0

Each case is a fit of two processes over gloo, which wait `LIMIT` seconds for each other. One that
hangs ends both within 15 s more, and is named; one that dies or raises, within 15 s. Work of the
first one alone may last longer than `LIMIT`: then the fit comes to its end.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

LIMIT = 3.0
MORE = 15.0
LAUNCHERS = ("ddp", "ddp_fork")
KINDS = ("hangs", "stops", "killed", "raises", "exits")
"""Sleeps for ever, is stopped by a signal, is killed, raises an error, leaves with code 0."""
PHASES = {
    "ptq": ("training", "validation", "calibration", "trial", "writing"),
    "qat": ("baseline", "training", "trial"),
    "pruning": ("baseline", "training", "judging", "writing"),
    "export": ("before", "writing"),
}
VAL, FEW = 6, 8


@dataclasses.dataclass(frozen=True)
class Fault:
    """What happens to a process, in which phase of which fit."""

    scene: str
    phase: str
    kind: str
    rank: int
    launcher: str

    def strike(self) -> None:
        """Do it."""
        Path(f"struck_{self.rank}").touch()
        if self.kind == "slow":
            time.sleep(2.5 * LIMIT)
        elif self.kind == "hangs":
            time.sleep(600)
        elif self.kind == "raises":
            raise RuntimeError("out of milk")
        elif self.kind == "exits":
            os._exit(0)
        else:
            number = signal.SIGKILL if self.kind == "killed" else signal.SIGSTOP
            os.kill(os.getpid(), number)

    @property
    def most(self) -> float:
        """Seconds in which all has to be over."""
        waits = LIMIT if self.kind in ("hangs", "stops") else 0
        return MORE + waits + (2.5 * LIMIT if self.kind == "slow" else 0)


def all_faults() -> list[Fault]:
    """Return every case; the first process alone writes, and its work may be slow."""
    found = []
    for (scene, phases), launcher in itertools.product(PHASES.items(), LAUNCHERS):
        for phase, kind, rank in itertools.product(phases, (*KINDS, "slow"), (0, 1)):
            alone = phase == "writing"
            if (alone and rank == 1) or (kind == "slow" and not alone):
                continue
            if kind == "hangs" and alone:
                continue  # who lives and works is waited for
            if kind == "stops" and (launcher == "ddp_fork" or rank == 0):
                continue  # torch waits 30 s to kill; nobody kills the program that was started
            found.append(Fault(scene, phase, kind, rank, launcher))
    return found


def run_one(fault: Fault) -> None:
    """Be one of the two processes, or start them."""
    import torch
    from lightning.pytorch import Callback
    from lightning.pytorch.strategies import DDPStrategy
    from lit_scenes import Lit, conf, train_loader, trainer, val_loader
    from qat_scenes import APPROACH
    from sparse_scenes import pruning_conf

    import lpot_lightning
    from lpot_lightning import callbacks, runs

    torch.set_num_threads(1)

    def here(phase: str, rank: int) -> None:
        if (phase, rank) == (fault.phase, fault.rank) and not Path(f"struck_{rank}").exists():
            fault.strike()

    class Struck(Lit):
        trained = over = False

        def __init__(self) -> None:
            super().__init__(lr=0.05)

        def training_step(self, batch, batch_idx):
            Struck.trained = True
            if batch_idx == 1:
                here("training", self.global_rank)
            return super().training_step(batch, batch_idx)

        def on_train_end(self):
            Struck.over = True

        def validation_step(self, batch, batch_idx):
            here(self.phase(len(batch[0])), self.global_rank)
            super().validation_step(batch, batch_idx)

        def phase(self, size: int) -> str:
            if any(name.endswith("lpot_int8.kernel") for name, _ in self.named_modules()):
                return "trial"
            if not Struck.trained:
                return "baseline"
            if not Struck.over:
                return "validation"
            return "judging" if size == VAL else "calibration"

    class Before(Callback):
        def on_fit_end(self, one, module):
            here("before", one.global_rank)

    def alone(owner: Any, name: str) -> None:
        work = getattr(owner, name)

        def struck(*given: Any, **named: Any) -> Any:
            here("writing", 0)
            return work(*given, **named)

        setattr(owner, name, struck)

    alone(runs.best_model.Keeper, "_write")
    alone(runs.prune, "save_pruned")
    alone(callbacks.exporting, "export_each")
    tuning = {"accuracy_criterion": {"absolute": 0.9}}
    ptq = conf("workspace", tuning=tuning, quantization={"calibration": {"sampling_size": 32}})
    made: dict[str, Callable[[], list[Any]]] = {
        "ptq": lambda: [lpot_lightning.QuantizationCallback(ptq)],
        "qat": lambda: [
            lpot_lightning.QATCallback(conf("workspace", tuning=tuning, quantization=APPROACH))
        ],
        "pruning": lambda: [
            lpot_lightning.PruningCallback(pruning_conf("workspace", tuning=tuning))
        ],
        "export": lambda: [Before(), lpot_lightning.ExportCallback(["torchscript"])],
    }
    strategy = DDPStrategy(
        start_method="popen" if fault.launcher == "ddp" else "fork",
        timeout=timedelta(seconds=LIMIT),
    )
    one = trainer(
        *made[fault.scene](), strategy=strategy, devices=2, max_epochs=4, num_sanity_val_steps=0
    )
    Path(f"pid_{os.getpid()}").touch()

    class Here(Callback):
        def setup(self, one, module, stage):
            Path(f"pid_{os.getpid()}").touch()

    one.callbacks.insert(0, Here())
    one.fit(Struck(), train_loader(96, batch_size=FEW), val_loader(24, batch_size=VAL))


def case(fault: Fault, folder: Path) -> tuple[float, list[str]]:
    """Run one, and return the seconds from the fault to the end of all, and what went wrong."""
    from warm_python import python

    folder.mkdir()
    warm = Path(sys.executable).parent.name.startswith("warm-")  # this is a child of its server
    program = sys.executable if warm else python()
    given = json.dumps(dataclasses.asdict(fault))
    with (folder / "said").open("w") as said:
        run = subprocess.Popen(
            [program, str(Path(__file__).resolve()), "--one", given],
            stdout=said,
            stderr=said,
            cwd=folder,
            start_new_session=True,
        )
        began, struck = time.monotonic(), folder / f"struck_{fault.rank}"
        while not struck.exists() and run.poll() is None and time.monotonic() - began < 90:
            time.sleep(0.02)
        struck_at = time.monotonic()
        while _alive(folder) or run.poll() is None:
            time.sleep(0.05)
            if time.monotonic() - struck_at > fault.most + 30:
                break
        seconds = time.monotonic() - struck_at
        left = _alive(folder)
        for pid in left:
            os.kill(pid, signal.SIGKILL)
        run.kill()
        code = run.wait()
    text = (folder / "said").read_text()
    return seconds, list(_faults(fault, seconds, code, (left, struck.exists(), text)))


def _faults(
    fault: Fault, seconds: float, code: int, found: tuple[list[int], bool, str]
) -> Iterator[str]:
    left, was_struck, text = found
    if not was_struck:
        yield f"the phase did not come: {text[-1500:]}"
        return
    if left or seconds > fault.most:
        yield f"it hung: {len(left)} processes after {seconds:.1f} s; {text[-1500:]}"
    ends_well = fault.kind == "slow" or (fault.kind == "raises" and fault.phase == "trial")
    if ends_well != (code == 0) and not _ends_in_any_way(fault):
        yield f"it ended with {code}: {text[-1500:]}"
    named = re.search(rf"process {fault.rank} of 2 did not come", text)
    if fault.kind in ("hangs", "stops") and named is None:
        yield f"nobody said who did not come: {text[-1500:]}"


def _ends_in_any_way(fault: Fault) -> bool:
    """Whether both are right: a step that cannot be traced once is done in another way."""
    of_the_program = (fault.kind, fault.rank, fault.launcher) == ("exits", 0, "ddp")
    return of_the_program or (fault.kind, fault.phase) == ("raises", "calibration")


def _alive(folder: Path) -> list[int]:
    pids = [int(one.name.removeprefix("pid_")) for one in folder.glob("pid_*")]
    return [pid for pid in pids if _state(pid) not in ("", "Z", "X")]


def _state(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return ""


def main() -> int:
    """Run some of all cases, print a table, return 1 if anything went wrong."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--faults", type=int, default=12)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--ledger", type=Path)
    parser.add_argument("--only", default="", help="a regular expression of what cases are called")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.one:
        run_one(Fault(**json.loads(asked.one)))
        return 0
    from ledger import Ledger

    ledger = Ledger("ranks", asked.seed, asked.ledger)
    every = [one for one in all_faults() if re.search(asked.only, str(one))]
    draw = random.Random(asked.seed)
    chosen = draw.sample(every, min(asked.faults, len(every)))
    root, faults, counts = Path(tempfile.mkdtemp(prefix="lpot-ranks-")), [], Counter[str]()
    longest = 0.0
    sys.stdout.write(
        "| launcher | fit | phase | fault | process | seconds to the end | faults |\n"
        f"{'|---' * 7}|\n"
    )
    for number, one in enumerate(chosen):
        seconds, found = case(one, root / str(number))
        counts += Counter({"rank faults": 1, "hangs": any("hung" in each for each in found)})
        counts += Counter({"faults": len(found), f"fault {one.kind}": 1})
        longest = max(longest, seconds)
        cells = one.launcher, one.scene, one.phase, one.kind, one.rank, f"{seconds:.1f}", len(found)
        sys.stdout.write(f"| {' | '.join(map(str, cells))} |\n")
        sys.stdout.flush()
        faults += [f"{root / str(number)}: {fault}" for fault in found]
    sys.stdout.write("".join(f"{fault}\n" for fault in faults))
    sys.stdout.write(
        f"{len(chosen)} rank faults, {counts['hangs']} hangs, {counts['faults']} faults, longest"
        f" {longest:.1f} s\n"
    )
    ledger.count(**{"rank faults": 0, "hangs": 0, "faults": 0, **counts})
    ledger.largest(**{"longest seconds": longest})
    ledger.write()
    if not faults:
        shutil.rmtree(root)
    return int(bool(faults))


if __name__ == "__main__":
    sys.exit(main())
