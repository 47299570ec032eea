"""A training for int8 that is the user's own function."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import nn

from lpot_lightning.errors import DataError, QuantizationError, quoted
from lpot_lightning.machine.signals import check
from lpot_lightning.quantization.backend import Training
from lpot_lightning.quantization.training.training import give_back_copies
from lpot_lightning.runs.frozen import ExactModules
from lpot_lightning.runs.model_watch import Changes, ModelWatch, told
from lpot_lightning.runs.training import check_trainable

Again = Callable[[nn.Module, Changes], tuple[Training, ExactModules]]
"""Takes a model, which rounds nothing, and returns its training and what of it stays exact."""
_LOG = logging.getLogger(__name__)
_SHOWN = 6


def train_by(
    q_func: Callable[[nn.Module], Any], model: nn.Module, training: Training, again: Again
) -> Mapping[str, Any]:
    """Let ``q_func`` train ``model``, which rounds as int8 will meanwhile.

    Ranges are learned from all that passes while the model itself is in training mode, also in
    parts of it that are not. A batch is over when the next one begins: when the model itself is
    called in training mode. Then it is looked at, too: at which layers were exchanged, which frozen
    modules train now, and, in the first batches, where the outputs of those go that stay exact.

    Args:
        q_func: takes the model, in training mode, and trains it as it likes.
        model: is trained.
        training: for it.
        again: prepares the training once more, where the model is not what it was.

    Returns:
        what ``Training.state`` gives when it is over.

    Raises:
        QuantizationError: if nothing can be trained, or ``q_func`` trained something else.
        DataError: if the training went to NaN or infinity.

    Example::

        state = train_by(train, model, training, again)
    """
    check_trainable(model, training)
    model.train()
    trainee = _Trainee(model, training, again)
    with trainee.rounding():
        returned = q_func(model)
    check_same(model, returned)
    training = trainee.end()
    _check_seen(training)
    training.check_finite()
    _check_weights(model)
    return training.state()


class _Trainee:
    """A model that is looked at whenever it is called in training mode.

    A copy that ``q_func`` makes of it is not looked at. It has the hooks, too: these are functions,
    since a method would be copied with its object, and let go of the rounding of both.
    """

    def __init__(self, model: nn.Module, training: Training, again: Again) -> None:
        self._model, self._training, self._again = model, training, again
        self._watch = ModelWatch(model, ExactModules(training.left_out))
        self._begins = True
        self._hooks, self._following = ExitStack(), ExitStack()

    @contextmanager
    def rounding(self) -> Iterator[None]:
        """Let the model round, and look at it, for the time of the ``with``."""
        try:
            self._attach()
            yield
        finally:
            self._following.close()
            self._detach()
            check()

    def _attach(self) -> None:
        training, model = self._training, self._model
        training.observing = True
        training.follow(model)
        training.attach(model)
        for handle in (
            model.register_forward_pre_hook(self._hook_before()),
            model.register_forward_hook(self._hook_after(), always_call=True),
        ):
            self._hooks.callback(handle.remove)

    def _detach(self) -> None:
        self._hooks.close()
        self._training.detach()

    def _hook_before(self) -> Callable[[nn.Module, Any], None]:
        def before(module: nn.Module, _: object) -> None:
            if module is self._model and module.training:
                self._begin_batch(follows=not _is_compiled())

        return before

    def _hook_after(self) -> Callable[[nn.Module, Any, Any], None]:
        def after(module: nn.Module, *_: object) -> None:
            if module is self._model:
                self._following.close()

        return after

    @torch.compiler.disable  # type: ignore[untyped-decorator]  # Dynamo would look into it
    def _begin_batch(self, *, follows: bool) -> None:
        self._training.end_batch()
        begins, self._begins = self._begins, False
        frozen = self._watch.frozen_since(self._model) if begins else frozenset()
        self._take_in(self._watch.changes(self._model))
        if frozen:
            self._take_in(Changes(exact=self._watch.exact, frozen=frozen))
        if follows and (flow := self._watch.flow(self._model)):
            self._following.enter_context(flow.looking())

    def _take_in(self, changes: Changes | None) -> None:
        """Let what is new round, or stay exact; what is as it was keeps its ranges."""
        if changes is None:
            return
        self._prepare(changes)
        self._attach()
        for line in told(changes, self._training) if changes.others else ():
            _LOG.info(line)

    def _prepare(self, changes: Changes) -> None:
        self._detach()
        give_back_copies(self._model)
        exact = changes.exact
        if changes.others:
            before = self._training
            with _undisturbed():
                self._training, exact = self._again(self._model, changes)
                self._training.take_over(before, changes.kept(before))
        self._watch = ModelWatch(self._model, exact)

    def end(self) -> Training:
        """Return the training, of the model as it is now that ``q_func`` is over."""
        self._training.end_batch()
        changes = self._watch.changes(self._model)
        if changes is not None and changes.exchanged and changes.others:
            self._prepare(changes)
            self._warn_of(changes)
        return self._training

    def _warn_of(self, changes: Changes) -> None:
        late = [op for op in self._training.int8_ops if op.partition("#")[0] in changes.exchanged]
        if late:
            _LOG.warning(
                "%s: another layer since the model itself was last called in training mode: it was"
                " trained without rounding, and its range is calibrated",
                quoted(late, _SHOWN),
            )


def _is_compiled() -> bool:
    """Whether ``torch.compile`` is at work on what calls this: no mode can follow that."""
    return torch.compiler.is_compiling() or bool(
        torch._C._dynamo.eval_frame.get_eval_frame_callback()
    )


@contextmanager
def _undisturbed() -> Iterator[None]:
    """Let what is prepared be plain float32, whatever ``q_func`` calls the model in."""
    with torch.autocast("cpu", enabled=False), torch.inference_mode(False):
        yield


def check_same(model: nn.Module, returned: object) -> None:
    """Raise a ``QuantizationError`` if a ``q_func`` returned another model than it was given."""
    if isinstance(returned, nn.Module) and returned is not model:
        raise QuantizationError(
            f"`q_func` returned another `{type(returned).__name__}` than the model it was given:"
            " train that one, in place"
        )


def _check_seen(training: Training) -> None:
    if not training.has_seen_data:
        raise QuantizationError(
            "`q_func` taught the model no range of activations: it was shown no data in training"
            " mode; call the model, after `model.train()`"
        )


def _check_weights(model: nn.Module) -> None:
    for name, value in model.named_parameters():
        if not torch.isfinite(value).all():
            raise DataError(
                f"`{name}` is not finite after `q_func`: look for a learning rate that is too"
                " high, or for NaN in the data"
            )
