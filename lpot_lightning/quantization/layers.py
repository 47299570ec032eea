"""Post-training quantization layer by layer: prove what was observed, convert, judge."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from functools import partial
from typing import Any

from torch import Tensor, nn

from lpot_lightning.module.calls import ModuleCalls
from lpot_lightning.module.stand_in import StandIn
from lpot_lightning.quantization.corrections import BIAS, EQUALIZATION, WEIGHT
from lpot_lightning.quantization.damage import RootErrors
from lpot_lightning.quantization.diagnosing.diagnoser import Diagnoser
from lpot_lightning.quantization.equalization import Equalization
from lpot_lightning.quantization.graph.breaks import GraphBreak
from lpot_lightning.quantization.graph.capture import Captured
from lpot_lightning.quantization.graph.untraced import untraced
from lpot_lightning.quantization.kernels.bounds import Bounds
from lpot_lightning.quantization.layer_forward import LayerForward
from lpot_lightning.quantization.observed_ops import ObservedOps
from lpot_lightning.quantization.op_clock import StepTimes
from lpot_lightning.quantization.op_errors import OpErrors
from lpot_lightning.quantization.op_forms import OpForms, as_they_are, kind
from lpot_lightning.quantization.op_profile import OpProfile, profile_of
from lpot_lightning.quantization.program.narrow import Narrow
from lpot_lightning.quantization.program.program import Program
from lpot_lightning.quantization.quantized_layer import weight_names
from lpot_lightning.quantization.reasons import UNSEEN
from lpot_lightning.quantization.step_clock import step_times
from lpot_lightning.quantization.training.state import TrainedOps
from lpot_lightning.quantization.training.training import LayersTraining
from lpot_lightning.recipe import FP32, Op, OpConfig, Recipe

Verdict = tuple[dict[str, str], dict[str, str], dict[str, Equalization]]
"""Ops that cannot be int8, with the reason, ops whose kernel is wrong here, with how, and how the
inputs of ops can be equalized."""


def _own(verdict: Verdict) -> Verdict:
    return verdict


class PreparedLayers:
    """The layers of one model that can be int8, watched.

    Args:
        layers: by path, of a kind that has an int8 form.
        calls: of each module, in a dry run.
        excluded: what has weights and is no op, with the reason.
        roots: by path, the modules that are called from outside of all others: graphs are made of
            them, and errors measured at their outputs.
        bounds: of integers that are multiplied.
        owners: modules that compute with their own weights, by path.
        order: the paths of all, in the order of the model.
        shared: ids of tensors that more than one module has.
        for_training: whether a model is to be trained for int8, and not to become so.
        trained: what such a training came to.
        left_out: paths of modules whose ops stay floats, with the reason; where it is given,
            other frozen layers may be called in training only.

    Attributes:
        narrow: whether graphs compute in bfloat16 what is no op; those of a recipe that is all fp32
            do not.
        diagnoser: finds what hurts ops in int8.
    """

    def __init__(
        self,
        layers: Mapping[str, nn.Module],
        calls: Mapping[int, ModuleCalls],
        excluded: dict[str, str],
        roots: Mapping[str, nn.Module],
        *,
        bounds: Bounds,
        owners: Mapping[str, nn.Module],
        order: Sequence[str],
        shared: Collection[int] = (),
        for_training: bool = False,
        trained: TrainedOps | None = None,
        left_out: Mapping[str, str] | None = None,
    ) -> None:
        self._seen = ObservedOps(
            layers,
            calls,
            owners=owners,
            order=order,
            shared=shared,
            for_training=for_training,
            trained=trained,
            left_out=left_out,
        )
        self._forms = OpForms(self._seen, bounds=bounds, for_training=for_training, trained=trained)
        self._forwards: dict[str, LayerForward] = {}
        self._for_training = for_training
        self._captured: dict[str, Captured] | None = None
        self.narrow, self._narrow = False, Narrow()
        self.excluded = excluded
        self._roots = tuple(roots)
        self._called = {path: calls.get(id(root), ModuleCalls()) for path, root in roots.items()}
        self._errors = OpErrors(self._seen, self._forms, RootErrors(roots, self._called, layers))
        self.diagnoser = Diagnoser(self._seen, self._forms)
        self._wrong: dict[str, str] = {}

    @property
    def observed(self) -> dict[str, StandIn]:
        """The watched layers, and modules with functions that have weights, by their path."""
        return self._seen.parts

    @property
    def exact(self) -> Mapping[str, str]:
        """Ops whose kernel is wrong here, with how: plain arithmetic computes in its place."""
        return self._forms.exact

    def asleep(self) -> AbstractContextManager[None]:
        """Let data through that the calibration is not to count."""
        return self._seen.asleep()

    def statistics(self) -> dict[str, Any]:
        """Return what was seen, as plain values."""
        return self._seen.statistics()

    def merge(self, seen: Sequence[dict[str, Any]]) -> None:
        """Take what all processes saw, the own part included, in place of the own part."""
        self._seen.merge(seen)

    def settle(self, agreed: Callable[[Verdict], Verdict] = _own) -> None:
        """End the calibration; what saw no data, or what 8 bits cannot hold, stays fp32.

        A kernel that is wrong on this machine leaves its op to plain arithmetic, alone.
        """
        seen, forms = self._seen, self._forms
        self.excluded.update(seen.end())
        self._forwards = {path: LayerForward(layer, None) for path, layer in seen.alone.items()}
        wrong = seen.unusable()
        usable = [path for path in seen.layers if path not in wrong]
        exact = {path: why for path in usable if (why := forms.disproved(path))}
        evened = {path: one for path in usable if (one := forms.equalization(path))}
        self._wrong, forms.exact, forms.equalizations = agreed((wrong, exact, evened))
        self.excluded.update(self._wrong)
        unseen = [path for path, why in self.excluded.items() if why == UNSEEN]
        self.excluded.update(seen.out(unseen))

    @property
    def ops(self) -> tuple[Op, ...]:
        """The ops in the order of the model."""
        return tuple(
            Op(
                name=path,
                kind=kind(layer),
                configs=(FP32,) if path in self._wrong else self._forms.configs(path),
                weight_bytes=_weight_bytes(layer.layer),
                corrections=self._corrections(path),
            )
            for path, layer in self._seen.layers.items()
        )

    def _corrections(self, path: str) -> tuple[str, ...]:
        if path in self._wrong or self._seen.layers[path].means is None:
            return ()
        return (EQUALIZATION, WEIGHT, BIAS) if path in self._forms.equalizations else (WEIGHT, BIAS)

    def convert(self, recipe: Recipe) -> dict[str, StandIn]:
        """Return the int8 layers by path, and those in fp32: graphs are the same for all recipes.

        What computes for a layer is one object for all of them, so that what an earlier call gave
        computes as this recipe says.
        """
        configs = recipe.as_mapping()
        self._narrow.on = self._is_narrow(recipe)
        found = {path: self._chosen(path, configs[path]) for path in self._forwards}
        reduced = [op for op in recipe.reduced_ops if op not in found]
        forms = {op: self._forms.kept(op, configs[op]) for op in reduced}
        return found | self._seen.owners.chosen(forms, as_they_are(recipe))  # type: ignore[arg-type]

    def _is_narrow(self, recipe: Recipe) -> bool:
        return self.narrow and bool(recipe.reduced_ops)

    def _chosen(self, path: str, config: OpConfig) -> StandIn:
        forward = self._forwards[path]
        forward.int8 = None if config.is_fp32 else self._forms.kept(path, config)
        gone = () if config.is_fp32 else self._seen.gone(path)
        return StandIn(forward.int8, gone=gone, forward=forward)

    def graphs(self, model: nn.Module) -> dict[str, Captured]:
        """Return what computes over the layers of ``model`` where their calls can be captured.

        It is the same for all recipes.
        """
        if self._captured is None:
            self._captured = self._graphs(model, self._narrow)
        return self._captured

    def other_graphs(self, model: nn.Module, *, narrow: bool) -> dict[str, Captured]:
        """Return new ones beside those of ``graphs``, whatever ``self.narrow`` is."""
        return self._graphs(model, Narrow(on=narrow))

    def _graphs(self, model: nn.Module, narrow: Narrow) -> dict[str, Captured]:
        roots = {path: model.get_submodule(path) for path in self._roots}
        lower = partial(Program, narrow=narrow)
        return {
            path: Captured(one, lower, self._seen.owners.forward_of(path))
            for path, one in roots.items()
        }

    def rank(self, recipe: Recipe) -> list[tuple[str, float]]:
        """Return for each int8 op the error of what the model gives, on the batch of the dry run.

        Where that does not say anything, since the batch takes another way for one, it is the error
        of the op's own output.
        """
        return self._errors.rank(recipe)

    def error(self, recipe: Recipe, ops: Collection[str]) -> float:
        """Return the sum of the errors that ``ops`` make, each where it stands."""
        return self._errors.error(recipe, ops)

    @property
    def forwards(self) -> float:
        """What ranking, repair and diagnosis cost so far, in passes of the dry run's batch."""
        return self._errors.forwards + self.diagnoser.forwards

    def untraced(self) -> dict[str, GraphBreak]:
        """Return the modules whose own code ends a graph, by path, as calls have shown so far."""
        return untraced(self._captured or {}, self._called)

    def profile(self, recipe: Recipe | None = None) -> dict[str, OpProfile]:
        """Return what each op costs, on the batch of the dry run.

        Args:
            recipe: what the ops are that it names; without it, all of them in fp32.
        """
        seen = self._seen
        recipe = recipe or Recipe.of(dict.fromkeys(seen.layers, FP32))
        return {
            op: profile_of(self._computes(op, config), seen.calls[op])
            for op, config in recipe.ops
            if seen.calls[op].count
        }

    def _computes(self, op: str, config: OpConfig) -> Callable[..., Any]:
        layer = self._seen.layers[op].layer
        return (
            partial(type(layer).forward, layer) if config.is_fp32 else self._forms.made(op, config)
        )

    def training(self, recipe: Recipe) -> LayersTraining:
        """Return how a model is trained to be what ``recipe`` says, from the calibration on."""
        ops, tables = self._forms.trained_ops(recipe, self._roots), self._forms.tables(recipe)
        return LayersTraining(ops, tables=tables, excluded=self.excluded)

    def op_clock(
        self,
        model: nn.Module,
        recipe: Recipe,
        step: Callable[[int], Sequence[float]],
        clock: Callable[[], float],
    ) -> StepTimes:
        """Return what times the ops of ``model``, which is ``recipe`` now.

        What a graph could not be made for is timed layer by layer; functions outside of graphs are
        not.
        """
        step(1)  # graphs are captured, and weights packed
        captured = self.graphs(model).values()
        return step_times(captured, self._forwards, recipe, self.convert, step=step, clock=clock)

    def describe(self, recipe: Recipe) -> dict[str, Any]:
        """Return what ``rebuild`` needs besides the tensors, as plain values."""
        return {
            "engine": "onednn",
            "reduce_range": self._forms.bounds.bits < 8,
            "float": "bf16" if self._is_narrow(recipe) else "fp32",
            "parts": [
                {"path": path, "wrapped": False, "fixed": {}, "kept": []} for path in self._roots
            ],
            "op": {
                path: self._forms.described(path, config, recipe) for path, config in recipe.ops
            },
        }


def _weight_bytes(layer: nn.Module) -> int:
    tensors: list[Tensor | None] = [getattr(layer, name, None) for name in weight_names(layer)]
    return sum(one.numel() * one.element_size() for one in tensors if isinstance(one, Tensor))
