"""What newcomers write into a YAML that cannot be, and the words that put it right."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sensor_scenes import Sensor, conf, quantization

from lpot_lightning import (
    ConfError,
    PruningCallback,
    QATCallback,
    Quantization,
    QuantizationCallback,
)

HEAD = "model: {name: sensor, framework: pytorch_fx}\n"
WEIGHTS = {"target_sparsity": 0.5, "start_epoch": 0, "end_epoch": 1, "pruners": [{}]}


def pruning(**more: Any) -> dict[str, Any]:
    return {"approach": {"weight_compression": {**WEIGHTS, **more}}}


def of_file(text: str) -> Callable[[], object]:
    """Return what gives a file of this text to the callback."""

    def give() -> object:
        Path("ptq.yaml").write_text(text)
        return QuantizationCallback("ptq.yaml")

    return give


def of(**sections: Any) -> Callable[[], object]:
    """Return what gives a mapping with these sections to the callback."""
    return lambda: quantization(sections=sections)


WRONG: dict[str, tuple[Callable[[], object], list[str]]] = {
    "a file that is not there": (
        lambda: QuantizationCallback("ptq.yml"),
        ["no such file: `ptq.yml`, looked for in `/"],
    ),
    "a key of the first level": (
        of_file(HEAD + "tunning:\n  random_seed: 1\n"),
        ["ptq.yaml:2: `tunning` is not a known key", "Did you mean `tuning`?"],
    ),
    "a key further in": (
        of_file(HEAD + "tuning:\n  accuracy_criterion:\n    relativ: 0.01\n"),
        ["ptq.yaml:4: ", "allowed in `tuning.accuracy_criterion`", "Did you mean `relative`?"],
    ),
    "a value of another type": (
        of_file(HEAD + "tuning: {random_seed: often}"),
        ["`tuning.random_seed` is `often`; allowed: a whole number in [0, 4294967295]"],
    ),
    "1 for 1 %": (
        of(tuning={"accuracy_criterion": {"relative": 1}}),
        ["is `1`", "1 % is `0.01` or `1%`; allowed: a number or a percentage", "in (-1, 1)"],
    ),
    "a tab": (
        of_file("model:\n\tname: sensor\n"),
        ["ptq.yaml:2: not valid YAML", "Indent with blanks"],
    ),
    "an empty mapping": (
        lambda: QuantizationCallback({}),
        ["`model` is missing; it needs `name` and `framework`, such as", "framework: pytorch_fx"],
    ),
    "an empty file": (of_file(""), ["ptq.yaml is empty; it needs `model` with `name` and"]),
    "half of a model": (
        lambda: QuantizationCallback({"model": {"name": "sensor"}}),
        ["`model.framework` is missing; allowed: `pytorch_fx`, `pytorch`"],
    ),
    "framework torch": (
        of(model={"name": "sensor", "framework": "torch"}),
        ["`model.framework` is `torch`; allowed: `pytorch_fx`", "Did you mean `pytorch`?"],
    ),
    "framework onnxruntime": (
        of(model={"name": "sensor", "framework": "onnxruntime"}),
        ["is `onnxruntime`; allowed: `pytorch_fx`, `pytorch`", "`result.export` writes it for"],
    ),
    "framework tensorflow": (
        of(model={"name": "sensor", "framework": "tensorflow"}),
        ["is `tensorflow`, and this is for PyTorch only; use `pytorch_fx`"],
    ),
    "a training for int8 to who quantizes afterwards": (
        of(quantization={"approach": "quant_aware_training"}),
        ["`quantization.approach` is `quant_aware_training`", "use `QATCallback`"],
    ),
    "quantizing afterwards to who trains for int8": (
        lambda: QATCallback(conf()),
        ["`post_training_static_quant`", "`QATCallback` does; use `QuantizationCallback`"],
    ),
    "half of an approach": (
        of(quantization={"approach": "post_training_static"}),
        ["allowed: `post_training_static_quant`", "Did you mean `post_training_static_quant`?"],
    ),
    "a strategy that is gone": (
        of(tuning={"strategy": {"name": "sigopt"}}),
        ["is `sigopt`, a service that no longer exists; allowed: `auto`, `basic`"],
    ),
    "the text of a YAML in the place of its name": (
        lambda: QuantizationCallback("model: {name: sensor}\ntuning: {}"),
        ["conf is a text that looks like YAML", "the name of a file, or a mapping such as"],
    ),
    "a model in the place of the conf": (
        lambda: QuantizationCallback(Sensor()),
        ["conf is a `Sensor`; allowed: a path, a mapping or an OmegaConf DictConfig"],
    ),
    "a pruning to who quantizes": (of(pruning=pruning()), ["use `PruningCallback`"]),
    "a pruning to `Quantization`": (
        lambda: Quantization(conf(pruning=pruning())),
        ["`Quantization` does not prune; use `Pruning`, or `PruningCallback` in a Trainer"],
    ),
    "more than all weights": (
        lambda: PruningCallback(conf(pruning=pruning(target_sparsity=1.5))),
        ["weight_compression.target_sparsity` is `1.5`; allowed: a number in [0, 1]"],
    ),
    "one name of modules": (
        lambda: quantization(modules="net"),
        ["`modules` is `'net'`; allowed: a list of names or globs"],
    ),
    "other data to calibrate on": (
        lambda: quantization(calib="test"),
        ["`calib` is `test`; allowed: `train`, `val`"],
    ),
    "a file in the place of a choice": (
        lambda: quantization(ckpt="best.ckpt"),
        ["allowed: `best`, `last`, `current`, of this fit", "quantize(trainer, model, …, ckpt_p"],
    ),
}


@pytest.mark.parametrize(("give", "words"), WRONG.values(), ids=WRONG)
def test_what_is_said_puts_it_right(give, words):
    with pytest.raises(ConfError) as told:
        give()
    assert [word for word in words if word not in str(told.value)] == []
    assert "\n" not in str(told.value)
