"""Int8 by oneDNN's kernels on plain tensors: layers first, graphs where they can be."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from lpot_lightning.errors import ArtifactError, ConfError, QuantizationError
from lpot_lightning.module.calls import ModuleCalls, roots_of
from lpot_lightning.module.plain_state import check_names_and_shapes, check_scales
from lpot_lightning.module.stand_in import HELD, StandIn, let_compute
from lpot_lightning.quantization import reasons
from lpot_lightning.quantization.corrections import factors_to_fill
from lpot_lightning.quantization.floats import in_floats
from lpot_lightning.quantization.functions.forward import owner_of
from lpot_lightning.quantization.functions.owners import may_own, own_ids
from lpot_lightning.quantization.functions.rebuilt import rebuilt
from lpot_lightning.quantization.functions.stored import (
    know_restored,
    owners_in,
    restored,
    stored_weights,
)
from lpot_lightning.quantization.graph.capture import Captured
from lpot_lightning.quantization.kernels.bounds import PAIRED, SEVEN_BITS, WHOLE, Bounds
from lpot_lightning.quantization.kernels.grid import Grid
from lpot_lightning.quantization.kernels.layers import Int8Layer
from lpot_lightning.quantization.kernels.proof import usual_shapes, wrong_kernel
from lpot_lightning.quantization.kernels.saturation import saturates
from lpot_lightning.quantization.layer_forward import LayerForward
from lpot_lightning.quantization.layers import PreparedLayers
from lpot_lightning.quantization.op_forms import group_size_of
from lpot_lightning.quantization.program.narrow import Narrow
from lpot_lightning.quantization.program.program import Program
from lpot_lightning.quantization.quantized_layer import (
    RECURRENT,
    TABLES,
    kind_of,
    unfilled,
    with_trained_grid,
)
from lpot_lightning.quantization.rungs import LayerForm, layer_on_rung
from lpot_lightning.quantization.training.converted import converted
from lpot_lightning.quantization.training.state import TrainedOps
from lpot_lightning.quantization.training.training import LayersTraining
from lpot_lightning.recipe import OpConfig, Recipe, Rung, config_of

_LOG = logging.getLogger(__name__)
_OTHERS: tuple[tuple[type[nn.Module], str], ...] = (
    (nn.modules.conv._ConvTransposeNd, reasons.TRANSPOSED),
    (nn.RNNBase, reasons.RECURRENT),
    (nn.RNNCellBase, reasons.RECURRENT),
    (nn.modules.instancenorm._InstanceNorm, reasons.NORMS),
    (nn.LayerNorm, reasons.NORMS),
    (nn.GroupNorm, reasons.NORMS),
    (nn.RMSNorm, reasons.NORMS),
)


class OnednnBackend:
    """Backend ``onednn``: each layer is int8 by itself, and graphs compute where they can."""

    name = "onednn"

    def prepare(
        self,
        model: nn.Module,
        calls: Mapping[int, ModuleCalls],
        *,
        avoid: Collection[str] = (),
        for_training: bool = False,
        trained: Mapping[str, Any] | None = None,
        left_out: Mapping[str, str] | None = None,
    ) -> PreparedLayers:
        """Find the layers that can be int8 and watch them; ``model`` is left as it is.

        Args:
            model: in eval mode, on the CPU, in float32.
            calls: of every module, from a dry run.
            avoid: paths of layers that stay floats.
            for_training: whether it is to be trained for int8.
            trained: what ``LayersTraining.state`` gave at the end of such a training.
            left_out: paths of modules whose ops are to stay floats, with the reason; those of a
                training that is over are in ``trained``.

        Raises:
            ArtifactError: if ``trained`` is damaged, or of another model.
        """
        known = None if trained is None else TrainedOps.of(trained)
        if known is not None:
            known.check(model)
        trains = for_training or known is not None
        layers, owners, excluded = {}, {}, {}
        for path, module in _python_modules(model):
            if path in avoid:
                excluded[path] = reasons.STANDS_ELSEWHERE
            elif _is_derived(module, calls) and _has_own(module):
                excluded[path] = reasons.DERIVED
            elif kind_of(module) is not None and not (trains and isinstance(module, RECURRENT)):
                layers[path] = module
            elif why := _why_not(module, calls):
                excluded[path or type(module).__name__] = why
            elif may_own(module) and not _is_derived(module, calls):
                owners[path] = module
        own = {path: own_ids(one, calls) for path, one in owners.items()}
        excluded |= in_floats(model, calls, {*layers, *excluded}, own)
        roots = {
            path: model.get_submodule(path)
            for path in roots_of(model, calls)
            if _holds(path, layers, owners) and not _is_derived(model.get_submodule(path), calls)
        }
        bounds = PAIRED if saturates() else WHOLE
        return PreparedLayers(
            layers,
            calls,
            excluded,
            roots,
            bounds=bounds if known is None else known.bounds,
            owners=owners,
            order=[path for path, _ in model.named_modules()],
            shared=_shared(model),
            for_training=for_training,
            trained=known,
            left_out=left_out,
        )

    def training(self, prepared: PreparedLayers, recipe: Recipe) -> LayersTraining:
        """Return how a model is trained to be what ``recipe`` says.

        Args:
            prepared: by ``prepare``, for a training.
            recipe: of its ops.
        """
        return prepared.training(recipe)

    def training_of(self, model: nn.Module, state: Mapping[str, Any]) -> LayersTraining:
        """Return the training that ``state`` was taken of, ready to go on.

        Args:
            model: of the class that was trained; its values do not matter.
            state: what ``LayersTraining.state`` gave.

        Raises:
            ArtifactError: if the state is damaged, or of another model.
        """
        ops = TrainedOps.of(state)
        ops.check(model)
        places = set(state["places"])
        tables = frozenset(op for op in ops.int8_ops if op not in places)
        training = LayersTraining(ops, tables=tables, excluded=state["excluded"])
        training.load_ranges(state)
        return training

    def int8_of(self, model: nn.Module, state: Mapping[str, Any]) -> dict[str, StandIn]:
        """Return the int8 parts of a trained model, as its training meant them to be.

        Args:
            model: with the trained weights, in eval mode, on the CPU, in float32.
            state: what ``LayersTraining.state`` gave.

        Raises:
            ArtifactError: if the state is damaged, or of another model.
        """
        return converted(model, TrainedOps.of(state))

    def rebuild(self, model: nn.Module, described: Mapping[str, Any]) -> dict[str, StandIn]:
        """Return the int8 layers of the tune config, to be filled with tensors.

        Recurrent ones in fp32 are among them: a graph holds them as these.
        """
        found, functions, modules = {}, {}, dict(model.named_modules())
        bounds = _bounds(described)
        for path, op in described["op"].items():
            config = _config_of(path, op)
            if config.is_fp32:
                if isinstance(layer := modules.get(path), nn.RNNBase):
                    found[path] = StandIn(None, forward=LayerForward(layer, None))
                continue
            if "function" in op:
                functions[path] = op, _grid_of(path, op, described)
                continue
            layer = _layer_at(model, path)
            form = _unfilled(layer, config, op, _grid_of(path, op, described), bounds)
            gone = tuple(op.get("gone", ()))
            found[path] = StandIn(form, gone=gone, forward=LayerForward(layer, form))
        return found | rebuilt(model, functions, bounds=bounds)

    def to_plain(self, model: nn.Module) -> dict[str, Tensor]:
        """Return the whole state, but for weights that their int8 forms stand for."""
        owners = owners_in(dict(model.named_modules()))
        return _without(nn.Module.state_dict(model), stored_weights(owners))

    def fill(self, model: nn.Module, plain: Mapping[str, Tensor], engine: str) -> None:
        """Put such a state into a model of the same structure.

        Raises:
            ArtifactError: naming the first tensor that does not fit.
        """
        del engine
        modules = dict(model.named_modules())
        for name, module in modules.items():
            ours = name.endswith(".kernel") and HELD in name.split(".")
            if ours and (bias := f"{name}.bias") in plain and module.bias is None:
                module.bias = torch.empty_like(plain[bias])  # a correction gave it one
        state, owners = nn.Module.state_dict(model), owners_in(modules)
        check_names_and_shapes(plain, _without(state, stored_weights(owners)))
        check_scales(plain, {name for name in plain if _is_scale(name)})
        kernels = {path: one for path, one in modules.items() if isinstance(one, Int8Layer)}
        _give_weights(kernels, plain)
        weights = restored(model, owners, plain)
        extra = {name: one for name, one in state.items() if not isinstance(one, Tensor)}
        nn.Module.load_state_dict(model, {**weights, **plain, **extra})
        know_restored(model, owners, weights)
        _prove(kernels)

    def join(self, model: nn.Module, described: Mapping[str, Any]) -> None:
        """Let graphs compute over the int8 layers of ``model``."""
        roots = {path: model.get_submodule(path) for path in _roots(described)}
        lower = partial(Program, narrow=Narrow(on=described.get("float") == "bf16"))
        forwards = {path: Captured(one, lower, owner_of(one)) for path, one in roots.items()}
        let_compute(model, forwards)


def _roots(described: Mapping[str, Any]) -> Iterator[str]:
    for part in described["parts"]:
        yield str(part["path"])


def _without(state: Mapping[str, Any], names: Iterable[str]) -> dict[str, Tensor]:
    """Return the tensors of a state, but for some of them."""
    left = set(names)
    return {
        name: one for name, one in state.items() if isinstance(one, Tensor) and name not in left
    }


def _give_weights(kernels: Mapping[str, Int8Layer], plain: Mapping[str, Tensor]) -> None:
    """Let kernels have their integers as they were read, without a copy, if nobody else has."""
    places = Counter(one.untyped_storage().data_ptr() for one in plain.values())
    for path, layer in kernels.items():
        weight = plain[f"{path}.weight"]
        storage = weight.untyped_storage()
        is_alone = places[storage.data_ptr()] == 1 and storage.nbytes() == weight.nbytes
        if is_alone and weight.is_contiguous():
            layer._buffers["weight"] = weight


def _prove(kernels: Mapping[str, Int8Layer]) -> None:
    """Leave kernels that are wrong here, where the files have come to, to plain arithmetic."""
    for path, layer in kernels.items():
        reason = wrong_kernel(layer, usual_shapes(layer))
        layer.exact = reason is not None
        if layer.exact:
            op = path.partition(f".{HELD}.kernel")[0]
            _LOG.warning("`%s` is int8 by plain arithmetic, which is slow: %s", op, reason)


def _python_modules(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Yield all modules but what is in one of TorchScript, which no Python reaches into."""
    inside: list[str] = []
    for path, module in model.named_modules():
        if isinstance(module, torch.jit.ScriptModule):
            inside.append(path)
        if not any(path.startswith(f"{script}.") for script in inside):
            yield path, module


