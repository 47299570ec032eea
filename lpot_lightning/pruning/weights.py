"""Which parameters a pruner prunes."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from torch import nn
from torch.nn.modules.conv import _ConvTransposeNd

from lpot_lightning.conf.schema import PrunerConf
from lpot_lightning.errors import ConfError, did_you_mean, quoted
from lpot_lightning.pruning.names import Matches, matches
from lpot_lightning.pruning.parameters import Parameters

PLACE = "pruning.approach.weight_compression.pruners"


@dataclass(frozen=True, eq=False)
class Weight:
    """A parameter that is pruned.

    Args:
        name: in the model.
        parameters: of the model.
        transposed: whether its first dimension is the inputs, as in transposed convolutions.
        layer: what the first ``*`` of its name in the YAML stands for.
    """

    name: str
    parameters: Parameters
    transposed: bool = False
    layer: str = ""

    @property
    def value(self) -> nn.Parameter:
        """What the model has under this name now."""
        return self.parameters[self.name]


def assign(
    model: nn.Module,
    pruners: Sequence[PrunerConf],
    modules: Sequence[str] = (),
    say: Callable[[str], object] = lambda line: None,
) -> list[list[Weight]]:
    """Return the weights of each pruner.

    ``names`` are parameters, with ``*`` for the numbers of layers, or globs of them; biases and
    what else has one dimension is passed over, but for ``parameters`` of structure. A pruner
    without ``names`` takes every weight of two dimensions or more that no other one names, but for
    embeddings and parametrized ones.

    Args:
        model: whose parameters.
        pruners: with all values filled in.
        modules: names or globs of modules, to which all pruners are restricted.
        say: takes a line for people.

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
    for line in known.readings(owners):
        say(line)
    return found


class _Known:
    """The parameters of a model, by all their names."""

    def __init__(self, model: nn.Module) -> None:
        self._read: list[tuple[str, str, Matches]] = []
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
        excluded = self._excluded(pruner, least, place)
        found: dict[int, Weight] = {}
        for pattern in pruner.names:
            layers = self._meant(pattern, least, f"{place}.names").layers
            fitting = [name for name in layers if self._parameters[name].dim() >= least]
            if not fitting:
                name = next(iter(layers))
                raise ConfError(
                    f"`{place}.names` has `{pattern}`, which matches no weight of two dimensions or"
                    f" more; `{name}` is {list(self._parameters[name].shape)}"
                )
            for name in fitting:
                if id(self._parameters[name]) not in excluded:
                    weight = self._weight(name, layers[name])
                    found.setdefault(id(self._parameters[name]), weight)
        return list(found.values())

    def others(self, pruner: PrunerConf, owners: Iterable[int], place: str) -> list[Weight]:
        """Return every weight that is in nobody's hands."""
        taken = {*owners, *self._excluded(pruner, 2, place)}
        found = {
            id(value): self._weight(name)
            for name, value in reversed(list(self._parameters.items()))  # the first of tied names
            if id(value) not in taken and self._is_usual(name)
        }
        return list(found.values())[::-1]

    def _excluded(self, pruner: PrunerConf, least: int, place: str) -> set[int]:
        """Return the ``id``s of what a pruner leaves out."""
        patterns, key = pruner.excluded_names, f"{place}.excluded_names"
        names = [name for one in patterns for name in self._meant(one, least, key).layers]
        return {id(self._parameters[name]) for name in names}

    def _meant(self, pattern: str, least: int, key: str) -> Matches:
        """Return what a name means among parameters of ``least`` dimensions, else among all."""
        fitting = [name for name, value in self._parameters.items() if value.dim() >= least]
        found = matches(pattern, fitting)
        self._read.append((key, pattern, found))
        found = found if found.layers else matches(pattern, list(self._parameters))
        if not found.layers:
            near = did_you_mean(pattern, self._parameters)
            raise ConfError(f"`{key}` has `{pattern}`, which matches no parameter.{near}")
        return found

    def readings(self, owners: Collection[int]) -> Iterator[str]:
        """Yield what to tell of each ``*`` that could also mean what decides who is pruned."""
        for key, pattern, found in self._read:
            excludes = key.endswith("excluded_names")
            passed = [n for n in found.passed if (id(self._parameters[n]) in owners) == excludes]
            if passed:
                yield (
                    f"`{key}` has `{pattern}`, where `*` is the number of a layer, as in LPOT:"
                    f" {quoted(found.layers, 2)}. Any text in its place would also match"
                    f" {quoted(passed, 2)}; write `**` if you mean that"
                )

    def _weight(self, name: str, layer: str = "") -> Weight:
        owner = self._modules[name.rpartition(".")[0]]
        return Weight(name, self._parameters, isinstance(owner, _ConvTransposeNd), layer)

    def _is_usual(self, name: str) -> bool:
        owner, _, _ = name.rpartition(".")
        embeds = isinstance(self._modules[owner], nn.Embedding | nn.EmbeddingBag)
        parametrized = "parametrizations" in name.split(".")
        return self._parameters[name].dim() >= 2 and not embeds and not parametrized


def _ends(name: str, cut: int) -> bool:
    """Return whether a name that is ``cut`` shorter ends with a whole piece."""
    return cut == 0 or name[len(name) - cut] == "."
