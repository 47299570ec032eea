"""Int8 by torch's FX graph mode."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from lpot_lightning.errors import ArtifactError
from lpot_lightning.module.calls import ModuleCalls
from lpot_lightning.module.stand_in import StandIn
from lpot_lightning.quantization.fx import state
from lpot_lightning.quantization.fx.engine import choose_engine, needs_reduced_range, quiet
from lpot_lightning.quantization.fx.part import Part
from lpot_lightning.quantization.fx.prepared import FxPrepared
from lpot_lightning.quantization.fx.search import Search
from lpot_lightning.quantization.fx.spec import PartSpec
from lpot_lightning.quantization.fx.trace import NotTraceable
from lpot_lightning.quantization.fx.training import FxTraining, check_state
from lpot_lightning.recipe import OpConfig, Recipe


class FxBackend:
    """Backend ``pytorch_fx``: the largest traceable modules become graphs of int8 kernels."""

    name = "pytorch_fx"

    def prepare(
        self,
        model: nn.Module,
        calls: Mapping[int, ModuleCalls],
        *,
        avoid: Collection[str] = (),
        whole: bool = True,
        for_training: bool = False,
    ) -> FxPrepared:
        """Trace and observe what can be traced, from the outside in; ``model`` is left alone.

        Args:
            model: in eval mode, on the CPU, in float32.
            calls: of every module, from a dry run.
            avoid: paths of modules that may not become graphs; what they hold may.
            whole: whether the model itself is to be one graph, and not only where most of its
                layers are its own.
            for_training: whether the graphs are to be right in training mode, too.

        Raises:
            QuantizationError: if the machine has no int8 engine.
        """
        choose_engine()
        reduce_range = needs_reduced_range()
        search = Search(calls, reduce_range=reduce_range, avoid=avoid, for_training=for_training)
        with quiet(), torch.no_grad():
            search.go(model, whole=whole)
        return FxPrepared(
            search.parts,
            search.kept_calls,
            search.excluded,
            reduce_range=reduce_range,
            for_training=for_training,
        )

    def training(self, prepared: FxPrepared, recipe: Recipe) -> FxTraining:
        """Return how a model is trained to be what ``recipe`` says.

        Args:
            prepared: by ``prepare``, for a training.
            recipe: of its ops.
        """
        return prepared.training(recipe)

    def trained(
        self, model: nn.Module, calls: Mapping[int, ModuleCalls], state: Mapping[str, Any]
    ) -> FxPrepared:
        """Return the parts of a trained model, with the ranges that the training came to.

        Args:
            model: with the trained weights, in eval mode, on the CPU, in float32.
            calls: of every module, from a dry run.
            state: what ``FxTraining.state`` gave.

        Raises:
            ArtifactError: if the state is of another model.
        """
        parts = self._parts_of(model, state, calls)
        called = [calls.get(id(model.get_submodule(p.spec.path)), ModuleCalls()) for p in parts]
        excluded, reduce_range = dict(state["excluded"]), state["reduce_range"]
        return FxPrepared(parts, called, excluded, reduce_range=reduce_range, trained=state)

    def training_of(self, model: nn.Module, state: Mapping[str, Any]) -> FxTraining:
        """Return the training that ``state`` was taken of, ready to go on.

        Args:
            model: a copy of what is trained, in eval mode; its values do not matter.
            state: what ``FxTraining.state`` gave.

        Raises:
            ArtifactError: if the state is of another model.
        """
        parts = self._parts_of(model, state)
        with quiet():
            for part in parts:
                part.settle()
            training = FxTraining(
                parts,
                {op: OpConfig.from_dict(config) for op, config in state["op"].items()},
                reduce_range=state["reduce_range"],
                known={name: state[name] for name in ("backend", "engine", "excluded")},
            )
        training.load_ranges(state)
        return training

    def int8_of(self, model: nn.Module, state: Mapping[str, Any]) -> dict[str, StandIn]:
        """Return the int8 parts of a trained model, as its training meant them to be.

        Args:
            model: with the trained weights, in eval mode, on the CPU, in float32.
            state: what ``FxTraining.state`` gave.

        Raises:
            ArtifactError: if the state is of another model.
        """
        parts = self._parts_of(model, state)
        found = FxPrepared(
            parts,
            [ModuleCalls() for _ in parts],
            {},
            reduce_range=state["reduce_range"],
            trained=state,
        )
        return found.convert_as_trained()

    def _parts_of(
        self,
        model: nn.Module,
        state: Mapping[str, Any],
        calls: Mapping[int, ModuleCalls] | None = None,
    ) -> list[Part]:
        check_state(state)
        specs = map(PartSpec.from_dict, state["parts"])
        with quiet(state["engine"]), torch.no_grad():
            return [
                self._rebuild_part(model, spec, state["op"], state["reduce_range"], calls)
                for spec in specs
            ]

    def rebuild(self, model: nn.Module, described: Mapping[str, Any]) -> dict[str, StandIn]:
        """Take exactly the path that tuning took; the tensors come afterwards, by ``fill``."""
        configs = {name: _config(op) for name, op in described["op"].items()}
        found: dict[str, StandIn] = {}
        known: set[str] = set()
        with quiet(described["engine"]), torch.no_grad():
            for plain in described["parts"]:
                spec = PartSpec.from_dict(plain)
                part = self._rebuild_part(model, spec, configs, described["reduce_range"])
                part.settle()
                known |= part.ops.nodes.keys()
                int8 = part.convert({op: configs[op] for op in part.ops.nodes})
                if int8 is not None:
                    found[spec.path] = int8
        for op in configs.keys() - known:
            raise ArtifactError(f"op `{op}` of the tune config is not in the model")
        return found

    def _rebuild_part(
        self,
        model: nn.Module,
        spec: PartSpec,
        configs: Mapping[str, Any],
        reduce_range: bool,
        calls: Mapping[int, ModuleCalls] | None = None,
    ) -> Part:
        try:
            module = model.get_submodule(spec.path)
            called = None if calls is None else calls.get(id(module))
            part = Part.build(spec, module, reduce_range=reduce_range, calls=called)
        except (AttributeError, NotTraceable) as error:
            raise ArtifactError(
                f"the model's `{spec.path}` is not the one that was quantized: {error}"
            ) from error
        unknown = [op for op in part.ops.nodes if op not in configs]
        if unknown:
            raise ArtifactError(f"op `{unknown[0]}` of the model is not in the tune config")
        return part

    def join(self, model: nn.Module, described: Mapping[str, Any]) -> None:
        """Do nothing: the parts are graphs."""

    def to_plain(self, model: nn.Module) -> dict[str, Tensor]:
        """Return the whole state as dense tensors."""
        return state.to_plain(model)

    def fill(self, model: nn.Module, plain: Mapping[str, Tensor], engine: str) -> None:
        """Put such a state into a model of the same structure, packed for ``engine``."""
        with quiet(engine):
            state.fill(model, plain)


def _config(plain: Mapping[str, Any]) -> OpConfig:
    """Return the config of an op without its corrections: the tensors of the files have them."""
    fields = ("dtype", "scheme", "granularity", "algorithm")
    return OpConfig.from_dict(
        {
            which: {key: tensor[key] for key in fields if key in tensor}
            for which, tensor in plain.items()
            if which in ("activation", "weight")
        }
    )