def _is_scale(name: str) -> bool:
    return HELD in name.split(".") and name.endswith(".scales")


def _holds(root: str, layers: Collection[str], owners: Collection[str]) -> bool:
    """Whether there is something to compute at ``root``, which is no layer itself."""
    inside = f"{root}." if root else ""
    others = (path for path in (*layers, *owners) if path != root)
    return root in owners or any(path.startswith(inside) for path in others)


def _shared(model: nn.Module) -> set[int]:
    """Return the ids of parameters that more than one module has."""
    held = [id(one) for module in model.modules() for one in module._parameters.values()]
    return {one for one, number in Counter(held).items() if number > 1}


def _has_own(module: nn.Module) -> bool:
    return next(module.parameters(recurse=False), None) is not None


def _is_derived(module: nn.Module, calls: Mapping[int, ModuleCalls]) -> bool:
    seen = calls.get(id(module))
    return seen is not None and seen.derived


def _why_not(module: nn.Module, calls: Mapping[int, ModuleCalls]) -> str | None:
    if isinstance(module, torch.jit.ScriptModule):
        return reasons.SCRIPTED
    if not _has_own(module):
        return None
    why = next((why for kind, why in _OTHERS if isinstance(module, kind)), None)
    return reasons.NOT_REACHED if why is not None and id(module) not in calls else why


