"""Recurrent layers below static int8: a state on a grid of each step, or weights kept in 8 bits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, Generic, TypeAlias, TypeGuard, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from lpot_lightning.quantization.graph.tracing import is_tracing
from lpot_lightning.quantization.kernels.arithmetic import Int8Weight
from lpot_lightning.quantization.kernels.bounds import WHOLE, Bounds
from lpot_lightning.quantization.kernels.kept import KeptWeight
from lpot_lightning.quantization.kernels.lstm import LaidOut, needs_values_alone
from lpot_lightning.quantization.kernels.pack import Pack, Sizes
from lpot_lightning.quantization.kernels.recurrence import GRU, LSTM, State, StepWeights, gone_over
from lpot_lightning.quantization.kernels.rows import Int8Rows
from lpot_lightning.quantization.one_line import OneLine
from lpot_lightning.recipe import OpConfig, Rung

Kernel = TypeVar("Kernel", Int8Rows, KeptWeight)
_VF: Any = torch._VF
_FEW = 4096
"""Values of a state whose step is light."""


@dataclass(frozen=True, kw_only=True)
class Geometry:
    """How a recurrent layer goes over its input.

    Args:
        kind: what torch calls it.
        hidden: size of ``h``, or of ``c`` of an LSTM.
        given: size of what it gives in one direction.
        layers: on each other.
        directions: 1 or 2.
        batch_first: whether the batch is before the steps.
        is_cell: whether it takes one step alone.
        has_bias: whether there are biases.
    """

    kind: str
    hidden: int
    given: int
    layers: int = 1
    directions: int = 1
    batch_first: bool = False
    is_cell: bool = False
    has_bias: bool = True

    @classmethod
    def of(cls, layer: Any) -> Geometry:
        """Return that of a layer of torch."""
        hidden, bias = layer.hidden_size, layer.bias
        if isinstance(layer, nn.RNNCellBase):
            kind = _kind_of_cell(layer)
            return cls(kind=kind, hidden=hidden, given=hidden, is_cell=True, has_bias=bias)
        return cls(
            kind=layer.mode,
            hidden=hidden,
            given=layer.proj_size or hidden,
            layers=layer.num_layers,
            directions=2 if layer.bidirectional else 1,
            batch_first=layer.batch_first,
            has_bias=bias,
        )

    @property
    def endings(self) -> list[str]:
        """What the names of weights end with, in the order of torch."""
        if self.is_cell:
            return [""]
        sides = ("", "_reverse")[: self.directions]
        return [f"_l{number}{side}" for number in range(self.layers) for side in sides]

    @property
    def sizes(self) -> tuple[int, ...]:
        """Of ``h``, and of ``c`` of an LSTM."""
        return (self.given, self.hidden) if self.kind == LSTM else (self.given,)

    def shapes_of(self, x: Tensor) -> list[tuple[int, ...]]:
        """Return the shapes of all that comes of ``x``, the output of a layer first."""
        leading = tuple(x.shape[:-1])
        if self.is_cell:
            return [(*leading, size) for size in self.sizes]
        batch = leading[:-1] if self.batch_first else leading[1:]
        count = self.layers * self.directions
        states = [(count, *batch, size) for size in self.sizes]
        return [(*leading, self.given * self.directions), *states]

    def nested(self, flat: Sequence[Tensor]) -> Any:
        """Return tensors that came one after the other as a layer gives them."""
        first = 0 if self.is_cell else 1
        state = self.told(tuple(flat[first:]))
        return state if self.is_cell else (flat[0], state)

    def flat(self, given: Any) -> list[Tensor]:
        """Return what a layer gives as tensors that come one after the other."""
        outputs, state = ([], given) if self.is_cell else ([given[0]], given[1])
        return [*outputs, *(state if self.kind == LSTM else (state,))]

    def told(self, state: State) -> Tensor | State:
        """Return a state as a layer gives it: that of an LSTM are two."""
        return state if self.kind == LSTM else state[0]


def _kind_of_cell(cell: nn.Module) -> str:
    if isinstance(cell, nn.LSTMCell | nn.GRUCell):
        return LSTM if isinstance(cell, nn.LSTMCell) else GRU
    return f"RNN_{str(cell.nonlinearity).upper()}"


class RecurrentForm(OneLine, Generic[Kernel]):
    """Computes for a recurrent layer: takes and gives what that does.

    Args:
        geometry: of the layer.
        kernels: each weight by its name.
    """

    def __init__(self, geometry: Geometry, kernels: dict[str, Kernel]) -> None:
        super().__init__()
        self.geometry = geometry
        self.kernel = nn.ModuleDict(kernels)
        self._inputs = next(iter(kernels.values())).weight.shape[1]

    @property
    def kernels(self) -> list[Kernel]:
        """All of them."""
        return list(self.kernel.values())  # type: ignore[arg-type]

    def _told(self) -> str:
        count = len(self.kernel)
        return f"{count} weight{'s' * (count > 1)}"

    def forward(self, input: Tensor | PackedSequence, hx: Tensor | State | None = None) -> Any:
        """Return what the layer gives: output and state, or a cell's state alone."""
        given = None if hx is None else (hx,) if isinstance(hx, Tensor) else tuple(hx)
        if self.geometry.is_cell:
            return self._cell(input, given)
        if isinstance(input, PackedSequence):
            return self._packed(input, given)
        return self._padded(input, given)

    def _cell(self, input: Any, hx: State | None) -> Any:
        self._check_dims(input, (1, 2))
        single = input.dim() == 1
        x = input[None] if single else input
        state = None if hx is None or not single else tuple(one[None] for one in hx)
        found = self._stepped(x, self._checked(x, x.shape[0], hx if state is None else state))
        return self.geometry.told(tuple(one[0] for one in found) if single else found)

    def _padded(self, input: Tensor, hx: State | None) -> Any:
        self._check_dims(input, (2, 3))
        single, first = input.dim() == 2, self.geometry.batch_first
        x = input.unsqueeze(0 if first else 1) if single else input
        x = x.transpose(0, 1) if first else x
        state = tuple(one.unsqueeze(1) for one in hx) if single and hx is not None else hx
        output, state = self._over(x, self._checked(x, x.shape[1], state))
        output = output.transpose(0, 1) if first else output
        if not single:
            return output, self.geometry.told(state)
        return output.squeeze(0 if first else 1), self.geometry.told(
            tuple(one.squeeze(1) for one in state)
        )

    def _packed(self, input: PackedSequence, hx: State | None) -> Any:
        data, sizes, order, back = input
        state = None if hx is None else _ordered(hx, order)
        state = self._checked(data, int(sizes[0]), state)
        output, state = self._over_packed(data, sizes, state)
        return PackedSequence(output, sizes, order, back), self.geometry.told(_ordered(state, back))

    def _check_dims(self, input: Tensor, allowed: tuple[int, ...]) -> None:
        if input.dim() not in allowed:
            raise RuntimeError(
                f"a recurrent layer got {list(input.shape)}; it takes"
                f" {' or '.join(map(str, allowed))} dimensions"
            )

    def _check_inputs(self, x: Tensor) -> None:
        """Raise if a step has not as many values as the weights are for.

        oneDNN does not ask: it reads what lies behind them, or ends the process (torch 2.13).
        """
        if not is_tracing() and x.shape[-1] != self._inputs:  # sizes that are traced are tensors
            raise RuntimeError(
                f"a recurrent layer got steps of {x.shape[-1]} values; it takes {self._inputs}"
            )

    def _checked(self, x: Tensor, batch: int, hx: State | None) -> State:
        """Return the state to begin with: zeros, where none is given."""
        self._check_inputs(x)
        one = self.geometry
        count: tuple[int, ...] = () if one.is_cell else (one.layers * one.directions,)
        shapes = [(*count, batch, size) for size in one.sizes]
        if hx is None:
            return tuple(x.new_zeros(shape) for shape in shapes)
        if [tuple(part.shape) for part in hx] != shapes:
            raise RuntimeError(
                f"the state of a recurrent layer is {[list(part.shape) for part in hx]}; it takes"
                f" {[list(shape) for shape in shapes]}"
            )
        return hx

    def _stepped(self, x: Tensor, state: State) -> State:
        """Return the state after a step, of a cell."""
        raise NotImplementedError

    def _over(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        """Return the output of all steps, which come first, and the state of each layer."""
        raise NotImplementedError

    def _over_packed(self, data: Tensor, sizes: Tensor, state: State) -> tuple[Tensor, State]:
        """Return the same of packed sequences, of which there are ``sizes`` at each step."""
        raise NotImplementedError


class WeightOnlyRecurrent(RecurrentForm[KeptWeight]):
    """Computes for a recurrent layer in floats, with weights kept as integers."""

    rung = Rung.WEIGHT_ONLY

    def __init__(self, geometry: Geometry, kernels: dict[str, KeptWeight]) -> None:
        super().__init__(geometry, kernels)
        self._together: Pack[tuple[list[Tensor], LaidOut | None]] = Pack()

    def _floats(self, dtype: torch.dtype) -> list[Tensor]:
        """Return the weights in the order of torch."""
        is_asked_each = is_tracing() or torch.compiler.is_exporting()
        found = self._each() if is_asked_each else self._kept()[0]
        return [one if one.dtype is dtype else one.to(dtype) for one in found]

    def _kept(self) -> tuple[list[Tensor], LaidOut | None]:
        """Return all weights, and what computes an LSTM with them.

        Asked one by one they took 0.1 ms a call, for two layers (torch 2.13).
        """
        held = chain.from_iterable(one._buffers.values() for one in self.kernels)
        return self._together.of(self._made, (), *filter(_is_there, held))

    def _made(self, _: Sizes) -> tuple[list[Tensor], LaidOut | None]:
        one, floats = self.geometry, self._each()
        fits = one.kind == LSTM and one.has_bias and one.given == one.hidden
        return floats, LaidOut(floats, one.layers, one.directions) if fits else None

    def _each(self) -> list[Tensor]:
        found, held = list[Tensor](), dict(zip(self.kernel, self.kernels, strict=True))
        for ending in self.geometry.endings:
            both = [held[f"weight_{name}{ending}"] for name in ("ih", "hh")]
            found += [one.floats for one in both]
            found += [one.bias for one in both if one.bias is not None]
            projection = held.get(f"weight_hr{ending}")
            found += [] if projection is None else [projection.floats]
        return found

    def _stepped(self, x: Tensor, state: State) -> State:
        kind = self.geometry.kind
        weights = self._floats(x.dtype)
        if kind == LSTM:
            return tuple(_VF.lstm_cell(x, state, *weights))
        return (getattr(_VF, f"{kind.lower()}_cell")(x, state[0], *weights),)

    def _over(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        laid = self._kept()[1] if self.geometry.kind == LSTM and needs_values_alone() else None
        found = None if laid is None else laid.computed(x, state)
        return found or self._computed([x], state, x.dtype, False)

    def _over_packed(self, data: Tensor, sizes: Tensor, state: State) -> tuple[Tensor, State]:
        return self._computed([data, sizes], state, data.dtype)

    def _computed(
        self, given: list[Tensor], state: State, dtype: torch.dtype, *batch_first: bool
    ) -> tuple[Tensor, State]:
        one, hx = self.geometry, self.geometry.told(state)
        settings = one.has_bias, one.layers, 0.0, False, one.directions == 2, *batch_first
        compute, weights = getattr(_VF, one.kind.lower()), self._floats(dtype)
        if one.kind == LSTM or not _is_light(state):
            output, *found = compute(*given, hx, weights, *settings)
            return output, tuple(found)
        with torch.inference_mode():
            output, *found = compute(*given, hx, weights, *settings)
        return output.clone(), tuple(map(Tensor.clone, found))


class DynamicRecurrent(RecurrentForm[Int8Rows]):
    """Computes for a recurrent layer: rows of its input, and of its state, have grids of their own.

    What comes of one sequence does not hang on others beside it.
    """

    rung = Rung.DYNAMIC

    def _weights(self, ending: str) -> StepWeights:
        names = (f"weight_{name}{ending}" for name in ("ih", "hh", "hr"))
        return StepWeights(*(self.kernel[one] for one in names if one in self.kernel))  # type: ignore[arg-type]

    def _stepped(self, x: Tensor, state: State) -> State:
        _, found = self._gone_over("", [x.float()], tuple(one.float() for one in state))
        return tuple(one.to(x.dtype, copy=True) for one in found)  # of no inference mode

    def _over(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        outputs, found = self._all(list(x.float().unbind(0)), state)
        return torch.stack(outputs).to(x.dtype), _of_type(found, x.dtype)

    def _over_packed(self, data: Tensor, sizes: Tensor, state: State) -> tuple[Tensor, State]:
        outputs, found = self._all(list(torch.split(data.float(), sizes.tolist())), state)
        return torch.cat(outputs).to(data.dtype), _of_type(found, data.dtype)

    def _all(self, inputs: list[Tensor], state: State) -> tuple[list[Tensor], State]:
        """Return the output of each step, and the state of all layers."""
        one, ends = self.geometry, list[State]()
        for layer in range(one.layers):
            sides = []
            for side in range(one.directions):
                number = layer * one.directions + side
                begun = tuple(part[number].float() for part in state)
                outputs, end = self._side(one.endings[number], inputs, begun, back=side == 1)
                sides.append(outputs)
                ends.append(end)
            inputs = (
                [torch.cat(step, -1) for step in zip(*sides, strict=True)] if side else sides[0]
            )
        return inputs, tuple(torch.stack(part) for part in zip(*ends, strict=True))

    def _side(
        self, ending: str, inputs: list[Tensor], state: State, *, back: bool
    ) -> tuple[list[Tensor], State]:
        """Return the outputs, in the order of ``inputs``, and the state at the end."""
        way = inputs[::-1] if back else inputs
        outputs, end = self._gone_over(ending, way, state)
        return (outputs[::-1] if back else outputs), end

    def _gone_over(
        self, ending: str, inputs: list[Tensor], state: State
    ) -> tuple[list[Tensor], State]:
        """Go over steps, of which some have fewer sequences: the first ones of the others."""
        kind, weights, outputs = self.geometry.kind, self._weights(ending), list[Tensor]()
        held, at = state, 0
        while at < len(inputs):
            size = inputs[at].shape[0]
            until = at + 1
            while until < len(inputs) and inputs[until].shape[0] == size:
                until += 1
            found, after = gone_over(kind, weights, inputs[at:until], tuple(h[:size] for h in held))
            held = tuple(torch.cat([new, old[size:]]) for new, old in zip(after, held, strict=True))
            outputs, at = outputs + found, until
        return outputs, held


RecurrentLayerForm: TypeAlias = DynamicRecurrent | WeightOnlyRecurrent


def recurrent_on_rung(
    layer: nn.Module, config: OpConfig, *, bounds: Bounds, empty: bool = False
) -> RecurrentLayerForm:
    """Return what computes for a recurrent layer on a rung below static int8.

    Args:
        layer: of torch, with finite weights; it is left as it is.
        config: of the rung.
        bounds: of integers that are multiplied.
        empty: whether the tensors are to be filled: they hold no values.

    Example::

        int8 = recurrent_on_rung(nn.LSTM(8, 4), DYNAMIC, bounds=PAIRED)
        output, (h, c) = int8(torch.randn(10, 2, 8))
    """
    geometry = Geometry.of(layer)
    if config.rung is Rung.DYNAMIC:
        joined, high = geometry.kind != GRU, bounds.high
        rounded = _rounded(layer, geometry, None, bounds.pair, joined=joined, empty=empty)
        return DynamicRecurrent(geometry, {n: Int8Rows(one, high) for n, one in rounded.items()})
    size = None if config.weight is None else config.weight.group_size
    rounded = _rounded(layer, geometry, size, WHOLE.pair, joined=False, empty=empty)
    return WeightOnlyRecurrent(geometry, {n: KeptWeight(one) for n, one in rounded.items()})


def _rounded(
    layer: Any,
    geometry: Geometry,
    group_size: int | None,
    pair: int,
    *,
    joined: bool,
    empty: bool,
) -> dict[str, Int8Weight]:
    """Return each weight by its name; ``joined`` biases are added up, for that of the input."""
    found = {}
    for ending in geometry.endings:
        biases = _biases(layer, geometry, ending, joined=joined)
        for name in ("ih", "hh", "hr"):
            weight = getattr(layer, f"weight_{name}{ending}", None)
            if weight is not None:
                bias = biases.get(name)
                found[f"weight_{name}{ending}"] = (
                    Int8Weight.like(weight, bias=bias is not None, group_size=group_size)
                    if empty
                    else Int8Weight.of(weight, bias, group_size, pair)
                )
    return found


def _biases(layer: Any, geometry: Geometry, ending: str, *, joined: bool) -> dict[str, Tensor]:
    if not geometry.has_bias:
        return {}
    of_input, of_state = (getattr(layer, f"bias_{name}{ending}") for name in ("ih", "hh"))
    return {"ih": of_input + of_state} if joined else {"ih": of_input, "hh": of_state}


def _is_light(state: State) -> bool:
    """Whether what torch notes of each op for autograd is a good part of a step, and for nobody.

    A GRU of 256 took a tenth less in inference mode for one sequence of 100, a copy of its output
    included; for many sequences the copy takes longer than what is won (torch 2.13).
    """
    is_for_nobody = needs_values_alone() and not torch.is_inference_mode_enabled()
    return is_for_nobody and state[0].shape[-2:].numel() <= _FEW


def _is_there(tensor: Tensor | None) -> TypeGuard[Tensor]:
    return tensor is not None


def _ordered(state: Sequence[Tensor], order: Tensor | None) -> State:
    return tuple(state) if order is None else tuple(one.index_select(1, order) for one in state)


def _of_type(state: State, dtype: torch.dtype) -> State:
    return tuple(one.to(dtype) for one in state)
