from __future__ import annotations

import itertools

import torch
from lightning.pytorch.callbacks import ModelCheckpoint

from lpot_lightning.judging.protocols import Monitor
from lpot_lightning.trainer.keepers import keeper_of


def test_names_of_one_metric_are_one_and_the_better_of_two_is_taken(tmp_path):
    def saver(name, score, **given):
        one = ModelCheckpoint(tmp_path, **given)
        one.best_model_path, one.best_model_score = name, torch.tensor(score)
        return one

    other = saver("other", 9.0, monitor="epoch", mode="max")
    rare = saver("rare", 0.7, monitor="acc_epoch", mode="max")
    each = saver("each", 0.8, monitor="acc", mode="max")
    for order in itertools.permutations((other, rare, each)):
        assert keeper_of(order, Monitor("acc", True)) is each
    assert keeper_of((other, rare), Monitor("acc", True)) is rare
