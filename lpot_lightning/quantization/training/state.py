"""What a training for int8 came to, as a checkpoint holds it."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from torch import Tensor, nn

from lpot_lightning.errors import ArtifactError, ConfError
from lpot_lightning.machine.typed import check_typed
from lpot_lightning.quantization.kernels.bounds import PAIRED, SEVEN_BITS, WHOLE, Bounds
from lpot_lightning.quantization.kernels.grid import Grid
from lpot_lightning.quantization.quantized_layer import channels_of, kind_of
from lpot_lightning.quantization.training.functions import FunctionSign
from lpot_lightning.quantization.training.ranges import check_ranges, grids_of
from lpot_lightning.recipe import OpConfig

T = TypeVar("T")
_INSIDE: dict[str, Any] = {
    "excluded": dict[str, str],
    "parts": list[dict[str, Any]],
    "op": dict[str, dict[str, Any]],
    "function": dict[str, dict[str, Any]],
    "gone": dict[str, list[str]],
    "places": list[str],
    "factors": dict[str, Tensor],
    "left_out": dict[str, str],
}
_FIELDS: dict[str, type] = {
    "excluded": dict,
    "reduce_range": bool,
    "parts": list,
    "op": dict,
    "function": dict,
    "gone": dict,
    "places": list,
    "ranges": dict,
    "factors": dict,
    "left_out": dict,
}


@dataclass(frozen=True, kw_only=True)
class TrainedOps:
    """The ops of a training, and what each has learned.

    Args:
        configs: of all ops that the training knew; those in fp32 are to stay so.
        grids: of the inputs of int8 ops, where one is known.
        factors: what channels of inputs are divided by, where they are.
        functions: the ops that are no layers: which modules inside lend them weights, and the sign.
        gone: tensors of layers that int8 needs no more.
        roots: modules that graphs are made of.
        bounds: of integers that are multiplied.
        left_out: modules whose ops stay floats, with the reason.
    """

    configs: Mapping[str, OpConfig]
    grids: Mapping[str, Grid]
    factors: Mapping[str, Tensor]
    functions: Mapping[str, tuple[tuple[str, ...], FunctionSign]]
    gone: Mapping[str, tuple[str, ...]]
    roots: tuple[str, ...]
    bounds: Bounds
    left_out: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, state: Mapping[str, Any]) -> TrainedOps:
        """Read what ``LayersTraining.state`` gave.

        Raises:
            ArtifactError: if it is damaged.
        """
        for name, kind in _FIELDS.items():
            if not isinstance(state.get(name), kind):
                raise ArtifactError(
                    f"the state of the training is damaged: `{name}` is"
                    f" `{type(state.get(name)).__name__}`, it has to be `{kind.__name__}`"
                )
        bounds = _bounds(state)
        try:
            for name, hint in _INSIDE.items():
                check_typed(state[name], hint, name)
            check_ranges(state["ranges"], len(state["places"]))
            for op, factors in state["factors"].items():
                _check_factors(op, factors)
            return cls(
                configs={op: OpConfig.from_dict(one) for op, one in state["op"].items()},
                grids=_known(state["places"], grids_of(state["ranges"], bits=bounds.bits)),
                factors=dict(state["factors"]),
                functions={op: _function(one) for op, one in state["function"].items()},
                gone={op: tuple(names) for op, names in state["gone"].items()},
                roots=tuple(str(part["path"]) for part in state["parts"]),
                bounds=bounds,
                left_out={str(path): str(why) for path, why in state["left_out"].items()},
            )
        except (AttributeError, KeyError, TypeError, ValueError, ConfError) as error:
            raise ArtifactError(f"the state of the training is damaged: {error}") from error

    @property
    def int8_ops(self) -> tuple[str, ...]:
        """The ops that are trained for int8."""
        return tuple(op for op, config in self.configs.items() if not config.is_fp32)

    def with_those_of(self, other: TrainedOps, ops: Collection[str]) -> TrainedOps:
        """Return these, with what ``other`` knows of ``ops`` in place of what they know."""
        ours = {op for op in self.configs if op in ops and op in other.configs}

        def joined(mine: Mapping[str, T], theirs: Mapping[str, T]) -> dict[str, T]:
            kept = {op: one for op, one in mine.items() if op not in ours}
            return kept | {op: one for op, one in theirs.items() if op in ours}

        configs = {op: other.configs[op] if op in ours else one for op, one in self.configs.items()}
        return replace(
            self,
            configs=configs,
            grids=joined(self.grids, other.grids),
            factors=joined(self.factors, other.factors),
            functions=joined(self.functions, other.functions),
            gone=joined(self.gone, other.gone),
        )

    def check(self, model: nn.Module) -> None:
        """Raise an ``ArtifactError`` unless ``model`` has these ops."""
        for op in self.int8_ops:
            path = op.rpartition("#")[0] if op in self.functions else op
            try:
                module = model.get_submodule(path)
            except AttributeError as error:
                raise ArtifactError(f"the model has no `{path}`, the trained one had") from error
            if op not in self.functions:
                self._check_layer(op, module)

    def _check_layer(self, op: str, layer: nn.Module) -> None:
        if kind_of(layer) is None:
            raise ArtifactError(f"`{op}` is a `{type(layer).__name__}`, which has no int8 form")
        factors = self.factors.get(op)
        if factors is not None and factors.shape != (channels_of(layer),):
            raise ArtifactError(
                f"`{op}` reads {channels_of(layer)} channels, the trained one {list(factors.shape)}"
            )


def _bounds(state: Mapping[str, Any]) -> Bounds:
    """Return the bounds of a training; one that began with 7 bits has no ``pair``."""
    named = {(one.bits < 8, one.pair): one for one in (WHOLE, PAIRED, SEVEN_BITS)}
    pair = state.get("pair", WHOLE.pair)
    found = named.get((state["reduce_range"], pair)) if type(pair) is int else None
    if found is None:
        raise ArtifactError(
            f"the state of the training is damaged: `pair` is {pair!r}, it has to be"
            f" {WHOLE.pair}, or {PAIRED.pair} where `reduce_range` is false"
        )
    return found


def _check_factors(op: str, factors: Tensor) -> None:
    if not factors.is_floating_point() or not bool((factors.isfinite() & (factors > 0)).all()):
        raise ValueError(f"`factors.{op}` has what is not finite and positive")


def _known(places: list[str], grids: list[Grid | None]) -> dict[str, Grid]:
    pairs = zip(places, grids, strict=True)
    return {str(place): grid for place, grid in pairs if grid is not None}


def _function(plain: Mapping[str, Any]) -> tuple[tuple[str, ...], FunctionSign]:
    offset = plain["offset"]
    sign = FunctionSign(
        function=str(plain["function"]),
        numbers=tuple(map(int, plain["numbers"])),
        padding=str(plain["padding"]),
        shape=tuple(map(int, plain["shape"])),
        bias=bool(plain["bias"]),
        sources=tuple(map(str, plain["sources"])),
        offset=None if offset is None else int(offset),
        stride=tuple(map(int, plain["stride"])),
        shift=None if plain["shift"] is None else (str(plain["shift"][0]), int(plain["shift"][1])),
    )
    return tuple(map(str, plain["lent"])), sign


def function_to_plain(lent: tuple[str, ...], sign: FunctionSign) -> dict[str, Any]:
    """Return what ``TrainedOps.functions`` is read from."""
    plain = {
        name: list(value) if isinstance(value, tuple) else value
        for name, value in vars(sign).items()
    }
    return {"lent": list(lent), **plain}
