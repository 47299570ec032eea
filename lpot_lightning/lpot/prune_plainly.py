"""One imperative pruning: a copy is trained, judged and written down."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from math import isfinite
from pathlib import Path

from torch import Tensor, nn

from lpot_lightning.artifacts.storage import to_bytes
from lpot_lightning.conf.schema import Conf
from lpot_lightning.data.batches import CollectedCalls
from lpot_lightning.errors import (
    ArtifactError,
    ConfError,
    DataError,
    EvaluationError,
    PruningError,
)
from lpot_lightning.judging.plain_runner import PlainRunner
from lpot_lightning.lpot.given import (
    Given,
    Train,
    accuracy_of,
    block_loader,
    check_callable,
    check_data_and_judge,
    check_model,
    given_loader,
)
from lpot_lightning.lpot.plain_judge import eval_loader_of, judge_of
from lpot_lightning.lpot.q_func import check_same
from lpot_lightning.lpot.train_block import Hooks, train_loop_of
from lpot_lightning.machine.files import write_file
from lpot_lightning.machine.random_numbers import seeded
from lpot_lightning.machine.ranks import Ranks
from lpot_lightning.machine.signals import check, told_when_stopped
from lpot_lightning.module.copying import second_model
from lpot_lightning.pruning.channels.group import ChannelGroups
from lpot_lightning.pruning.model_pruner import ModelPruner, prunes_channels
from lpot_lightning.runs.channels import Channels, find_channels
from lpot_lightning.runs.entering import entered
from lpot_lightning.runs.preparation import check_not_int8
from lpot_lightning.runs.prune import Dense, PruningEnd, finish_pruning
from lpot_lightning.runs.pruned_files import UNJUDGED, judged_left, unused
from lpot_lightning.runs.pruning_result import PruningResult
from lpot_lightning.runs.workspace import Workspace

_LOG = logging.getLogger(__name__)
FEW = 8
"""Samples that a model is followed with."""


def check_given(given: Given, conf: Conf) -> None:
    """Raise an error if something is missing, here and in ``conf``, or of the wrong kind.

    Raises:
        ConfError: if it is.
        DataError: if there is a metric and no data, or a training and no data.
    """
    check_model(given.model, "pruning")
    check_not_int8(given.model)
    check_data_and_judge(given, conf, "pruning")
    train = None if conf.pruning is None else conf.pruning.train
    if given.q_func is not None:
        check_callable("q_func", given.q_func, "returns nothing")
    elif train is None:
        raise ConfError(
            "there is no `q_func` to train by: give a function that takes a model, trains it and"
            " calls the hooks, or `pruning.train` in the YAML"
        )
    elif given.q_dataloader is None and train.dataloader is None:
        raise DataError(
            f"{conf.source}: `pruning.train` has no data to train on: give a `q_dataloader`, or"
            " `pruning.train.dataloader`"
        )


def find_channels_by(model: nn.Module, given: Given, conf: Conf) -> ChannelGroups:
    """Find the groups of a model's channels with what data there is.

    Raises:
        ConfError: if there is none.
    """
    return _channels(model, _runner(model, given, conf, _data(given, conf))).found


def _channels(model: nn.Module, runner: PlainRunner) -> Channels:
    return find_channels(second_model(model), runner, Ranks(), _LOG.info)


class PlainPruning:
    """One call, its arguments checked.

    Args:
        given: checked.
        conf: checked.
        hooks: are called by ``pruning.train``.
    """

    def __init__(self, given: Given, conf: Conf, hooks: Hooks) -> None:
        self._given, self._conf, self._hooks = given, conf, hooks
        self._trained: nn.Module | None = None
        self._result: PruningResult | None = None

    def run(self, prune: Callable[[nn.Module, ChannelGroups | None], ModelPruner]) -> PruningResult:
        """Train a copy that ``prune`` lets the hooks prune, and return what it came to.

        Raises:
            PruningError: if the training called no hook, or trained something else.
            EvaluationError: if the dense model cannot be judged.
        """
        given, conf = self._given, self._conf
        with (
            entered(Workspace.of(conf), _LOG.info) as own,
            told_when_stopped(partial(self._tell_what_is_left, own)),
            seeded(conf.tuning.random_seed),
        ):
            train = self._training()
            runner = _runner(given.model, given, conf, _data(given, conf))
            dense = _dense_accuracy(given.model, runner)
            channels = self._channels(runner)
            model = second_model(given.model).train()
            pruner = prune(model, None if channels is None else channels.found)
            try:
                check_same(model, train(model))
            finally:
                check()
            self._check_pruned(pruner)
            pruner.apply()
            self._trained = model
            end = PruningEnd(
                conf=conf,
                judge=runner,
                feed=runner,
                dense=Dense(start=dense),
                workspace=own.folder,
                ranks=Ranks(),
                say=_LOG.info,
                channels=channels,
                done=self._keep,
            )
            result = finish_pruning(second_model(model), pruner, end)
        judge = partial(_judged_by, runner)
        result = replace(result, origin=replace(result.origin, judge=judge))
        _LOG.info("\n%s", result.table())
        return result

    def _keep(self, result: PruningResult) -> None:
        self._result = result

    def _tell_what_is_left(self, workspace: Workspace) -> None:
        if self._result is not None:
            left = judged_left(self._result)
        elif self._trained is not None:
            assert workspace.folder is not None
            left = _save_unjudged(self._trained, workspace.folder)
        else:
            left = "nothing was trained to its end or written; go on with the same call"
        _LOG.info("interrupted: %s", left)

    def _channels(self, runner: PlainRunner) -> Channels | None:
        assert self._conf.pruning is not None
        pruners = self._conf.pruning.approach.weight_compression.pruners
        return _channels(self._given.model, runner) if prunes_channels(pruners) else None

    def _training(self) -> Train:
        given, conf = self._given, self._conf
        if given.q_func is not None:
            return given.q_func  # type: ignore[no-any-return]
        assert conf.pruning is not None
        train = conf.pruning.train
        assert train is not None  # it is checked
        loader = given_loader(given.q_dataloader, "`q_dataloader`")
        loader = loader or block_loader(conf, "pruning.train.dataloader", train.dataloader)
        assert loader is not None
        where = f"{conf.source}: `pruning.train`"
        return train_loop_of(train, loader, where=where, hooks=self._hooks)

    def _check_pruned(self, pruner: ModelPruner) -> None:
        if not pruner.begun:
            raise PruningError(
                "the training called no hook, so that nothing was pruned: call `on_epoch_begin` and"
                " `on_batch_end` of this object in `q_func`"
            )
        if not pruner.reached:
            _LOG.warning(
                "the training ended before the target sparsity was reached: train longer, or let"
                " `end_epoch` or `end_step` be earlier"
            )


def _judged_by(runner: PlainRunner, model: nn.Module) -> float:
    return runner.evaluate(model, "the exported file").accuracy


def _dense_accuracy(model: nn.Module, runner: PlainRunner) -> float:
    found = runner.evaluate(second_model(model), "the dense model")
    if not isfinite(found.accuracy):
        raise EvaluationError(
            f"the dense model's `{found.monitor.name}` is {found.accuracy}; allowed: a finite"
            " number"
        )
    return found.accuracy


def _save_unjudged(model: nn.Module, workspace: Path) -> str:
    """Save trained weights, and return where they are, for people."""
    path = unused(workspace / f"{UNJUDGED}.pt")
    state = nn.Module.state_dict(model)
    try:
        write_file(path, to_bytes({k: v for k, v in state.items() if isinstance(v, Tensor)}))
    except ArtifactError as error:
        return f"the pruned model was not judged, and {error}; the same call trains anew"
    return (
        f"the pruned model was not judged yet, and its weights are in `{path}`; take them up with"
        f" `model.load_state_dict(torch.load('{path}'))`; the same call trains anew"
    )


def _runner(model: nn.Module, given: Given, conf: Conf, data: CollectedCalls | None) -> PlainRunner:
    if data is None and given.eval_func is None:
        raise ConfError(
            "`pattern: channel` follows channels through the model by a few samples: set"
            " `pruning.eval_dataloader`, `pruning.q_dataloader` or `pruning.eval_func`"
        )
    judged = given.eval_func is not None or given.metric is not None
    asked = accuracy_of(conf).metric is not None
    if not judged and not asked:
        return PlainRunner(lambda: second_model(model), lambda _: 0.0, data, seed=0)
    return judge_of(given, conf).runner(model, data, conf.tuning.random_seed)


def _data(given: Given, conf: Conf) -> CollectedCalls | None:
    """Return a few samples, of whatever data there is."""
    loader = given_loader(given.q_dataloader, "`q_dataloader`") or eval_loader_of(given, conf)
    return None if loader is None else loader.collected(FEW, conf.tuning.random_seed)
