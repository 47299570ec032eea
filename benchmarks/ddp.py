"""What a trial costs in two processes, against one process with the same cores.

The planted net is tried in as many recipes as asked for, none of which is good enough: by one
process with two threads, by two processes with a thread each and half of the data each, and, to see
what the two exchange and wait for, by one process with one thread and half of the data. The runs
are interleaved; the figures are medians over all trials.

    make bench
"""

from __future__ import annotations

import argparse
import logging
import statistics
import tempfile
import warnings

import torch
from lightning.pytorch import Trainer, seed_everything
from lightning.pytorch.strategies import DDPStrategy
from planted import IMAGES, LitNet, digits, quiet_trainer

from lpot_lightning import QuantizationCallback, TuningResult

for part in ("pytorch", "fabric"):  # in the processes, too
    logging.getLogger(f"lightning.{part}").setLevel(logging.WARNING)
warnings.simplefilter("ignore")
WAYS = {
    "one process, two threads": (1, 2, IMAGES),
    "two processes, one thread each": (2, 1, IMAGES),
    "one process, one thread, half of the data": (1, 1, IMAGES // 2),
}


def tuned(model: LitNet, processes: int, threads: int, images: int, trials: int) -> TuningResult:
    """Try ``trials`` recipes and return what they came to."""
    with tempfile.TemporaryDirectory() as folder:
        callback = QuantizationCallback(
            {
                "model": {"name": "planted", "framework": "pytorch_fx"},
                "tuning": {
                    "strategy": {"name": "basic"},
                    "accuracy_criterion": {"absolute": -1.0},
                    "exit_policy": {"max_trials": trials},
                    "workspace": {"path": folder},
                },
            }
        )
        trainer = Trainer(
            max_epochs=0,
            accelerator="cpu",
            devices=processes,
            strategy=DDPStrategy(start_method="forkserver") if processes > 1 else "auto",
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            callbacks=[callback],
        )
        torch.set_num_threads(threads)
        trainer.fit(model, digits(600, 0, train=True), digits(images, 1, train=False))
        result = callback.result
        assert result is not None
        return result


def main() -> None:
    """Train, try in each way, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="3 trials, one round")
    asked = parser.parse_args()
    if asked.quick:
        asked.trials, asked.rounds = 3, 1
    seed_everything(1, verbose=False)
    model = LitNet()
    quiet_trainer().fit(model, digits(IMAGES, 0, train=True))
    seconds: dict[str, list[float]] = {way: [] for way in WAYS}
    for _ in range(asked.rounds):
        for way, (processes, threads, images) in WAYS.items():
            result = tuned(model, processes, threads, images, asked.trials)
            seconds[way] += [trial.score.seconds for trial in result.trials]
    medians = {way: statistics.median(found) for way, found in seconds.items()}
    two = medians["two processes, one thread each"]
    print("| a trial of the planted net | seconds | two processes take |")
    print("|---|---|---|")
    for way, found in medians.items():
        print(f"| {way} | {found:.3f} | {two / found:.2f} times as long |")


if __name__ == "__main__":
    main()
