"""LPOT's YAML in, a checked Conf out."""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, TypeVar

from omegaconf import DictConfig

from lpot_lightning.conf.blocks import DataloaderConf
from lpot_lightning.conf.cursor import Field, ReadField, read_all, read_into, suggest
from lpot_lightning.conf.dataloader import read_dataloader
from lpot_lightning.conf.document import read_document
from lpot_lightning.conf.evaluation import read_evaluation
from lpot_lightning.conf.exporting import read_export
from lpot_lightning.conf.pruning import read_pruning
from lpot_lightning.conf.quantization import read_quantization
from lpot_lightning.conf.schema import Conf, ModelConf
from lpot_lightning.conf.tuning import read_tuning
from lpot_lightning.errors import ConfError, NotYetError, quoted
from lpot_lightning.machine.typed import look_up_hints

T = TypeVar("T")

look_up_hints(Conf)

FRAMEWORKS = ("pytorch_fx", "pytorch")
OTHER_FRAMEWORKS = (
    "tensorflow",
    "tensorflow_itex",
    "mxnet",
    "onnxrt_qlinearops",
    "onnxrt_integerops",
    "onnxrt_qlinear",
    "onnxrt_integer",
)
_MODEL = "; it needs `name` and `framework`, such as `{name: my_net, framework: pytorch_fx}`"
_WHAT_COMES = (
    " What is quantized is a model of PyTorch; `result.export` writes it for ONNX Runtime and"
    " OpenVINO."
)
IDLE = {
    "graph_optimization": "has no effect, as in LPOT for PyTorch; mixed precision is"
    " `Trainer(precision=...)`, and here an op is int8 or fp32",
}
REFUSED = {
    "model_conversion": "is for TensorFlow only; a QAT model is converted by `QATCallback`: "
    "leave it out.",
}
MODEL_IDLE = {
    name: f"has no effect, as in LPOT for PyTorch; the {name} are those of `forward`"
    for name in ("inputs", "outputs")
}


def read_conf(conf: str | os.PathLike[str] | Mapping[str, Any] | DictConfig | Conf) -> Conf:
    """Read LPOT's user YAML and check all of it. The file is never written.

    Every field is obeyed, refused with the reason, or refused as not built yet. What LPOT's own
    templates hold without any effect is accepted with one warning for the file. What Lightning
    owns is the matter of ``check_for_callback``.

    Args:
        conf: The name of a YAML file (``~`` is expanded), a mapping, an OmegaConf object, or a
            ``Conf``, which is returned as it is.

    Raises:
        ConfError: If something cannot be done; with file, line, full key and what is allowed, for
            all that is wrong.
        NotYetError: If a part of LPOT is asked for that is not built yet.

    Example::

        conf = read_conf("ptq.yaml")
        conf = read_conf({"model": {"name": "resnet", "framework": "pytorch_fx"}})
    """
    if isinstance(conf, Conf):
        return conf
    document = read_document(conf)
    field = Field(value=document.value, document=document)
    checked = _whole(field, lambda: _read(field))
    if field.notes:
        warnings.warn(f"{document.source}: {'; '.join(field.notes)}.", UserWarning, stacklevel=2)
    return checked


def named_dataset(name: str, options: Mapping[str, Any]) -> DataloaderConf:
    """Return a data set that code names, as the only thing in a ``dataloader`` block.

    Raises:
        ConfError: if it is not known, or an option is wrong.

    Example::

        named_dataset("dummy", {"shape": [100, 3, 8, 8], "label": True})
    """
    document = read_document({"dataset": {name: dict(options)}})
    field = Field(value=document.value, document=document)
    return _whole(field, lambda: read_dataloader(field))


def the_one_conf(conf: Any, conf_fname: Any) -> Any:
    """Return the one of two arguments that is given.

    Raises:
        ConfError: If none is, or both are.
    """
    if (conf is None) == (conf_fname is None):
        came = "neither" if conf is None else "both"
        raise ConfError(f"{came} of `conf` and `conf_fname` is given; allowed: exactly one")
    return conf_fname if conf is None else conf


