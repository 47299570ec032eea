"""Every program that is killed, and its process made ready."""

from __future__ import annotations

from pathlib import Path

import kill_scenes
from deploy_kills import BENCHMARK, EXPORTS
from fork_server import warm_up
from training_kills import TRAININGS

from lpot_lightning.selftest.little_run import LittleRun
from lpot_lightning.selftest.scene import Killable

ALL: tuple[Killable, ...] = (
    LittleRun(),
    *kill_scenes.SCENES,
    *TRAININGS,
    *EXPORTS,
    BENCHMARK,
)


def asked_scenes(part: str) -> list[Killable]:
    """Return the scenes with ``part`` in their names."""
    return [one for one in ALL if part in one.name]


def warm_up_all(scenes: list[Killable], folder: Path) -> None:
    """Import what the scenes need, so that no child has to."""
    folder.mkdir()
    kinds = {type(one): one for one in scenes}
    for number, scene in enumerate(kinds.values()):
        warm_up(scene, folder / str(number))
