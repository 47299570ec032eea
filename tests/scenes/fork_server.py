"""A process that has imported everything, and forks once a run of a scene."""

from __future__ import annotations

import functools
import gc
import logging
import warnings
from pathlib import Path

import torch
from kill_scenes import Scene, unreadable

from lpot_lightning.quantization.op_clock import OpClock
from lpot_lightning.runs import paying, speed
from lpot_lightning.runs.paying_result import NotPaying, OpTimes, Paying
from lpot_lightning.selftest import forked
from lpot_lightning.selftest.forked import Before, Notes
from lpot_lightning.selftest.scene import Killable, Note
from lpot_lightning.timing import ratio
from lpot_lightning.tuning.space import Space

__all__ = ["Forked", "Notes", "quiet_end", "unreadable", "warm_up"]


def warm_up(scene: Killable, folder: Path) -> None:
    """Run a scene here, so that no child has to import anything."""
    torch.set_num_threads(1)
    ratio.WARM_UP, ratio.MOST, speed.SETTLED = 0, 1, 0
    paying.judged = _by_no_clock
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    logging.getLogger("lpot_lightning").addHandler(logging.NullHandler())
    warnings.simplefilter("ignore")
    folder.mkdir()
    scene.prepare(folder)
    scene.run(folder, lambda line: None)
    gc.freeze()  # a child that looks at all of it on its way out would copy all of it


def _by_no_clock(ops: OpClock, space: Space, seconds: float) -> Paying:
    """Find that the last op does not pay: runs are compared to the last bit."""
    names = sorted(op for chain in ops.chains for op in chain)
    slower = NotPaying(ops=(names[-1],), int8=2.0, fp32=1.0, spread=(0.5, 0.5), share=0.5)
    return Paying({op: OpTimes(1.0, 2.0) for op in names}, {names[-1]: slower})


class Forked(forked.Forked):
    """A run in a child of this process, which says what Lightning says."""

    def __init__(
        self, scene: Scene, folder: Path, before: Before = lambda note: note, *, quick: bool = True
    ) -> None:
        super().__init__(scene, folder, functools.partial(_saying, before), quick=quick)


def _saying(before: Before, note: Note) -> Note:
    logging.getLogger("lightning.pytorch").setLevel(logging.INFO)
    return before(note)


def quiet_end(scene: Scene, folder: Path) -> float:
    """Run in peace; return the run's seconds of tuning."""
    folder.mkdir()
    scene.prepare(folder)
    return forked.quiet_end(scene, folder)
