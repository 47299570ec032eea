"""A tuning run of many trials, to be killed: ``python long_run.py WORKSPACE``."""

import sys

from lit_scenes import Lit, conf, train_loader, trainer, val_loader

from lpot_lightning import quantize

if __name__ == "__main__":
    tuning = {
        "strategy": {"name": "basic"},
        "accuracy_criterion": {"absolute": -1.0},
        "exit_policy": {"max_trials": 8},
    }
    asked = conf(sys.argv[1], tuning=tuning)
    result = quantize(trainer(), Lit(), train_loader(), val_loader(), conf=asked)
    sys.stdout.write(f"done {result.status} {len(result.trials)}\n")
