"""Which parameters a pruner prunes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from torch import nn
from torch.nn.modules.conv import _ConvTransposeNd

from lpot_lightning.conf.schema import PrunerConf
from lpot_lightning.errors import ConfError, did_you_mean
from lpot_lightning.pruning.parameters import Parameters

PLACE = "pruning.approach.weight_compression.pruners"


@dataclass(frozen=True, eq=False)
class Weight:
    """A parameter that is pruned.

    Args:
        name: in the model.
        parameters: of the model.
        transposed: whether its first dimension is the inputs, as in transposed convolutions.
    """

    name: str
    parameters: Parameters
    transposed: bool = False

    @property
    def value(self) -> nn.Parameter:
        """What the model has under this name now."""
        return self.parameters[self.name]


def assign(
    model: nn.Module, pruners: Sequence[PrunerConf], modules: Sequence[str] = ()
) -> list[list[Weight]]:
    """Return the weights of each pruner.

    ``names`` are parameters, or globs of them; biases and what else has one dimension is passed
    over, but for ``parameters`` of structure. A pruner without ``names`` takes every weight of two
    dimensions or more that no other one names, but for embeddings and parametrized ones.

    Args:
        model: whose parameters.
        pruners: with all values filled in.
        modules: names or globs of modules, to which all pruners are restricted.

    Raises:
        ConfError: if a name or glob matches nothing, two pruners name one parameter, or nothing is
            left for one.
    """
    known = _Known(model)
    known.check_modules(modules)
    found: list[list[Weight]] = []
    owners: dict[int, int] = {}
    for number, pruner in enumerate(pruners):
        weights = known.named_by(pruner, f"{PLACE}[{number}]") if pruner.names else []
        for weight in weights:
            other = owners.setdefault(id(weight.value), number)
            if other != number:
                raise ConfError(
                    f"`{weight.name}` is pruned by `{PLACE}[{other}]` and by `[{number}]`: name it"
                    " in one of them, or exclude it in the other by `excluded_names`"
                )
        found.append(weights)
    for number, pruner in enumerate(pruners):
        if not pruner.names:
            found[number] = known.others(pruner, owners, f"{PLACE}[{number}]")
            owners |= {id(weight.value): number for weight in found[number]}
        found[number] = [one for one in found[number] if known.is_in(one.name, modules)]
        if not found[number]:
            raise ConfError(
                f"`{PLACE}[{number}]` prunes nothing: no weight is left for it"
                + (" in `modules`" if modules else "")
            )
    return found


class _Known:
    """The parameters of a model, by all their names."""

    def __init__(self, model: nn.Module) -> None:
        self._model = model
        self._parameters = Parameters(model)
        self._modules = dict(model.named_modules(remove_duplicate=False))

    def check_modules(self, modules: Iterable[str]) -> None:
        """Raise a ``ConfError`` for a name or glob that no module has."""
        names = [name for name in self._modules if name]
        for pattern in modules:
            if not any(fnmatchcase(name, pattern) for name in names):
                near = did_you_mean(pattern, names)
                raise ConfError(f"`modules` has `{pattern}`, which matches no module.{near}")

    def is_in(self, name: str, modules: Sequence[str]) -> bool:
        """Return whether the owner of a parameter is one of ``modules``, or in one."""
        owner = name.rpartition(".")[0]
        above = [owner[: len(owner) - cut] for cut in range(len(owner)) if _ends(owner, cut)]
        return not modules or any(fnmatchcase(one, p) for one in above for p in modules)

    def named_by(self, pruner: PrunerConf, place: str) -> list[Weight]:
        """Return what ``names`` of a pruner match, each parameter once."""
        least = 1 if pruner.parameters is not None else 2
        names = self._matching(pruner.excluded_names, f"{place}.excluded_names")
        excluded = {id(self._parameters[name]) for name in names}
        found: dict[int, Weight] = {}
        for pattern in pruner.names:
            names = self._matching([pattern], f"{place}.names")
            fitting = [name for name in names if self._parameters[name].dim() >= least]
            if not fitting:
                raise ConfError(
                    f"`{place}.names` has `{pattern}`, which matches no weight of two dimensions or"
                    f" more; `{names[0]}` is {list(self._parameters[names[0]].shape)}"
                )
            for name in fitting:
                if id(self._parameters[name]) not in excluded:
                    found.setdefault(id(self._parameters[name]), self._weight(name))
        return list(found.values())

    def others(self, pruner: PrunerConf, owners: Iterable[int], place: str) -> list[Weight]:
        """Return every weight that is in nobody's hands."""
        excluded = self._matching(pruner.excluded_names, f"{place}.excluded_names")
        taken = {*owners, *(id(self._parameters[name]) for name in excluded)}
        found = {
            id(value): self._weight(name)
            for name, value in reversed(list(self._parameters.items()))  # the first of tied names
            if id(value) not in taken and self._is_usual(name)
        }
        return list(found.values())[::-1]

    def _matching(self, patterns: Iterable[str], place: str) -> list[str]:
        found: list[str] = []
        for pattern in patterns:
            names = [name for name in self._parameters if fnmatchcase(name, pattern)]
            if not names:
                near = did_you_mean(pattern, self._parameters)
                raise ConfError(f"`{place}` has `{pattern}`, which matches no parameter.{near}")
            found += names
        return found

    def _weight(self, name: str) -> Weight:
        owner = self._modules[name.rpartition(".")[0]]
        return Weight(name, self._parameters, isinstance(owner, _ConvTransposeNd))

    def _is_usual(self, name: str) -> bool:
        owner, _, _ = name.rpartition(".")
        embeds = isinstance(self._modules[owner], nn.Embedding | nn.EmbeddingBag)
        parametrized = "parametrizations" in name.split(".")
        return self._parameters[name].dim() >= 2 and not embeds and not parametrized


def _ends(name: str, cut: int) -> bool:
    """Return whether a name that is ``cut`` shorter ends with a whole piece."""
    return cut == 0 or name[len(name) - cut] == "."
