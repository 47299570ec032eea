"""One way on one net, in a process of its own: makes the int8 model, then times it when asked.

It prints one line of JSON for what was made, then one for each batch size that it reads from its
standard input: the seconds of a call of each kind. It ends with its input.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import sys
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from time import monotonic
from typing import Any, TextIO

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE.parent), str(HERE.parents[1])]

import torch  # noqa: E402
from making import TORCH, Call, Form, Made, Task, read_task, state_mib  # noqa: E402
from rows import BATCHES, DONE, FP32, NOT_INSTALLED  # noqa: E402
from turns import in_turns  # noqa: E402


def told(task: Task, made: Made) -> dict[str, Any]:
    """Judge what was made, and return what is told of it."""
    return {
        "status": DONE,
        "fp32": task.accuracy(task.net),
        "fp32_mib": state_mib(task.net),
        "images": len(task.images),
        "layers": task.layers,
        "versions": dict(made.versions),
        "failures": dict(made.failures),
        "forms": [of_form(task, form) for form in made.forms],
    }


def of_form(task: Task, form: Form) -> dict[str, Any]:
    """Judge an int8 model and return what is told of it."""
    began = monotonic()
    accuracy = task.accuracy(form.call, form.batch)
    judging = 0.0 if form.judged else monotonic() - began
    return {
        "runtime": form.runtime,
        "accuracy": accuracy,
        "seconds": form.seconds + judging,
        "lost": form.lost,
        "mib": form.mib,
    }


def calls(task: Task, made: Made) -> Iterator[tuple[str, Call]]:
    """Return what is timed: the net in fp32 in each runtime, and its int8 forms."""
    yield FP32 + TORCH, task.net
    yield from ((FP32 + runtime, call) for runtime, call in made.floats.items())
    yield from ((form.runtime, form.call) for form in made.forms)


def timed(named: Mapping[str, Call], task: Task, asked: str) -> dict[str, float]:
    """Return the seconds of a call of each kind; ``asked`` is a batch size and a direction."""
    batch, direction = map(int, asked.split())
    images = task.images[:batch].contiguous()
    order = {name: partial(call, images) for name, call in list(named.items())[::direction]}
    return {name: one[0] for name, one in in_turns(order, rounds=1).seconds.items()}


def work(asked: argparse.Namespace, lines: TextIO, say: TextIO) -> None:
    """Make, tell, and time for as long as it is asked to."""

    def tell(what: object) -> None:
        print(json.dumps(what), file=say, flush=True)

    try:
        way = importlib.import_module(asked.way)
    except ModuleNotFoundError as error:
        tell({"status": NOT_INSTALLED, "reason": f"no module `{error.name}`"})
        return
    task = read_task(asked.task, asked.net, asked.goal, asked.folder)
    made: Made = way.make(task)
    found, named = told(task, made), dict(calls(task, made))
    for batch in BATCHES:  # what is compiled now does not hold up the others later
        timed(named, task, f"{batch} 1")
    tell(found)
    for line in lines:
        tell(timed(named, task, line))


def main() -> None:
    """Keep standard output for the lines of JSON, and work on one core."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name in ("net", "way"):
        parser.add_argument(name)
    parser.add_argument("--task", type=Path, required=True, help="what `training.py` wrote")
    parser.add_argument("--folder", type=Path, required=True, help="for files")
    parser.add_argument("--goal", type=float)
    asked = parser.parse_args()
    say = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what tools print is no answer
    torch.set_num_threads(1)
    with torch.no_grad():
        work(asked, sys.stdin, say)


if __name__ == "__main__":
    main()
