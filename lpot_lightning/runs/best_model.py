"""The best model so far, on disk at once, and the result that it ends as."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from torch import nn

from lpot_lightning.artifacts import storage
from lpot_lightning.artifacts.earlier import DEPLOY, RESULT, forget_besides
from lpot_lightning.artifacts.tune_config import heading, verdict, with_rungs
from lpot_lightning.errors import QuantizationError
from lpot_lightning.machine.checksums import unmarked
from lpot_lightning.machine.files import read_file, rename_aside, write_file
from lpot_lightning.module.stand_in import StandIn, let_compute, put, replaced
from lpot_lightning.quantization.floats import told_of
from lpot_lightning.recipe import Op, Recipe
from lpot_lightning.runs.causes.all_causes import all_causes
from lpot_lightning.runs.job import Job
from lpot_lightning.runs.objective import bytes_of
from lpot_lightning.runs.paying_result import NotPaying, Paying
from lpot_lightning.runs.ranker import Ranker
from lpot_lightning.runs.speed import measure_speedup
from lpot_lightning.runs.tuning_result import TuningResult
from lpot_lightning.runs.workspace import deploy_yaml
from lpot_lightning.timing.ratio import Ratio, is_clear
from lpot_lightning.tuning.causes import Cause
from lpot_lightning.tuning.space import Space
from lpot_lightning.tuning.trial import Outcome, Trial


class Keeper:
    """Writes the best model of a job whenever it is found, and makes the result at the end.

    Args:
        job: see there.
        space: what each op may be.
        paying: which ops do not pay.
        anew: whether what is in the workspace is another run's.
    """

    def __init__(self, job: Job, space: Space, paying: Paying, *, anew: bool) -> None:
        self._job, self._space, self._paying = job, space, paying
        self._anew = anew
        self._saved: Recipe | None = None

    @property
    def _before(self) -> int:
        """How many passes there were before the training."""
        trained = self._job.trained
        return 0 if trained is None or trained.start is None else 1

    def keep(self, trial: Trial) -> None:
        """Write the best model so far; one that an earlier run found is written at the end."""
        if not trial.replayed:
            self._save(trial)

    def finish(self, outcome: Outcome, ranker: Ranker) -> TuningResult:
        """Turn the job's model into the best one and return what was found.

        Raises:
            QuantizationError: if every trial failed.
        """
        job, best = self._job, outcome.best
        if best is None or best.score.accuracy is None:
            reasons = {trial.score.failure for trial in outcome.trials}
            raise QuantizationError(f"every trial failed: {'; '.join(map(str, reasons))}")
        if self._saved != best.recipe:
            self._save(best)
        parts = job.prepared.convert(best.recipe)
        graphs = job.prepared.graphs(job.model)
        speed = self._speedup(parts, graphs)
        fp32_bytes = bytes_of(job.backend.to_plain(job.model))
        narrow = job.prepared.narrow and bool(best.recipe.reduced_ops)
        excluded = told_of(job.prepared.excluded, narrow=narrow)
        causes = self._causes(outcome, best.recipe, excluded, ranker)  # while the model is not int8
        put(job.model, job.prepared.convert(best.recipe))  # graphs that have seen no data
        let_compute(job.model, graphs)
        job.model.requires_grad_(False).eval()
        wrong = set(job.prepared.excluded)
        result = TuningResult(
            status=outcome.status,
            monitor=job.monitor.name,
            criterion=job.criterion,
            baseline=job.baseline,
            accuracy=best.score.accuracy,
            int8_ops=best.recipe.int8_ops,
            fp32_ops=tuple(op for op in best.recipe.fp32_ops if op not in wrong),
            not_quantizable=excluded,
            trials=outcome.trials,
            evaluations=self._before
            + job.fp32_passes
            + sum(trial.score.evaluations for trial in outcome.trials),
            speedup=speed.middle,
            speedup_spread=speed.spread,
            size_ratio=fp32_bytes / bytes_of(job.backend.to_plain(job.model)),
            workspace=job.options.workspace.folder,
            objective=job.conf.tuning.objective,
            not_paying=self._not_paying(best.recipe),
            op_times=self._paying.times,
            asked_fp32=self._asked(),
            rungs=self._rungs(best.recipe),
            sensitivities=ranker.sensitivities_of(best.recipe),
            floats="bf16" if narrow else "fp32",
            repairs=ranker.repairs_of(best.recipe),
            causes=causes,
            training=None if job.trained is None else job.ranks.agreed(job.trained.log),
            about=job.about,
            held=job.model,
            origin=dataclasses.replace(
                job.origin, monitor=job.monitor.name, accuracy=best.score.accuracy
            ),
        )
        if job.folder is not None:
            self._write_deploy(job.folder / DEPLOY)
            write_file(job.folder / RESULT, result.to_json())
        return result

    def _causes(
        self, outcome: Outcome, recipe: Recipe, excluded: Mapping[str, str], ranker: Ranker
    ) -> dict[str, Cause]:
        return all_causes(
            self._job,
            hurt=ranker.causes_of(recipe),
            not_quantizable=excluded,
            not_paying=self._not_paying(recipe),
            asked_fp32=self._asked(),
            repairs=ranker.repairs_of(recipe),
            trials=outcome.trials,
            recipe=recipe,
        )

    def _asked(self) -> tuple[str, ...]:
        return tuple(op.name for op in self._space.ops if self._is_asked(op))

    def _not_paying(self, recipe: Recipe) -> dict[str, NotPaying]:
        return {op: self._paying.slower[op] for op in recipe.fp32_ops if op in self._paying.slower}

    def _rungs(self, recipe: Recipe) -> dict[str, str]:
        wrong = self._job.prepared.excluded
        return {op: rung.value for op, rung in recipe.rungs.items() if op not in wrong}

    def _is_asked(self, op: Op) -> bool:
        return not op.reduced_configs and op.name not in self._job.prepared.excluded

    def _write_deploy(self, path: Path) -> None:
        """Write ``deploy.yaml``; another one, which LPOT may have left, is kept."""
        content = deploy_yaml(self._job.conf)
        if path.exists() and unmarked(read_file(path)) != unmarked(content):
            kept = rename_aside(path)
            self._job.listener.say(f"the `{DEPLOY}` of another run is kept as `{kept}`")
        write_file(path, content)

    def _speedup(
        self, parts: Mapping[str, StandIn], graphs: Mapping[str, Callable[..., Any]]
    ) -> Ratio:
        job = self._job
        job.listener.say("measuring the speed-up")
        found = measure_speedup(job.feed, job.model, parts, graphs)
        if found.spread is not None and found.spread[0] <= 1:
            slower = "slower than" if is_clear(found.spread) else "no faster for certain than"
            job.listener.say(
                f"int8 is {slower} fp32 here, {found}: for small layers or batches the"
                " work saved is less than the work of going to int8 and back"
            )
        return found

    def _save(self, trial: Trial) -> None:
        if self._job.options.workspace.folder is not None:
            fresh = self._job.feed.fresh()  # of all processes: nothing has been left in it yet
            self._job.ranks.on_zero(lambda: self._write(trial, fresh))
        self._saved = trial.recipe

    def _write(self, trial: Trial, fresh: nn.Module) -> None:
        job = self._job
        if job.folder is None:
            return
        parts = job.prepared.convert(trial.recipe)
        with replaced(job.model, parts) as quantized:
            plain = job.backend.to_plain(quantized)
        put(fresh, parts)
        traits, probe = job.traits.described(fresh)
        plain |= probe
        if self._anew and self._saved is None:
            forget_besides(job.folder)
        written = storage.save(job.folder, self._configure(trial) | traits, plain)
        job.listener.saved(written, plain)

    def _configure(self, trial: Trial) -> dict[str, Any]:
        job = self._job
        described = job.prepared.describe(trial.recipe)
        return {
            "backend": job.backend.name,
            **heading(job.conf, job.conf.quantization.approach),
            "accuracy": verdict(
                job.monitor.name,
                job.criterion,
                job.baseline,
                int8=trial.score.accuracy,
                met=trial.accepted,
            ),
            "calibration": {"samples": job.feed.samples},
            **described,
            "op": with_rungs(described["op"]),
            **({"channels": job.options.channels} if job.options.channels else {}),
            "fp32_model": job.fp32,
        }
