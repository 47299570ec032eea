"""What a user may ask for: LPOT's YAML as frozen values."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, Literal

from lpot_lightning.conf.blocks import (
    COUNT,
    NOT_NEGATIVE,
    ConfigsConf,
    DataloaderConf,
    FrozenOptions,
    NamedConf,
    PostprocessConf,
    PrecisionWish,
    TrainConf,
    checked,
    one_word_of,
)
from lpot_lightning.conf.plain import NO_KEY, to_plain

SCHEDULES = ("linear", "cubic")
Unit = Literal["epoch", "step"]
"""What a schedule counts: epochs, or steps of the optimizer."""
ENDS: dict[Unit, tuple[str, str]] = {
    "epoch": ("start_epoch", "end_epoch"),
    "step": ("start_step", "end_step"),
}
_FIRST = {"start_epoch": 0, "end_epoch": 4, "start_step": 0}


@dataclass(frozen=True)
class ModelConf:
    """``model``: how the model is called, and which backend quantizes it."""

    name: str
    framework: str


@dataclass(frozen=True)
class CalibrationConf:
    """``quantization.calibration``: how many samples, and which.

    ``is_asked`` is whether their number is given, so that whoever has fewer is told.
    """

    sampling_size: int = 100
    dataloader: DataloaderConf | None = None
    is_asked: bool = field(default=False, compare=False, metadata=NO_KEY)


@dataclass(frozen=True)
class RecipesConf:
    """``quantization.recipes``: repairs after calibration.

    ``True`` asks for one on every op that can have it, ``False`` forbids it, and where nothing is
    given, ``auto`` takes it where it helps.
    """

    cross_layer_equalization: bool | None = None
    fast_bias_correction: bool | None = None
    weight_correction: bool | None = None


@dataclass(frozen=True, kw_only=True)
class QuantizationConf:
    """``quantization``: which way to int8, and what is allowed on it.

    ``float`` says of what type attention and products of activations are.
    """

    approach: str = "post_training_static_quant"
    float: str = one_word_of("auto", "fp32", "bf16")
    calibration: CalibrationConf = CalibrationConf()
    recipes: RecipesConf = RecipesConf()
    model_wise: PrecisionWish = PrecisionWish()
    op_wise: tuple[tuple[str, PrecisionWish], ...] = ()
    default_qconfig: PrecisionWish | None = field(default=None, metadata=NO_KEY)
    train: TrainConf | None = None


@dataclass(frozen=True)
class StrategyConf:
    """``tuning.strategy``: in which order recipes are tried; ``tpe`` weighs what it finds."""

    name: str = "auto"
    accuracy_weight: float | None = checked(None, interval=NOT_NEGATIVE)
    latency_weight: float | None = checked(None, interval=NOT_NEGATIVE)


@dataclass(frozen=True)
class AccuracyCriterionConf:
    """``tuning.accuracy_criterion``: how much accuracy may be lost; one of the first two is set."""

    relative: float | None = checked(None, interval="(-1, 1)", percent=True)
    absolute: float | None = checked(None, percent=True)
    higher_is_better: bool | None = None


@dataclass(frozen=True)
class ExitPolicyConf:
    """``tuning.exit_policy``: when to stop; a timeout of 0 stops at the first good model."""

    timeout: float = checked(0, interval=NOT_NEGATIVE)
    max_trials: int = checked(100, interval=COUNT)
    performance_only: bool = False


@dataclass(frozen=True)
class WorkspaceConf:
    """``tuning.workspace``: where files go, which history is taken up; as written, with ``~``."""

    path: str | None = None
    resume: str | None = None


@dataclass(frozen=True, kw_only=True)
class TuningConf:
    """``tuning``: the goal, the order of the search and its budget."""

    strategy: StrategyConf = StrategyConf()
    accuracy_criterion: AccuracyCriterionConf = AccuracyCriterionConf(relative=0.01)
    objective: str = one_word_of("performance", "modelsize", "footprint")
    exit_policy: ExitPolicyConf = ExitPolicyConf()
    random_seed: int = checked(1978, interval="[0, 4294967295]")
    tensorboard: bool = False
    workspace: WorkspaceConf = WorkspaceConf()


@dataclass(frozen=True, kw_only=True)
class AccuracyConf:
    """``evaluation.accuracy``: how good a model is; ``iteration`` counts batches, -1 is all."""

    metric: NamedConf | None = None
    iteration: int = -1
    dataloader: DataloaderConf | None = None
    postprocess: PostprocessConf | None = None
    configs: ConfigsConf | None = None


@dataclass(frozen=True, kw_only=True)
class PerformanceConf:
    """``evaluation.performance``: how fast a model is."""

    warmup: int = checked(5, interval=NOT_NEGATIVE)
    iteration: int = -1
    dataloader: DataloaderConf | None = None
    postprocess: PostprocessConf | None = None
    configs: ConfigsConf | None = None


@dataclass(frozen=True)
class EvaluationConf:
    """``evaluation``: how models are judged and timed."""

    accuracy: AccuracyConf | None = None
    performance: PerformanceConf | None = None


@dataclass(frozen=True, kw_only=True)
class PrunerConf:
    """One ``!Pruner``; ``None`` takes the value of the ``weight_compression`` around it."""

    start_epoch: int | None = checked(None, interval=NOT_NEGATIVE)
    end_epoch: int | None = checked(None, interval=NOT_NEGATIVE)
    start_step: int | None = checked(None, interval=NOT_NEGATIVE)
    end_step: int | None = checked(None, interval=NOT_NEGATIVE)
    initial_sparsity: float | None = checked(None, interval="[0, 1)")
    target_sparsity: float | None = checked(None, interval="[0, 1]")
    schedule: str | None = checked(None, allowed=SCHEDULES)
    update_frequency: int | None = checked(None, interval=COUNT)
    prune_type: str = one_word_of("basic_magnitude", "gradient_sensitivity", "pattern_lock")
    method: str = one_word_of("per_tensor", "per_channel")
    pattern: str = "tile_pattern_1x1"
    prune_domain: str = one_word_of("local", "global")
    names: tuple[str, ...] = ()
    excluded_names: tuple[str, ...] = ()
    parameters: FrozenOptions | None = None

    @property
    def unit(self) -> Unit | None:
        """What its schedule counts; ``None`` if it says nothing of it."""
        return _unit_of(self)

    @property
    def share_of_pattern(self) -> float | None:
        """The sparsity that the pattern itself means: 0.5 for ``2:4``; ``None`` for others."""
        kept, _, of = self.pattern.partition(":")
        return 1 - int(kept) / int(of) if of else None


@dataclass(frozen=True, kw_only=True)
class WeightCompressionConf:
    """``pruning.approach.weight_compression``: the pruners, and what they have in common.

    Where it counts steps, ``start_epoch`` and ``end_epoch`` are ``None``.
    """

    initial_sparsity: float = checked(0.0, interval="[0, 1)")
    target_sparsity: float = checked(0.97, interval="[0, 1]")
    start_epoch: int | None = checked(0, interval=NOT_NEGATIVE)
    end_epoch: int | None = checked(4, interval=NOT_NEGATIVE)
    start_step: int | None = checked(None, interval=NOT_NEGATIVE)
    end_step: int | None = checked(None, interval=NOT_NEGATIVE)
    schedule: str = one_word_of(*SCHEDULES)
    pruners: tuple[PrunerConf, ...] = ()

    def resolved(self) -> tuple[PrunerConf, ...]:
        """Return the pruners with every ``None`` among the shared values filled in.

        A pruner counts what it says itself, else what is counted here; of the other unit it has
        nothing. The target of an N:M pattern is what the pattern means.
        """
        return tuple(self._filled(pruner) for pruner in self.pruners)

    def _filled(self, pruner: PrunerConf) -> PrunerConf:
        unit = pruner.unit or _unit_of(self) or "epoch"
        shared = {name: value for name, value in vars(self).items() if name != "pruners"}
        shared |= dict.fromkeys(ENDS["epoch" if unit == "step" else "step"])
        for name in ENDS[unit]:
            shared[name] = _FIRST.get(name) if shared[name] is None else shared[name]
        missing = {name: shared[name] for name in shared if getattr(pruner, name) is None}
        if pruner.share_of_pattern is not None:
            missing["target_sparsity"] = pruner.share_of_pattern
        return replace(pruner, **missing)


def _unit_of(one: PrunerConf | WeightCompressionConf) -> Unit | None:
    if one.start_step is not None or one.end_step is not None:
        return "step"
    return None if one.start_epoch is None and one.end_epoch is None else "epoch"


@dataclass(frozen=True)
class PruningApproachConf:
    """``pruning.approach``."""

    weight_compression: WeightCompressionConf


@dataclass(frozen=True)
class PruningConf:
    """``pruning``: which weights go, and when."""

    approach: PruningApproachConf
    train: TrainConf | None = None


@dataclass(frozen=True, kw_only=True)
class ExportConf:
    """``export``: files for other runtimes, when a fit is over; see ``ExportOptions``."""

    formats: tuple[str, ...]
    method: str | None = None
    dynamic: bool | FrozenOptions = True
    input_names: tuple[str, ...] = ()
    output_names: tuple[str, ...] = ()
    opset: int | None = checked(None, interval="[18, 25]")
    target: str | None = checked(None, allowed=("onnxruntime", "openvino"))
    check: bool = True
    judge: bool = False


@dataclass(frozen=True, kw_only=True)
class Conf:
    """A checked LPOT YAML.

    ``quantizes`` is false only where a file has a ``pruning`` section and no ``quantization``;
    ``source`` is the file it came from, and takes no part in comparison.

    Example::

        conf = read_conf("ptq.yaml")
        conf.tuning.accuracy_criterion.relative  # 0.01
        yaml.safe_dump(conf.to_dict(), sort_keys=False)
    """

    model: ModelConf
    version: str = "1.0"
    device: str = "cpu"
    quantization: QuantizationConf = QuantizationConf()
    tuning: TuningConf = TuningConf()
    evaluation: EvaluationConf | None = None
    pruning: PruningConf | None = None
    export: ExportConf | None = None
    quantizes: bool = field(default=True, metadata=NO_KEY)
    source: str = field(default="<mapping>", compare=False, metadata=NO_KEY)

    def to_dict(self) -> dict[str, Any]:
        """Return nested dicts, lists and scalars that ``read_conf`` reads back as an equal Conf.

        The order of ``op_wise`` and ``transform`` has a meaning, so dump it with
        ``sort_keys=False``.
        """
        content = to_plain(self)
        default = self.quantization.default_qconfig
        if default is not None:
            ops = content["quantization"].setdefault("op_wise", {})
            ops["default_qconfig"] = to_plain(default)
        if not self.quantizes:
            del content["quantization"]
        return content
