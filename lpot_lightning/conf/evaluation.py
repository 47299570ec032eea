"""The `evaluation` section, and `tuning.metric`, its older place."""

from __future__ import annotations

from dataclasses import replace

from lpot_lightning.conf.blocks import ConfigsConf, NamedConf, PostprocessConf
from lpot_lightning.conf.cursor import Field, ReadField, read_all, read_into
from lpot_lightning.conf.dataloader import read_dataloader
from lpot_lightning.conf.named import Table, flag, integer, need, read_each, read_named
from lpot_lightning.conf.schema import AccuracyConf, EvaluationConf, PerformanceConf

_COMPARE = {"compare_label": flag}


def _one_or_five(field: Field) -> int:
    if field.integer(0) not in (1, 5):
        raise field.wrong("`1`, `5`")
    return field.integer(1)


METRICS: Table = {
    "topk": {"k": need(_one_or_five)},
    "Accuracy": {},
    "F1": {},
    "Loss": {},
    "MAE": _COMPARE,
    "MSE": _COMPARE,
    "RMSE": _COMPARE,
}
_OWN_METRIC = (
    "another metric is logged in `validation_step` and named by `monitor`, or given to "
    "`Quantization.metric`"
)
OTHER_METRICS = dict.fromkeys(
    ("mAP", "COCOmAP", "VOCmAP", "SquadF1", "BLEU", "mIOU", "GLUE"), _OWN_METRIC
)
POSTPROCESSES: Table = {"LabelShift": {"shift": need(integer())}}
OTHER_POSTPROCESSES = {
    "SquadV1": "turn outputs into answers in `validation_step`, or in a `Metric` of your own"
}


def read_evaluation(field: Field, tuning: Field) -> EvaluationConf | None:
    """Read ``evaluation``; the metric may also stand in ``tuning``, as in LPOT 1.3."""
    # a `tuning` that is no mapping is refused by who reads it
    older = tuning.entries().get("metric") if isinstance(tuning.value, dict) else None
    if not field.given and (older is None or not older.given):
        return None
    readers: dict[str, ReadField] = {
        "accuracy": lambda accuracy: _accuracy(accuracy, older),
        "performance": _performance,
    }
    part = field.section(EvaluationConf)
    return EvaluationConf(**read_all(part, lambda name, one: readers[name](one)))


def _accuracy(field: Field, older: Field | None) -> AccuracyConf | None:
    readers: dict[str, ReadField] = {"older": _metric, "now": _accuracy_now}
    both = {"older": field.holding(None) if older is None else older, "now": field}
    read = read_all(both, lambda name, one: readers[name](one))
    metric: NamedConf | None = read["older"]
    found: AccuracyConf | None = read["now"]
    if found is None:
        return None if metric is None else AccuracyConf(metric=metric)
    if older is not None and found.metric and metric:
        raise older.error(
            f"is the older place of `{field.key}.metric`, and both are given: leave one out."
        )
    return replace(found, metric=found.metric or metric)


def _accuracy_now(field: Field) -> AccuracyConf | None:
    return read_into(AccuracyConf, field, metric=_metric, **_ALIKE) if field.given else None


def _performance(field: Field) -> PerformanceConf | None:
    if not field.given:
        return None
    found = read_into(PerformanceConf, field, **_ALIKE)
    if found.iteration != -1 and found.iteration <= found.warmup:
        raise field.error(
            f"counts {found.iteration} iterations, of which {found.warmup} are `warmup`; "
            "allowed: an `iteration` larger than `warmup`."
        )
    return found


def _metric(field: Field) -> NamedConf | None:
    if field.value in (None, {}):
        return None
    return read_named(field, METRICS, OTHER_METRICS, _OWN_METRIC)


def _iteration(field: Field) -> int:
    count = field.integer(0)
    if count != -1 and count < 1:
        raise field.wrong("a whole number in [1, inf), or `-1` for all")
    return count


def _postprocess(field: Field) -> PostprocessConf:
    transform = field.section("transform")["transform"]
    entries = transform.entries()
    if "Reshape" in entries:
        entries["Reshape"].note("has no effect; outputs are judged as the model gives them")
    rest = {name: entry.value for name, entry in entries.items() if name != "Reshape"}
    instead = "outputs and labels are prepared in `validation_step`, or in a `Metric` of your own"
    return PostprocessConf(
        read_each(transform.holding(rest), POSTPROCESSES, OTHER_POSTPROCESSES, instead)
    )


def _configs(field: Field) -> ConfigsConf:
    counts = ("cores_per_instance", "inter_num_of_threads", "intra_num_of_threads")
    return read_into(ConfigsConf, field.section(*counts, ConfigsConf))


_ALIKE: dict[str, ReadField] = {
    "iteration": _iteration,
    "dataloader": read_dataloader,
    "postprocess": _postprocess,
    "configs": _configs,
}