def _whole(field: Field, read: Callable[[], T]) -> T:
    """Return what ``read`` makes of a document.

    Raises:
        ConfError: that says everything that is wrong.
    """
    try:
        checked = read()
    except ConfError as error:
        field.faults.append(error)
    if not field.faults:
        return checked
    kinds = {type(one) for one in field.faults}
    kind = NotYetError if kinds == {NotYetError} else ConfError
    raise kind(*dict.fromkeys(str(one) for one in field.faults))


def _read(field: Field) -> Conf:
    part = field.section("version", Conf, refused=REFUSED, idle=IDLE)
    quantizes = part["quantization"].given or not part["pruning"].given
    tuning = part["tuning"]
    readers: dict[str, ReadField] = {
        "version": _version,
        "model": lambda model: _model(replace(model, needed=_MODEL).required()),
        "device": _device,
        "quantization": read_quantization,
        "tuning": read_tuning,
        "evaluation": lambda evaluation: read_evaluation(evaluation, tuning),
        "pruning": lambda pruning: read_pruning(pruning) if pruning.given else None,
        "export": read_export,
    }
    idle = {name: one for name, one in field.entries().items() if name in IDLE}
    readers |= dict.fromkeys(idle, _check_precisions)
    found = read_all({**part, **idle}, lambda name, one: readers[name](one))
    known = {name: found[name] for name in part}
    return Conf(**known, quantizes=quantizes, source=field.document.source)


def _version(field: Field) -> str:
    version = str(field.number("1.0")) if not isinstance(field.value, str) else field.text("")
    if not re.fullmatch(r"1(\.\d{1,3}){0,2}", version):
        raise field.wrong("`1.0`, the version of LPOT's format")
    return version if "." in version else f"{version}.0"


def _check_precisions(field: Field) -> None:
    readers: dict[str, ReadField] = {
        "precisions": lambda given: given.words((), ("fp32", "bf16")),
        "op_wise": lambda given: given.entries(),
    }
    read_all(field.section(*readers), lambda name, one: readers[name](one))


def _model(field: Field) -> ModelConf:
    part = field.section(ModelConf, idle=MODEL_IDLE)
    part["framework"] = replace(part["framework"], needed=f"; allowed: {quoted(FRAMEWORKS)}")
    return read_into(ModelConf, part, name=_model_name, framework=_framework)


def _model_name(field: Field) -> str:
    name = field.text("")
    if name.startswith(("/", "~")) or ".." in re.split(r"[/\\]", name):
        raise field.wrong("a name; it becomes part of the path of the workspace")
    return name


def _framework(field: Field) -> str:
    if field.value in OTHER_FRAMEWORKS:
        error = field.error(f"is `{field.value}`, and this is for PyTorch only; use `pytorch_fx`.")
        field.faults.insert(0, error)  # what else is wrong may well follow from it
        return FRAMEWORKS[0]
    if field.value == "pytorch_pt2e":
        raise field.not_yet("is `pytorch_pt2e`, a backend that is not built yet; use `pytorch_fx`.")
    if field.value == "pytorch_ipex":
        raise field.error("is `pytorch_ipex`, Intel's discontinued extension; use `pytorch_fx`.")
    if isinstance(field.value, str) and field.value not in FRAMEWORKS:
        hint = suggest(field.value, FRAMEWORKS) or _WHAT_COMES
        raise field.wrong(quoted(FRAMEWORKS), hint)
    return field.text("", FRAMEWORKS)


def _device(field: Field) -> str:
    if field.value == "gpu":
        raise field.error(
            "is `gpu`, which LPOT had for Intel GPUs; int8 models run on the `cpu`, "
            "and `Trainer(accelerator=...)` says where training runs."
        )
    return field.text(Conf.device, ("cpu",))
