"""Made-up facts for reports, and a browser without a window that opens them."""

from __future__ import annotations

import math
import os
import random
import shutil
import subprocess
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from made_up import INT8

from lpot_lightning.recipe import Recipe, Rung
from lpot_lightning.report.facts import Facts, OpFacts, RunState, TuningFacts
from lpot_lightning.timing.ratio import Ratio
from lpot_lightning.tuning.about import About
from lpot_lightning.tuning.causes import Cause, CauseKind
from lpot_lightning.tuning.repair import Repair
from lpot_lightning.tuning.score import Criterion, Score
from lpot_lightning.tuning.trial import Trial

CHROMIUM = shutil.which("chromium")
HOSTILE = (
    "<script>document.title='run'</script>",
    '"><img src=x onerror="document.title=\'run\'">',
    "</title></style></script><script>document.title='run'</script>",
    "javascript:document.title='run'",
    "a'onmouseover='document.title=1",
    "&lt;b&gt;`<b>`",
    "\u202eevil\x00\ud800" + "w" * 300,
    ".".join("a" * 3000),
)
"""Names that would run a script, or break the page, if they were taken for HTML."""
CRITERION = Criterion(0.01, relative=True, higher_is_better=True)
ABOUT = About(
    model="vit",
    approach="post_training_static_quant",
    monitor="val/acc",
    goal=0.01,
    relative=True,
    higher_is_better=True,
    strategy="auto",
    objective="performance",
    most=20,
    seed=7,
    versions={"torch": "2.13.0"},
    machine={"cores": "2"},
)
CAUSE = Cause(
    kind=CauseKind.UNEQUAL_CHANNELS,
    found="the widest channel is 63 times as wide as the narrowest",
    remedy="even the channels out: `quantization: {recipes: {cross_layer_equalization: true}}`",
)


def trial(
    number: int, accuracy: float | None, names: Iterable[str], fp32: Iterable[str] = ()
) -> Trial:
    """Return a trial with this accuracy; ``None`` fails."""
    recipe = Recipe.of(dict.fromkeys(names, INT8)).with_fp32(fp32)
    score = Score.failing("no kernel", 0.1) if accuracy is None else Score.of(accuracy, 1.5)
    if accuracy is not None:
        score = replace(score, objective=0.01 + 0.001 * number)
    return Trial(number, recipe, score.compared(CRITERION, 0.94))


def tuning(**given: Any) -> TuningFacts:
    """Return what two trials of two ops came to."""
    names = ("net.conv", "net.head")
    trials = (trial(1, 0.9, names), trial(2, 0.9350001, names, ["net.head"]))
    ops = (
        OpFacts(name=names[0], rung=Rung.STATIC, damage=1e-4, int8=1e-3, fp32=2e-3),
        OpFacts(name=names[1], rung=Rung.FP32, damage=3e-4, why="for the accuracy", cause=CAUSE),
    )
    usual: dict[str, Any] = {
        "monitor": "val/acc",
        "criterion": CRITERION,
        "baseline": 0.94,
        "accuracy": 0.9350001,
        "status": "met",
        "trials": trials,
        "best": 2,
        "pareto": (1, 2),
        "ops": ops,
        "evaluations": 3.0,
        "speed": Ratio(1.96, (1.86, 2.09)),
        "size_ratio": 3.78,
        "about": ABOUT,
    }
    return TuningFacts(**{**usual, **given})


def facts(tuning_facts: TuningFacts | None = None, **given: Any) -> Facts:
    """Return what a report tells of a run that has ended."""
    usual: dict[str, Any] = {"title": "vit", "state": RunState.ENDED, "now": "now", "folder": "ws"}
    return Facts(**{**usual, "tuning": tuning_facts or tuning(), **given})


def large(ops: int = 500, trials: int = 60) -> Facts:
    """Return what a report tells of a large model, many ops of which were repaired."""
    draw = random.Random(0)
    kinds = ("conv1", "conv2", "attn.q_proj", "attn.k_proj", "mlp.fc1")
    names = [f"net.stage{n // 50}.block{n // 5 % 10}.{kinds[n % 5]}" for n in range(ops)]
    tried = [
        trial(n, 0.80 + 0.13 * math.sqrt(n / trials) + draw.gauss(0, 0.004), names, names[: 3 * n])
        for n in range(1, trials + 1)
    ]
    return facts(
        tuning(
            trials=tuple(tried),
            best=trials,
            accuracy=tried[-1].score.accuracy,
            status="met" if tried[-1].accepted else "not_met",
            pareto=(1, trials // 3, trials // 2),
            ops=tuple(_op(name, n, draw) for n, name in enumerate(names)),
            excluded={"net.norm": "no kernel", "net.head#matmul_0": "a product of activations"},
        )
    )


def _op(name: str, number: int, draw: random.Random) -> OpFacts:
    rung = draw.choices(list(Rung), [70, 8, 6, 4, 12])[0]
    repair = Repair(name, "cross_layer_equalization", 1e-2, 1e-3)
    return OpFacts(
        name=name,
        rung=rung,
        damage=math.exp(draw.gauss(-8, 2)),
        int8=draw.random() * 1e-3,
        fp32=draw.random() * 3e-3,
        why="for the accuracy" if rung is Rung.FP32 else "",
        repairs=(repair,) if number % 7 == 0 else (),
        cause=CAUSE if number % 45 == 3 else None,
    )


class Opened:
    """A page as a browser has it.

    Attributes:
        dom: its HTML after all scripts ran.
        said: what the console told, one line each.
    """

    def __init__(self, page: Path, folder: Path, *options: str) -> None:
        assert CHROMIUM is not None
        command = [
            *(CHROMIUM, "--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"),
            *(f"--user-data-dir={folder / 'profile'}", "--enable-logging=stderr", "--v=0"),
            *("--disable-background-networking", "--host-resolver-rules=MAP * ~NOTFOUND"),
            *options,
            f"file://{page.resolve()}",
        ]
        home = {**os.environ, "HOME": str(folder)}
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, env=home)
        assert done.returncode == 0, done.stderr[-2000:]
        self.dom = done.stdout
        self.said = [line for line in done.stderr.splitlines() if "CONSOLE" in line]
