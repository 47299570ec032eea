"""How fast the model is when a fit is over, and how much faster int8."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.plugins.precision import Precision
from typing_extensions import override

from lpot_lightning.callbacks.lost_process import end_the_lost
from lpot_lightning.callbacks.postbox import Postbox
from lpot_lightning.callbacks.tuned import TunedCallback
from lpot_lightning.conf.benchmarking import check_for_timing
from lpot_lightning.conf.reader import read_conf
from lpot_lightning.errors import ConfError, EvaluationError, LpotError
from lpot_lightning.lpot.benchmark_call import CALLS, performance_of, with_found
from lpot_lightning.machine.signals import check
from lpot_lightning.module.copying import check_copyable, second_model
from lpot_lightning.timing.cores import asks_for_processes
from lpot_lightning.timing.in_turns import Timings, in_turns, threads
from lpot_lightning.timing.percentiles import Timed
from lpot_lightning.timing.result import BenchmarkResult
from lpot_lightning.trainer.checks import (
    NO_VALIDATION_DATA,
    check_step,
    check_trainer,
)
from lpot_lightning.trainer.ending import ending_well, not_timed
from lpot_lightning.trainer.package import EitherCallback, check_packages, either
from lpot_lightning.trainer.precision import judging_precision, step_failed
from lpot_lightning.trainer.session import Session
from lpot_lightning.trainer.shown.printing import print_result
from lpot_lightning.trainer.shown.progress import end_live_bar
from lpot_lightning.trainer.validation_feed import ValidationFeed


class BenchmarkCallback(EitherCallback):
    """Time the model when the fit is over, and int8 against it.

    At ``on_fit_end`` the forward work of your ``validation_step`` is timed on the CPU, in 32 bits,
    with the first validation batch. Where a ``QuantizationCallback`` or ``QATCallback`` stands
    before this one, its int8 model takes turns with the fp32 one, and the ratio of the medians is
    the speed-up. Your module, its metrics and your trainer are as they were afterwards.

    Args:
        conf: LPOT's user YAML: a path, a mapping or an OmegaConf object. Of it
            ``evaluation.performance`` counts: ``warmup``, ``iteration`` (all steps, those of the
            warm-up included; ``-1`` is 20 after it) and ``configs.intra_num_of_threads``.

    Raises:
        ConfError: when created, if the YAML asks for what cannot be done; when a fit begins, if a
            callback that quantizes stands after this one.
        LpotError: when a fit begins, if this Trainer cannot be used.
        SystemExit: with 130 for Ctrl-C and 143 for SIGTERM while it measures.

    Example::

        benchmark = BenchmarkCallback("ptq.yaml")
        trainer = Trainer(max_epochs=5, callbacks=[QuantizationCallback("ptq.yaml"), benchmark])
        trainer.fit(model, datamodule=data)
        print(benchmark.result.table())
    """

    def __init__(self, conf: str | Path | dict[str, Any]) -> None:
        self.conf = read_conf(conf)
        check_for_timing(self.conf, "the validation dataloader of the `Trainer`")
        configs = performance_of(self.conf).configs
        if configs is not None and asks_for_processes(configs):
            raise ConfError(
                f"{self.conf.source}: `evaluation.performance.configs` asks for processes of their"
                " own, which cannot be started inside of a fit: allowed for `BenchmarkCallback`:"
                " `intra_num_of_threads`; use `Benchmark` for the rest"
            )
        self._result: BenchmarkResult | None = None
        self._postbox = Postbox()

    @property
    def result(self) -> BenchmarkResult | None:
        """What was measured; ``None`` before the fit is over."""
        if self._result is None and (content := self._postbox.take()):
            return BenchmarkResult.from_json(content)
        return self._result

    @override
    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Refuse what cannot work, before any training."""
        if stage != "fit":
            return
        self._result = None
        self._postbox.put("")
        check_packages(trainer)
        check_trainer(trainer)
        check_step(pl_module)
        if not trainer.enable_validation:
            raise EvaluationError(NO_VALIDATION_DATA)
        self._check_order(_callbacks(trainer))

    @override
    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Refuse a model that cannot be copied."""
        check_copyable(pl_module)

    def _check_order(self, callbacks: Sequence[Callback]) -> None:
        after = callbacks[callbacks.index(self) + 1 :]
        if late := [type(one).__name__ for one in after if isinstance(one, TunedCallback)]:
            raise ConfError(
                f"`{late[0]}` stands after `BenchmarkCallback`, which would find no int8 model:"
                f" `callbacks=[{late[0]}(…), BenchmarkCallback(…)]`"
            )

    @override
    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Measure."""
        with ending_well(partial(not_timed, trainer, pl_module), trainer):
            self._measure(trainer, pl_module)

    @override
    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        """End processes that nobody waits for any more."""
        end_the_lost(trainer, self, exception)

    def _measure(self, trainer: Trainer, pl_module: LightningModule) -> None:
        end_live_bar(trainer)
        int8 = _int8_of(_callbacks(trainer))
        models = [] if int8 is None else [second_model(int8)]
        models.append(second_model(pl_module))
        asked = performance_of(self.conf)
        count = CALLS if asked.iteration < 0 else asked.iteration - asked.warmup
        warmup = asked.warmup
        if trainer.fast_dev_run:  # type: ignore[attr-defined]
            warmup, count = 0, 1
        few = asked.configs.intra_num_of_threads if asked.configs else None
        precision = judging_precision(trainer, pl_module, _unsaid)
        session = Session(trainer, pl_module, _callbacks(trainer), precision)
        with threads(few), closing(session), session.at_work(self.conf) as work:
            used = torch.get_num_threads()
            feed = work.feed(calib="val", samples=1)
            clock = partial(_seconds, feed, precision)
            found = in_turns([partial(clock, model) for model in models], warmup, count)
            samples = feed.first_samples
        label = "model" if int8 is None else "int8"
        empty = BenchmarkResult(name=self.conf.model.name, label=label, threads=used, warmup=warmup)
        timed = tuple(Timed(tuple(one), (samples,) * count) for one in found)
        self._result = with_found(empty, [Timings(timed, (None,) * len(timed))])
        self._postbox.put(self._result.to_json(indent=None).decode())
        print_result(trainer, self._result.table())


def _seconds(feed: ValidationFeed, precision: Precision, model: LightningModule, _: int) -> float:
    """Return the seconds of one ``validation_step`` on the first validation batch."""
    try:
        return feed.step_seconds(model)[0]
    except LpotError:
        raise
    except Exception as error:
        check()
        raise step_failed(error, precision) from error


def _int8_of(callbacks: Sequence[Callback]) -> LightningModule | None:
    found = [one.result for one in callbacks if isinstance(one, TunedCallback)]
    model = next((one.model for one in reversed(found) if one is not None), None)
    assert model is None or isinstance(model, either(LightningModule))
    return model


def _unsaid(_: str) -> None:
    """Weights of another type are no news: the callback that quantizes has said so."""


def _callbacks(trainer: Trainer) -> list[Callback]:
    return list(trainer.callbacks)  # type: ignore[attr-defined]
