"""LPOT's imperative way to int8, without a Trainer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from torch import nn

from lpot_lightning.artifacts.storage import Names
from lpot_lightning.conf.ownership import (
    check_for_quantization,
    what_arguments_replace,
    what_has_no_effect,
)
from lpot_lightning.lpot.data_sources import sources_of
from lpot_lightning.lpot.given import Given, first_given, warn_of_what_is_left
from lpot_lightning.lpot.imperative import Parts, at_work
from lpot_lightning.lpot.quantize_plainly import quantize_by
from lpot_lightning.lpot.saving import saving
from lpot_lightning.runs.op_selection import checked_modules
from lpot_lightning.runs.preparation import check_float32, check_not_int8
from lpot_lightning.runs.tuning_result import TuningResult
from lpot_lightning.runs.workspace import Workspace
from lpot_lightning.tuning.strategies.table import find_strategy


class Quantization(Parts):
    """Quantize a model, tuned to an accuracy goal; no Trainer is needed.

    ``quantization.approach`` of the conf says how. ``post_training_static_quant`` calibrates a
    copy of the model; ``quant_aware_training`` trains a copy that rounds as int8 will. Then int8
    models are judged until the criterion is met. The model itself is left as it is, and so are
    random numbers: inside, they start from ``tuning.random_seed``.

    Data, metric and training come from the YAML, or from code, which comes first. In LPOT's three
    usages: all of it in the YAML, then a model is enough; loaders in code and the metric in the
    YAML, or by ``metric``; a loader to calibrate on and an ``eval_func`` that judges as it likes.

    What is said goes to the logger ``lpot_lightning``, and to stderr where the program has set up
    no logging.

    Args:
        conf: LPOT's user YAML: a path, a mapping or an OmegaConf object.
        conf_fname: the same under LPOT's name.

    Attributes:
        model: the trained fp32 model, an ``nn.Module``.
        calib_dataloader: gives batches ``(input, label)``, or inputs, to calibrate on, in place of
            ``quantization.calibration.dataloader``. The model is called with the input, a tuple of
            inputs one by one, a dict by name. A training by ``quantization.train`` trains on it.
        eval_dataloader: gives batches ``(input, label)`` to judge on by the metric, in place of
            ``evaluation.accuracy.dataloader``; it is calibrated on, where there is nothing else.
        eval_func: takes a model in eval mode on the CPU and returns its accuracy, one number; in
            place of a metric and its data.
        q_func: takes a float32 copy of the model in training mode on the CPU and trains it in
            place, for ``quant_aware_training``; in place of ``quantization.train``. Each call of
            the model in training mode is a batch: before it, layers that were exchanged are taken
            in, and frozen modules that train now. Who calls only parts of the model is not looked
            at, but for layers that were exchanged, at the end.
        modules: names or globs of submodules or ops to quantize; ``None`` for all that can be. What
            it names rounds while ``q_func`` trains, frozen or not. Without it a module that is
            frozen when the model is first called in training mode rounds where its output goes into
            something of the model that trains, and stays exact, as a teacher, where it only leaves
            the model: what ``q_func`` does with it there is not followed. Nets outside of the model
            are left as they are, but a copy that ``q_func`` makes of the model rounds as that does.
        result: the ``TuningResult`` of the last call; ``None`` before, and after one that failed.

    Raises:
        ConfError: if the conf asks for what cannot be done.

    Example::

        quantization = Quantization("ptq.yaml")
        quantization.calib_dataloader = DataLoader(train_set, batch_size=32)
        quantization.eval_func = lambda model: accuracy(model, test_set)
        int8 = quantization(model)
    """

    _alike: ClassVar[Mapping[str, str]] = {"q_dataloader": "calib_dataloader"}

    def _set_up(self) -> None:
        check_for_quantization(self.conf)
        find_strategy(self.conf.tuning.strategy.name)
        self.calib_dataloader: Any = None
        self.eval_dataloader: Any = None
        self.eval_func: Any = None
        self.q_func: Any = None
        self.modules: list[str] | None = None
        self.result: TuningResult | None = None

    def __call__(
        self,
        model: nn.Module | None = None,
        q_dataloader: Any = None,
        q_func: Any = None,
        eval_dataloader: Any = None,
        eval_func: Any = None,
    ) -> nn.Module:
        """Quantize, judge, tune, save, and return the best int8 model.

        What is given here comes before the attributes. A call with the same conf, model and data
        goes on where one that was killed has ended: no finished trial is repeated.

        Args:
            model: see the attribute; so are the others.
            q_dataloader: ``calib_dataloader``.
            q_func: see the attribute.
            eval_dataloader: see the attribute.
            eval_func: see the attribute.

        Returns:
            The best model, also where it misses the goal; ``result.status`` tells. It has LPOT's
            ``save(folder)``, which copies its files there, unless its class has a ``save``.

        Raises:
            LpotError: of the kind that says what is wrong; ``BusyError`` if another run uses the
                workspace.
            Exception: what ``q_func`` raises.
            SystemExit: with 130 for Ctrl-C and 143 for SIGTERM; what is finished until then is on
                disk.

        Example::

            int8 = quantization(model, q_dataloader=loader, eval_func=accuracy)
        """
        given = Given(
            model=first_given(model, self.model),
            q_dataloader=first_given(q_dataloader, self.calib_dataloader),
            q_func=first_given(q_func, self.q_func),
            eval_dataloader=first_given(eval_dataloader, self.eval_dataloader),
            eval_func=first_given(eval_func, self.eval_func),
            metric=self._meter,
        ).checked(self.conf)
        self.result, modules = None, checked_modules(self.modules)
        check_not_int8(given.model)
        check_float32(given.model)
        replaced = what_arguments_replace(self.conf, given.names)
        idle = what_has_no_effect(self.conf, given.names)
        warn_of_what_is_left(self.conf, given, replaced, idle)
        with at_work(Workspace.of(self.conf)) as workspace:
            sources = sources_of(given, self.conf)
            self.result = quantize_by(sources, self.conf, workspace, modules)
        return saving(self.result, Names())