def _layer_at(model: nn.Module, path: str) -> nn.Module:
    try:
        layer = model.get_submodule(path)
    except AttributeError as error:
        raise ArtifactError(f"the model has no `{path}`, that of the files has") from error
    if kind_of(layer) is None:
        raise ArtifactError(f"`{path}` is a `{type(layer).__name__}`, which has no int8 form")
    return layer


def _config_of(path: str, op: Mapping[str, Any]) -> OpConfig:
    try:
        found = config_of(op)
    except (ConfError, TypeError, ValueError) as error:  # the last two of what is no text
        raise ArtifactError(f"op `{path}` of the tune config: {error}") from error
    said = op.get("rung", found.rung.value)
    if said != found.rung.value and not found.is_table:  # a table's was `int8` at first
        raise ArtifactError(f"op `{path}` of the tune config is said to be `{said}`, and is not")
    return found


def _unfilled(
    layer: nn.Module, config: OpConfig, op: Mapping[str, Any], x: Grid | None, bounds: Bounds
) -> LayerForm:
    """Return what computes for a layer, for tensors of a file."""
    if isinstance(layer, RECURRENT) and config.rung is Rung.STATIC:
        raise ArtifactError(
            f"an op of the tune config is `{config.rung.value}`, and a `{type(layer).__name__}` of"
            " the model, which cannot be that"
        )
    if config.rung is not Rung.STATIC and not isinstance(layer, TABLES):
        return layer_on_rung(layer, config, bounds=bounds, empty=True)
    factors, size = factors_to_fill(op, layer), group_size_of(config)
    form = unfilled(layer, x, factors=factors, group_size=size)
    return with_trained_grid(form) if config.is_trained else form


def _bounds(described: Mapping[str, Any]) -> Bounds:
    """Return the bounds of activations; weights of a file are as they are."""
    return SEVEN_BITS if described["reduce_range"] else WHOLE


def _grid_of(path: str, op: Mapping[str, Any], described: Mapping[str, Any]) -> Grid | None:
    activation = op["activation"]
    if "scale" not in activation:
        return None
    try:
        scale, zero_point = float(activation["scale"]), int(activation["zero_point"])
        return Grid(scale, zero_point, 0, _bounds(described).high)
    except (TypeError, ValueError, QuantizationError) as error:
        raise ArtifactError(f"op `{path}` of the tune config: {error}") from error
