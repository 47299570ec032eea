"""Small helpers that the scenes of this folder share."""

from __future__ import annotations

import json
from typing import Any

import pytest

from lpot_lightning.conf.reader import read_conf
from lpot_lightning.conf.schema import Conf
from lpot_lightning.errors import ConfError, NotYetError


def conf_of(**sections: Any) -> dict[str, Any]:
    """Return a mapping with a model and these sections."""
    return {"model": {"name": "net", "framework": "pytorch_fx"}, **sections}


def tuned(**fields: Any) -> Conf:
    """Return a Conf with this ``tuning``."""
    return read_conf(conf_of(tuning=fields))


def quantized(**fields: Any) -> Conf:
    """Return a Conf with this ``quantization``."""
    return read_conf(conf_of(quantization=fields))


def refusal(conf: Any) -> str:
    """Return the text of the ConfError that reading this raises."""
    with pytest.raises(ConfError) as caught:
        read_conf(conf)
    return str(caught.value)


def remark(conf: Any) -> tuple[Conf, str]:
    """Return what reading this gives, and the text of the one warning about it."""
    with pytest.warns(UserWarning, match="^(<mapping>|ptq.yaml): ") as caught:
        read = read_conf(conf)
    assert len(caught) == 1
    return read, str(caught[0].message)


def not_yet(conf: Any) -> str:
    """Return the text of the NotYetError that reading this raises."""
    with pytest.raises(NotYetError) as caught:
        read_conf(conf)
    return str(caught.value)


LOADER = {
    "dataset": {"ImageFolder": {"root": "/data"}},
    "batch_size": 8,
    "last_batch": "discard",
    "shuffle": False,
    "filter": {"LabelBalance": {"size": 1}},
    "transform": {
        "Resize": {"size": 256, "interpolation": "bilinear"},
        "ToTensor": None,
        "Normalize": {"mean": [0.5, 0.5], "std": [1, 1]},
    },
}
TRAIN = {
    "optimizer": {
        "SGD": {"learning_rate": 0.1, "momentum": 0.9, "nesterov": False, "weight_decay": 0.0001}
    },
    "criterion": {"CrossEntropyLoss": {"reduction": "sum"}},
    "dataloader": {"dataset": {"MNIST": {"root": "/data", "train": True}}},
    "start_epoch": 1,
    "end_epoch": 3,
    "iteration": 10,
    "frequency": 2,
    "hostfile": "/hosts",
}
CONFIGS = {
    "cores_per_instance": 4,
    "num_of_instance": 2,
    "inter_num_of_threads": 1,
    "intra_num_of_threads": 4,
    "kmp_blocktime": 0,
    "kmp_affinity": "compact",
}
TENSOR = {
    "dtype": ["int8", "fp32"],
    "scheme": ["sym"],
    "granularity": ["per_channel"],
    "algorithm": ["minmax"],
}
HEAD_PRUNER = {
    "start_epoch": 0,
    "end_epoch": 2,
    "initial_sparsity": 0.0,
    "update_frequency": 2,
    "prune_type": "gradient_sensitivity",
    "prune_domain": "global",
    "names": ["a.weight", "b.weight"],
    "parameters": {
        "target": 8,
        "stride": 64,
        "transpose": False,
        "normalize": True,
        "index": 0,
        "importance_inputs": ["head_mask"],
        "importance_metric": "abs_gradient",
    },
}
PRUNER = {
    "start_step": 10,
    "end_step": 200,
    "target_sparsity": 0.5,
    "schedule": "cubic",
    "method": "per_channel",
    "pattern": "1x16",
    "excluded_names": ["fc.weight"],
}
EVERYTHING = {
    "version": 1.0,
    "model": {"name": "net", "framework": "pytorch_fx"},
    "device": "cpu",
    "quantization": {
        "approach": "quant_aware_training",
        "float": "bf16",
        "calibration": {"sampling_size": 300, "dataloader": LOADER},
        "recipes": {
            "fast_bias_correction": False,
            "weight_correction": False,
            "cross_layer_equalization": False,
            "first_conv_or_matmul_quantization": True,
        },
        "model_wise": {
            "weight": {**TENSOR, "bit": 7.0},
            "activation": {**TENSOR, "dtype": ["uint8", "fp32"]},
        },
        "op_wise": {
            "conv1": {"weight": TENSOR, "activation": TENSOR},
            r"blocks\.[0-3]\..*": {"activation": {"dtype": ["fp32"]}},
            "default_qconfig": {"weight": {"dtype": ["fp32"]}},
        },
        "train": TRAIN,
    },
    "tuning": {
        "strategy": {"name": "tpe", "accuracy_weight": 1.0, "latency_weight": 0.5},
        "accuracy_criterion": {"relative": 0.02, "higher_is_better": False},
        "objective": "modelsize",
        "exit_policy": {"timeout": 60, "max_trials": 7, "performance_only": True},
        "random_seed": 9527,
        "tensorboard": False,
        "workspace": {"path": "~/runs", "resume": "~/runs/history.jsonl"},
    },
    "evaluation": {
        "accuracy": {
            "metric": {"topk": 5},
            "iteration": 20,
            "dataloader": {"dataset": {"dummy": {"shape": [3, 8, 8]}}},
            "postprocess": {"transform": {"LabelShift": 1}},
            "configs": CONFIGS,
        },
        "performance": {
            "warmup": 2,
            "iteration": 100,
            "dataloader": {"dataset": {"dummy_v2": {"input_shape": [3, 8, 8], "low": 0.0}}},
            "postprocess": {"transform": {}},
        },
    },
    "pruning": {
        "train": {"end_epoch": 3},
        "approach": {
            "weight_compression": {
                "initial_sparsity": 0.1,
                "target_sparsity": 0.9,
                "start_epoch": 0,
                "end_epoch": 4,
                "schedule": "linear",
                "pruners": [HEAD_PRUNER, PRUNER],
            },
        },
    },
    "export": {
        "formats": ["onnx", "net.xml", ".pt2"],
        "method": "net.forward",
        "dynamic": False,
        "input_names": ["image"],
        "output_names": ["scores", "boxes"],
        "opset": 20,
        "target": "openvino",
        "check": False,
        "judge": True,
    },
}


_TEXT = json.dumps(EVERYTHING)


def everything() -> dict[str, Any]:
    """Return a mapping in which nearly every field of LPOT is given."""
    return json.loads(_TEXT)  # so that no part is shared
