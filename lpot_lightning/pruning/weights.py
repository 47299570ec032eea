"""Which parameters a pruner prunes."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from torch import nn
from torch.nn.modules.conv import _ConvTransposeNd
from torch.nn.parameter import is_lazy

from lpot_lightning.conf.schema import PrunerConf
from lpot_lightning.errors import ConfError, PruningError, did_you_mean, quoted
from lpot_lightning.pruning.names import Matches, matches
from lpot_lightning.pruning.parameters import Parameters
from lpot_lightning.pruning.untrained import modules_above, topmost

PLACE = "pruning.approach.weight_compression.pruners"
UNTRAINED = "nothing trains it"


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
    *,
    say: Callable[[str], object] = lambda line: None,
    frozen: Collection[str] = (),
) -> list[list[Weight]]:
    """Return the weights of each pruner.

    ``names`` are parameters, with ``*`` for the numbers of layers, or globs of them; biases and
    what else has one dimension is passed over, but for ``parameters`` of structure. A pruner
    without ``names`` takes every weight of two dimensions or more that no other one names, but for
    embeddings, parametrized ones, and those that nothing trains. A module that nothing trains as a
    whole is pruned where ``modules`` name it; what has zeros to lock is locked, trained or not.

    Args:
        model: whose parameters.
        pruners: with all values filled in.
        modules: names or globs of modules, to which all pruners are restricted.
        say: takes a line for people.
        frozen: names of the parameters that nothing trains.

    Raises:
        ConfError: if a name or glob matches nothing, two pruners name one parameter, or nothing is
            left for one.
        PruningError: if a parameter has no shape yet.
    """
    known = _Known(model, modules, frozen)
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
        found[number] = [one for one in found[number] if known.is_in(one.name)]
        if not found[number]:
            raise ConfError(
                f"`{PLACE}[{number}]` prunes nothing: no weight is left for it"
                + (" in `modules`" if modules else "")
                + "".join(f"; {line}" for line in known.left_alone(owners))
            )
    pairs = zip(pruners, found, strict=True)
    moved = [one for pruner, weights in pairs if _moves(pruner) for one in weights]
    for line in (*known.readings(owners), *known.left_alone(owners), *known.lost(moved)):
        say(line)
    return found


def _moves(pruner: PrunerConf) -> bool:
    """Return whether a pruner sets anything to zero that is not."""
    return pruner.prune_type != "pattern_lock"


class _Known:
    """The parameters of a model, by all their names."""

    def __init__(self, model: nn.Module, modules: Sequence[str], frozen: Collection[str]) -> None:
        self._read: list[tuple[str, str, Matches]] = []
        self._alone: dict[str, dict[str, None]] = {}
        self._parameters = Parameters(model)
        self._modules = dict(model.named_modules(remove_duplicate=False))
        if unknown := [name for name, value in self._parameters.items() if is_lazy(value)]:
            raise PruningError(
                f"no shape is known before the first batch of {quoted(unknown, 3)}, and what is"
                " pruned is chosen before it: call the model with a batch once, before the training"
            )
        self._wide = [name for name, value in self._parameters.items() if value.dim() >= 2]
        self._frozen, self._chosen = set(frozen), modules
        self._named = self._matching_modules(modules)

    def _matching_modules(self, modules: Iterable[str]) -> set[str]:
        """Return the modules that are meant, or raise a ``ConfError`` where one is none."""
        names, found = [name for name in self._modules if name], set()
        for pattern in modules:
            meant = {name for name in names if fnmatchcase(name, pattern)}
            if not meant:
                near = did_you_mean(pattern, names)
                raise ConfError(f"`modules` has `{pattern}`, which matches no module.{near}")
            found |= meant
        return found

    def is_in(self, name: str) -> bool:
        """Return whether the owner of a parameter is one of ``modules``, or in one."""
        return not self._chosen or not self._named.isdisjoint(modules_above(name))

    def _is_wanted(self, name: str) -> bool:
        """Return whether ``modules`` name a module around it that nothing trains as a whole."""
        around = self._named.intersection(modules_above(name))
        inside = ([one for one in self._wide if one.startswith(f"{path}.")] for path in around)
        return any(self._frozen.issuperset(those) for those in inside)

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
        """Return every weight that is in nobody's hands, and that pruning suits."""
        taken = {*owners, *self._excluded(pruner, 2, place)}
        found: dict[int, Weight] = {}
        for name in reversed(self._wide):  # the first of tied names
            value = self._parameters[name]
            if id(value) in taken:
                continue
            why = self._unsuited(name, pruner)
            if not why:
                found[id(value)] = self._weight(name)
            elif self.is_in(name):
                self._alone.setdefault(why, {})[name] = None
        return list(found.values())[::-1]

    def _unsuited(self, name: str, pruner: PrunerConf) -> str:
        """Return why a weight is not pruned unless it is named, ``""`` if it is."""
        if name in self._frozen and _moves(pruner) and not self._is_wanted(name):
            return UNTRAINED
        owner, _, _ = name.rpartition(".")
        if isinstance(self._modules[owner], nn.Embedding | nn.EmbeddingBag):
            return "embeddings"
        return "parametrized weights" if "parametrizations" in name.split(".") else ""

    def left_alone(self, owners: Collection[int]) -> Iterator[str]:
        """Yield what to tell of weights that pruners without ``names`` do not take."""
        alone: dict[str, str] = {}
        for why, names in self._alone.items():
            if left := [name for name in names if id(self._parameters[name]) not in owners]:
                alone[why] = self._topmost(left)  # the others are tied to what is pruned
        if untrained := alone.pop(UNTRAINED, None):
            yield (
                f"not pruned, because nothing trains it when pruning begins: {untrained}. It could"
                " not recover; name it in `names` or `modules` to prune it all the same"
            )
        if alone:
            told = "; ".join(f"{why}: {those}" for why, those in sorted(alone.items()))
            yield f"not pruned where no `names` ask for it: {told}"

    def lost(self, weights: Iterable[Weight]) -> Iterator[str]:
        """Yield what to tell of weights that are pruned and cannot recover."""
        names = {one.name: None for one in weights if one.name in self._frozen}
        if names:
            yield (
                f"pruned as `names` or `modules` ask, and nothing trains it when pruning begins:"
                f" {self._topmost(names)}. It cannot recover until something does"
            )

    def _topmost(self, names: Collection[str]) -> str:
        return quoted(topmost([one for one in self._wide if one in names], self._wide), 5)

    def _excluded(self, pruner: PrunerConf, least: int, place: str) -> set[int]:
        """Return the ``id``s of what a pruner leaves out."""
        patterns, key = pruner.excluded_names, f"{place}.excluded_names"
        names = [name for one in patterns for name in self._meant(one, least, key).layers]
        return {id(self._parameters[name]) for name in names}

    def _meant(self, pattern: str, least: int, key: str) -> Matches:
        """Return what a name means among parameters of ``least`` dimensions, else among all."""
        found = matches(pattern, self._wide if least > 1 else list(self._parameters))
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
