"""The modules of a model that compute with their own weights, from data to int8 and to files."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import ParametrizationList

from lpot_lightning.module.calls import ModuleCalls, computes_otherwise
from lpot_lightning.module.stand_in import StandIn
from lpot_lightning.quantization.functions.forward import (
    FunctionOp,
    OwnerForward,
    QuantizedFunction,
    stand_in,
)
from lpot_lightning.quantization.functions.observed import (
    ObservedOwner,
    Tells,
    own_tensors,
    tensors_of,
)
from lpot_lightning.quantization.graph.weight_calls import WeightCall
from lpot_lightning.quantization.quantized_layer import TABLES, kind_of
from lpot_lightning.quantization.reasons import NO_WEIGHT, SOME_ONLY, UNSEEN
from lpot_lightning.quantization.rungs import WeightForm

_NEVER = (nn.ModuleList, nn.ModuleDict, nn.Sequential, ParametrizationList, torch.jit.ScriptModule)
"""Modules whose ``forward`` gives no weight to a function."""


class Owners:
    """Modules that compute with their own weights, by path, watched.

    Args:
        modules: they hold tensors, and their ``forward`` is that of their class.
        calls: of each module, in a dry run.
        found: is told of each function that an own weight goes into: its name, what counts its
            inputs, and the first of these.
        shared: ids of tensors that more than one module has.

    Example::

        found = {}
        owners = Owners({"mix": net.mix}, calls, lambda name, *inputs: found.update({name: inputs}))
        owners.observed["mix"](x)
        list(found)  # ["mix#linear_0"]
    """

    def __init__(
        self,
        modules: Mapping[str, nn.Module],
        calls: Mapping[int, ModuleCalls],
        found: Tells,
        shared: Collection[int] = (),
    ) -> None:
        self._calls, self._shared = calls, frozenset(shared)
        self._modules = dict(modules)
        self._lent = {path: list(_lent(one, calls)) for path, one in modules.items()}
        self._forwards: dict[str, OwnerForward] = {}
        self._unlike: set[str] = set()
        self.observed = {
            path: ObservedOwner(one, self._lent_by(path), _named_after(path, found))
            for path, one in modules.items()
        }

    def _lent_by(self, path: str) -> list[nn.Module]:
        return [self._modules[path].get_submodule(name) for name in self._lent[path]]

    def refused(self) -> dict[str, str]:
        """Return why functions cannot be int8 by which weight they get, by their names."""
        found = {
            name_of(path, name): why
            for path, owner in self.observed.items()
            for name, why in owner.refused.items()
        }
        return {**found, **dict.fromkeys(self._unlike, SOME_ONLY)}

    def signatures(self) -> dict[str, list[Any]]:
        """Return what each function is, as plain values: the same in all processes, or no op."""
        return {
            name_of(path, name): [*call.geometry, list(call.weight.shape), call.bias is not None,
                                  sorted(self._names(path, owner.sources(name)))]
            for path, owner in self.observed.items()
            for name, call in owner.ops.items()
        }  # fmt: skip

    def agree(self, seen: Sequence[Mapping[str, list[Any]]]) -> None:
        """Leave out what is not the same in all processes, whose ``signatures`` these are."""
        names = {name for one in seen for name in one}
        self._unlike = {n for n in names if any(one.get(n) != seen[0].get(n) for one in seen)}

    def made_of(self, op: str) -> dict[str, Tensor]:
        """Return the tensors that the weight of an op is made of, by their names in the module."""
        path, _, name = op.rpartition("#")
        held = tensors_of(self._modules[path], self._lent[path])
        wanted = self.observed[path].sources(name)
        return {one: tensor for one, tensor in held.items() if id(tensor) in wanted}

    def held_by(self, op: str) -> dict[str, Tensor]:
        """Return the tensors of the module of an op, and of those that lend it theirs."""
        path = op.rpartition("#")[0]
        return tensors_of(self._modules[path], self._lent[path])

    def lent_to(self, op: str) -> tuple[str, ...]:
        """Return the names of the modules that lend the module of an op their weights."""
        return tuple(self._lent[op.rpartition("#")[0]])

    def call_of(self, op: str) -> WeightCall:
        """Return the first call of an op."""
        path, _, name = op.rpartition("#")
        return self.observed[path].ops[name]

    def _names(self, path: str, sources: Iterable[int]) -> Iterator[str]:
        wanted = set(sources)
        for name, one in tensors_of(self._modules[path], self._lent[path]).items():
            if id(one) in wanted:
                yield name

    def takes(self, layer: nn.Module) -> bool:
        """Whether functions of modules around ``layer``, which nobody calls, use its weight."""
        weight = id(getattr(layer, "weight", None))
        return any(
            weight in owner.sources(name)
            for path, owner in self.observed.items()
            for name in owner.ops
            if any(one is layer for one in self._lent_by(path))
        )

    def left(self) -> dict[str, str]:
        """Return which weights of the modules go into no function that can be int8, and why."""
        found = {}
        for path, owner in self.observed.items():
            used = {one for name in owner.ops for one in owner.sources(name)}
            own = self._modules[path]._parameters.items()
            names = [name for name, one in own if one is not None and id(one) not in used
                     and one.dim() > 1]  # fmt: skip
            if names:
                name = path or type(self._modules[path]).__name__
                found[name] = _told(names) if owner.calls else UNSEEN
        return found

    def chosen(
        self, forms: Mapping[str, WeightForm], as_they_are: Collection[str]
    ) -> dict[str, StandIn]:
        """Return what computes for the modules that have functions, by path.

        Args:
            forms: what computes in int8, by the names of the functions; the others are fp32.
            as_they_are: the int8 ops whose weights are rounded as they are.
        """
        return {
            path: self._chosen(path, forms, as_they_are)
            for path, owner in self.observed.items()
            if owner.ops
        }

    def _chosen(
        self, path: str, forms: Mapping[str, WeightForm], as_they_are: Collection[str]
    ) -> StandIn:
        forward = self.forward_of(path)
        assert forward is not None
        stored = self._stored(path, as_they_are)
        for name, call in self.observed[path].ops.items():
            form = forms.get(name_of(path, name))
            forward.ops[name].int8 = (
                None if form is None else QuantizedFunction.of(form, call.weight, call.bias)
            )
            forward.ops[name].stored = stored.get(name, "")
        return stand_in(forward)

    def _stored(self, path: str, as_they_are: Collection[str]) -> dict[str, str]:
        """Return which parameter the int8 form of a function can stand for in files, by op.

        It is one that goes as it is into functions that are all int8, and nowhere else.
        """
        owner = self.observed[path]
        names = {id(one): name for name, one in self._parameters(path).items()}
        floats = [
            call.weight for op, call in owner.ops.items() if name_of(path, op) not in as_they_are
        ]
        for one in (*map(id, floats), *owner.used, *self._shared):
            names.pop(one, None)
        weights = {op: id(call.weight) for op, call in owner.ops.items()}
        return {op: names.pop(one) for op, one in weights.items() if one in names}

    def _parameters(self, path: str) -> dict[str, Tensor]:
        """Return the parameters that nobody reads but the module, by their names in it."""
        found: dict[str, Tensor] = {}
        for where in ("", *self._lent[path]):
            holder = self._modules[path].get_submodule(where)
            read = self._calls.get(id(holder), ModuleCalls()).read
            if not isinstance(holder, TABLES):
                for name, one in holder._parameters.items():
                    if one is not None and (where or name not in read):
                        found[f"{where}.{name}" if where else name] = one
        return found

    def forward_of(self, path: str) -> OwnerForward | None:
        """Return what computes for the module at ``path``: one object, whatever is chosen."""
        owner = self.observed.get(path)
        if owner is None or not owner.ops:
            return None
        if path not in self._forwards:
            made = OwnerForward(self._modules[path], self._lent[path])
            made.ops = {name: FunctionOp(call.geometry) for name, call in owner.ops.items()}
            self._forwards[path] = made
        return self._forwards[path]

    def alone(self, op: str, form: WeightForm) -> tuple[str, OwnerForward]:
        """Return the path of the module of ``op``, and what computes for it with that in int8."""
        path, _, name = op.rpartition("#")
        ops = self.observed[path].ops
        made = OwnerForward(self._modules[path], self._lent[path])
        made.ops = {one: FunctionOp(call.geometry) for one, call in ops.items()}
        made.ops[name].int8 = QuantizedFunction.of(form, ops[name].weight, ops[name].bias)
        return path, made

    def described(self, op: str, as_they_are: Collection[str]) -> dict[str, Any]:
        """Return what ``rebuilt`` needs of a function, besides its config.

        Args:
            op: its name.
            as_they_are: as in ``chosen``.
        """
        path, _, name = op.rpartition("#")
        call = self.observed[path].ops[name]
        return {
            "numbers": list(call.numbers),
            "padding": call.padding,
            "shape": list(call.weight.shape),
            "bias": call.bias is not None,
            "lent": list(self._lent[path]),
            "stored": self._stored(path, as_they_are).get(name, ""),
        }


def name_of(path: str, function: str) -> str:
    """Return the name of a function as an op."""
    return f"{path}#{function}"


def _named_after(path: str, found: Tells) -> Tells:
    return lambda name, seen, x: found(name_of(path, name), seen, x)


def _lent(owner: nn.Module, calls: Mapping[int, ModuleCalls]) -> Iterator[str]:
    """Yield the modules inside that give their weights away: tables, and what nobody calls."""
    for name, one in owner.named_modules():
        called = id(one) in calls and calls[id(one)].count
        tensors = any(True for _ in own_tensors(one, ()))
        if name and tensors and kind_of(one) and (isinstance(one, TABLES) or not called):
            yield name


def _told(names: Sequence[str]) -> str:
    quoted = ", ".join(f"`{one}`" for one in names)
    verb = "goes" if len(names) == 1 else "go"
    return f"{quoted} {verb} {NO_WEIGHT}"


def may_own(module: nn.Module) -> bool:
    """Whether a module, which is no layer, may compute with weights in a ``forward`` of its own."""
    if computes_otherwise(module) or isinstance(module, _NEVER):
        return False
    lent = (one for one in module.modules() if isinstance(one, TABLES))
    return any(one.dim() > 1 for one in own_tensors(module, list(lent)))


def own_ids(module: nn.Module, calls: Mapping[int, ModuleCalls]) -> set[int]:
    """Return the ids of the tensors whose functions in ``module`` may be ops."""
    lent = [module.get_submodule(name) for name in _lent(module, calls)]
    return set(map(id, own_tensors(module, lent)))
