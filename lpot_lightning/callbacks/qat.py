"""Quantization-aware training."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch.distributed as dist
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities import rank_zero_info, rank_zero_warn
from torch import Tensor
from typing_extensions import override

from lpot_lightning.callbacks.freezing import BatchNorms, FreezePlan, has_batch_norm
from lpot_lightning.callbacks.judged import checked_baseline
from lpot_lightning.callbacks.tuned import TunedCallback
from lpot_lightning.conf.ownership import check_for_callback
from lpot_lightning.conf.reader import read_conf
from lpot_lightning.errors import ConfError
from lpot_lightning.module.copying import is_compiled
from lpot_lightning.module.fingerprint import content_hash
from lpot_lightning.module.past_the_graph import Strays
from lpot_lightning.quantization.backend import BACKENDS, Training
from lpot_lightning.runs.options import Options
from lpot_lightning.runs.quantize import find_backend
from lpot_lightning.runs.trained import Trained
from lpot_lightning.runs.training import FEW, check_trainable, prepare_training
from lpot_lightning.trainer.averaging import renews_statistics
from lpot_lightning.trainer.checkpoint import KEY, QAT, Choice, qat_state
from lpot_lightning.trainer.ending import NOT_BEGUN, ending_well
from lpot_lightning.trainer.progress import end_live_bar
from lpot_lightning.trainer.session import Session
from lpot_lightning.trainer.weights import Weights


class QATCallback(TunedCallback):
    """Train with the rounding of int8, then convert the best weights and judge them.

    When a fit begins, the parts of the model that can be int8 are found as post-training
    quantization finds them. While it trains, graphs compute for their ``forward`` with the layers
    of your own model, rounding weights and activations as int8 will; no layer, parameter or key of
    the ``state_dict`` is exchanged, so optimizers, checkpoints and other callbacks see what they
    always saw. When the fit is over the graphs are gone, the weights of the best checkpoint become
    a second, int8 model, and your validation loop judges it. If it misses the criterion, ops fall
    back to fp32 in the order of ``tuning.strategy``, as for ``QuantizationCallback``.

    Ranges of activations are learned from training batches only. From half of the epochs on the
    statistics of BatchNorm stay as they are, and from three quarters on the ranges.

    Args:
        conf: LPOT's user YAML with ``quantization.approach: quant_aware_training``: a path, a
            mapping or an OmegaConf object.
        monitor: as for ``QuantizationCallback``; so are ``modules`` and ``ckpt``.
        modules: names or globs of submodules or ops to train for int8; default: all that can be.
        ckpt: whose weights: the ``"best"`` or ``"last"`` checkpoint's, or the ``"current"`` ones.
        baseline: the accuracy that int8 is compared with, in the unit of the metric. If ``None``:
            the better of the weights that the fit begins with, measured by one validation pass
            before the first batch, and of the trained ones without rounding.
        freeze_batch_norm: the epoch, counted from 0, from which on BatchNorm keeps its statistics.
        freeze_observers: the epoch from which on activations keep their ranges.

    Raises:
        ConfError: when created, if the YAML or an argument asks for what cannot be done; when a fit
            begins, if it has too few epochs for what is to be frozen.
        LpotError: when a fit begins, if this Trainer cannot be used, nothing of the model can be
            int8 or be trained, or the workspace not written or in use by another run.
        SystemExit: with 130 for Ctrl-C and 143 for SIGTERM while it quantizes; what is finished
            until then is on disk.

    Example::

        qat = QATCallback("qat.yaml", monitor="val_acc")
        Trainer(max_epochs=8, callbacks=[qat]).fit(model, datamodule=data)
        print(qat.result.table())
    """

    def __init__(
        self,
        conf: str | Path | dict[str, Any],
        *,
        monitor: str | None = None,
        modules: list[str] | None = None,
        ckpt: Choice = "best",
        baseline: float | None = None,
        freeze_batch_norm: int | None = None,
        freeze_observers: int | None = None,
    ) -> None:
        read = read_conf(conf)
        check_for_callback(read, "QATCallback")
        super().__init__(read, monitor, modules, ckpt)
        self.baseline = checked_baseline(baseline)
        self.freeze_batch_norm = _checked_epoch("freeze_batch_norm", freeze_batch_norm)
        self.freeze_observers = _checked_epoch("freeze_observers", freeze_observers)
        self._saved: Mapping[str, Any] | None = None
        self._training: Training | None = None
        self._live: Mapping[str, Any] | None = None
        self._start: float | None = None
        self._first: int | None = None
        self._planned = False
        self._plan = FreezePlan(None, None)
        self._norms, self._strays = BatchNorms(), Strays()
        self._avoid: set[str] = set()
        self._batches = 0
        self._new_in: int | None = None
        self._said: set[str] = set()

    @override
    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Refuse what cannot work, before any training."""
        if stage != "fit":
            return
        self._let_go()
        self._saved, self._start, self._avoid, self._said = None, None, set(), set()
        self._live = None
        self._batches = 0
        self._plan_freezing(trainer, 0)
        self._first, self._planned = None, False
        super().setup(trainer, pl_module, stage)

    def _plan_freezing(self, trainer: Trainer, first: int) -> None:
        """Plan for a training for int8 that begins with epoch ``first``."""
        self._plan = FreezePlan.of(
            trainer.max_epochs, first, self.freeze_batch_norm, self.freeze_observers
        )

    @override
    def on_load_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Take up the ranges of a fit that is gone on with."""
        if trainer.state.fn == TrainerFn.FITTING:
            self._saved = qat_state(checkpoint)

    @override
    def on_save_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Put the ranges beside the fp32 weights, under a key of our own."""
        ranges = self._live if self._training is None else self._training.state()
        if ranges is not None:  # the module is given back before the end of a pruning is saved
            checkpoint[KEY] = {QAT: self._state(ranges)}

    @override
    @ending_well(lambda: NOT_BEGUN)
    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Find what can be int8, measure the baseline, and let the model round."""
        super().on_fit_start(trainer, pl_module)
        session, saved = self._opened(trainer, pl_module), self._saved
        self._first = None if saved is None else saved["first"]
        with session.at_work(self.conf):
            model = session.model(Weights())
            if saved is not None:
                self._start = saved["start"]
            elif self.baseline is None:
                judge = session.judge(self.conf, self.monitor)
                self._start = judge.evaluate(model, "baseline").accuracy
            if saved is None or not self._is_ours(saved):
                self._training = self._prepared(model, session)
            else:
                backend = BACKENDS[saved["training"]["backend"]]()
                self._training = backend.training_of(model, saved["training"])
                self._new_in = self._first
        self._begin(pl_module)

    def _is_ours(self, saved: Mapping[str, Any]) -> bool:
        if saved["asked"] == self._asked:
            return True
        rank_zero_warn(
            "the checkpoint was trained for int8 with another `quantization` section or other"
            " `modules`: the ranges of activations are learned anew"
        )
        return False

    @property
    def _asked(self) -> str:
        asked = self.conf.to_dict()
        return content_hash([asked["quantization"], asked["model"], self.modules])

    def _prepared(self, model: LightningModule, session: Session) -> Training:
        say = rank_zero_info
        options = Options(modules=self.modules, whole=False, ranks=session.ranks)
        feed = session.feed(self.conf, Weights(), calib="val", samples=FEW)
        backend = find_backend(self.conf, say)
        self._new_in = None  # the epoch in which its ranges begin
        return prepare_training(model, backend, self.conf, feed, options, say, avoid=self._avoid)

    def _begin(self, module: LightningModule) -> None:
        training = self._training
        assert training is not None
        check_trainable(module, training)
        training.observing = False
        training.attach(module)
        self._strays.watch(module, training.layers)
        for name in _compiled(module, training.paths):
            rank_zero_warn(f"`{name}` is compiled, and trains without `torch.compile`: it rounds")
        rank_zero_info(
            f"training {len(training.int8_ops)} ops with the rounding of int8, in"
            f" {len(training.paths)} modules"
        )

    @override
    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Freeze what is to be frozen from this epoch on."""
        super().on_train_epoch_start(trainer, pl_module)
        self._find_first(trainer)
        epoch = trainer.current_epoch
        for what, freezes in (
            (
                "statistics of BatchNorm",
                has_batch_norm(pl_module) and self._plan.freezes_batch_norm(epoch),
            ),
            ("ranges of activations", self._plan.freezes_observers(epoch)),
        ):
            if freezes and what not in self._said:
                self._said.add(what)
                rank_zero_info(f"epoch {epoch}: from here on the {what} are frozen")

    def _find_first(self, trainer: Trainer) -> None:
        """Plan from the first epoch on, which Lightning knows after ``on_fit_start`` only."""
        if self._planned:
            return
        self._first = trainer.current_epoch if self._first is None else self._first
        self._plan_freezing(trainer, self._first)
        self._planned = True

    @override
    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Let this batch teach ranges and statistics what they are still to learn."""
        if trainer.world_size == 1 or batch_idx == 0 or self._batches == 1:
            self._enter_deeper(trainer, pl_module)
        self._batches += 1
        assert self._training is not None
        self._find_first(trainer)
        epoch = trainer.current_epoch
        self._new_in = epoch if self._new_in is None else self._new_in
        refreshes = renews_statistics(trainer)
        learns = epoch == self._new_in or not self._plan.freezes_observers(epoch)
        self._training.observing = refreshes or learns
        if refreshes:
            self._norms.release()
        elif self._plan.freezes_batch_norm(epoch):
            self._norms.freeze(pl_module)

    @override
    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, *args: Any, **kwargs: Any
    ) -> None:
        """Let no other data teach the ranges, and make them the same in all processes."""
        assert self._training is not None
        self._training.end_batch(_greatest if trainer.world_size > 1 else None)
        self._training.observing = False
        super().on_train_batch_end(trainer, pl_module, *args, **kwargs)

    def _enter_deeper(self, trainer: Trainer, module: LightningModule) -> None:
        """Make smaller parts where ``training_step`` called a layer past a graph.

        Their ranges are new, so it is done where a batch follows that they can learn from.
        """
        assert self._training is not None
        strays = self._strays_everywhere(trainer, module)
        if not strays:
            return
        parts = {path for path in self._training.paths if any(_is_in(one, path) for one in strays)}
        rank_zero_info(
            f"`training_step` calls {_some(strays)} past the module that holds it: entering"
            f" {_some(parts)}"
        )
        self._avoid |= parts
        self._let_go()
        session = self._opened(trainer, module)
        with session.at_work(self.conf):
            self._training = self._prepared(session.model(Weights()), session)
        self._begin(module)

    def _strays_everywhere(self, trainer: Trainer, module: LightningModule) -> set[str]:
        everywhere = self._opened(trainer, module).ranks.gather(self._strays.found)
        return {name for found in everywhere for name in found}

    @override
    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Give the model back, convert the best weights, judge, tune, save."""
        with self._ending_well(trainer, pl_module):
            end_live_bar(trainer)
            self.give_module_back()
            assert self._live is not None
            weights = self._weights(trainer, pl_module)
            ranges = self._ranges_of(weights, self._live)
            trained = self._trained(trainer, pl_module, ranges)
            self._quantize(trainer, pl_module, self._request(trainer, pl_module, weights), trained)

    @override
    def give_module_back(self) -> None:
        """Remember the ranges, and take the rounding out of the model."""
        if self._training is not None:
            self._live = self._training.state()
        self._let_go()

    def _trained(
        self, trainer: Trainer, module: LightningModule, state: Mapping[str, Any]
    ) -> Trained | None:
        """Return what the training came to, ``None`` if all of it went past the graphs."""
        began = self._new_in is not None and not self._strays_everywhere(trainer, module)
        if began or _has_ranges(state):
            return Trained(state, self.baseline, self._start)
        rank_zero_warn(
            "no batch was trained with the rounding of int8: the ranges of activations are"
            " calibrated, as `QuantizationCallback` does"
        )
        return None

    def _ranges_of(self, weights: Weights, live: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return the ranges that belong to ``weights``."""
        if weights.checkpoint is None:
            return live
        saved = qat_state(weights.checkpoint)
        ours = saved is not None and saved["asked"] == self._asked
        if saved is not None and ours and _has_ranges(saved["training"]):
            return dict(saved["training"])
        rank_zero_info(
            f"`{weights.path}` has no ranges of activations, as with `save_weights_only=True`:"
            " taking those of the end of the training"
        )
        return live

    def _state(self, ranges: Mapping[str, Any]) -> dict[str, Any]:
        return {
            "asked": self._asked,
            "start": self._start,
            "first": self._first,
            "training": ranges,
        }

    @override
    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        """Give the model back."""
        self._let_go()
        super().on_exception(trainer, pl_module, exception)

    @override
    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Give the model back, however the fit ended."""
        if stage == "fit":
            self._let_go()
        super().teardown(trainer, pl_module, stage)

    def _let_go(self) -> None:
        """Leave the model as it was found, but for what it learned."""
        self._strays.stop()
        self._norms.release()
        training, self._training = self._training, None
        if training is not None:
            training.detach()


def _checked_epoch(name: str, value: object) -> int | None:
    if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 0):
        raise ConfError(f"`{name}` is `{value!r}`; allowed: an epoch, counted from 0, or nothing")
    return value


def _has_ranges(state: Mapping[str, Any]) -> bool:
    """Return whether any batch was trained with the rounding."""
    return bool(state["ranges"]["high"].isfinite().any())


def _greatest(values: Tensor) -> None:
    """Put the greatest values of all processes into ``values``."""
    dist.all_reduce(values, op=dist.ReduceOp.MAX)


def _is_in(name: str, path: str) -> bool:
    return not path or name == path or name.startswith(f"{path}.")


def _compiled(module: LightningModule, paths: Iterable[str]) -> list[str]:
    """Return the modules that ``torch.compile`` gave and that are in, or around, one of ``paths``.

    Lightning compiles the steps of a module that was compiled as a whole.
    """
    found = [name for name, one in module.named_modules() if is_compiled(one)]
    whole = [type(module).__name__] if vars(module).get("_compiler_ctx") else []
    return whole + [
        name for name in found if any(_is_in(name, one) or _is_in(one, name) for one in paths)
    ]


def _some(names: Iterable[str]) -> str:
    first, *others = sorted(names)
    return f"`{first}`" + (f" and {len(others)} more" if others else "")
