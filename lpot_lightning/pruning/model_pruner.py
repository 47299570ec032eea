"""All pruners of one model, and when they step."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from math import ceil
from typing import Any

from torch import Tensor, nn

from lpot_lightning.conf.schema import ENDS, PrunerConf, Unit
from lpot_lightning.errors import ArtifactError, ConfError, quoted
from lpot_lightning.pruning.channel_pruner import ChannelPruner
from lpot_lightning.pruning.channels.group import ChannelGroups
from lpot_lightning.pruning.channels.plan import ChannelPlan, channel_plan_of
from lpot_lightning.pruning.heads import HeadPruner
from lpot_lightning.pruning.masks import Masks
from lpot_lightning.pruning.parameters import Parameters
from lpot_lightning.pruning.pruners import LayerSparsity, PatternLock, Pruner, WeightPruner
from lpot_lightning.pruning.schedule import Schedule
from lpot_lightning.pruning.untrained import frozen_in
from lpot_lightning.pruning.weights import PLACE, Weight, assign
from lpot_lightning.training_log import SparsityLog, SparsityNotes, TrainingLog

STAIRS = 100
"""Into how many stairs a schedule in steps is divided where nothing else is asked for."""

WAITS = 100
"""Steps for which a stair waits for gradients of all its weights."""


def prunes_channels(pruners: Sequence[PrunerConf]) -> bool:
    """Return whether the groups of a model's channels have to be found."""
    return any(one.pattern == "channel" for one in pruners)


def schedule_of(pruner: PrunerConf) -> Schedule:
    """Return when a pruner, all its values filled in, is how sparse."""
    by_count = pruner.parameters is not None and "target" in pruner.parameters
    locked = pruner.prune_type == "pattern_lock"
    unit = pruner.unit or "epoch"
    start, end = (0 if locked else getattr(pruner, name) or 0 for name in ENDS[unit])
    usual = 1 if unit == "epoch" else max(1, ceil((end - start) / STAIRS))
    return Schedule(
        initial_sparsity=0.0 if locked else pruner.initial_sparsity or 0.0,
        target_sparsity=1.0 if by_count else 0.0 if locked else pruner.target_sparsity or 0.0,
        start=start,
        end=end,
        unit=unit,
        update_frequency=pruner.update_frequency or usual,
        kind="cubic" if pruner.schedule == "cubic" else "linear",
    )


class ModelPruner:
    """Prunes a model while it trains.

    ``begin_epoch`` at the start of each epoch, ``begin_step`` before each batch, ``observe`` when
    gradients are there, ``apply`` after each step of an optimizer. The model keeps its modules and
    parameters; only values change.

    Args:
        model: is pruned in place.
        pruners: with all values filled in.
        modules: names or globs of modules, to which they are restricted.
        channels: the groups of the model's channels, where a pruner has ``pattern: channel``.
        agree: makes tensors the same in all processes, in place.
        say: takes a line for people about what is pruned.
        frozen: names of the parameters that nothing trains, by default those that want no gradient.

    Raises:
        ConfError: if names match nothing, or a pattern does not divide a weight.

    Example::

        pruner = ModelPruner(model, conf.pruning.approach.weight_compression.resolved())
        for epoch in range(10):
            pruner.begin_epoch(epoch)
            for number, batch in enumerate(data):
                pruner.begin_step(epoch * len(data) + number)
                model.training_step(batch).backward()
                pruner.observe()
                optimizer.step()
                pruner.apply()
    """

    def __init__(
        self,
        model: nn.Module,
        pruners: Sequence[PrunerConf],
        modules: Sequence[str] = (),
        channels: ChannelGroups | None = None,
        agree: Callable[[Sequence[Tensor]], None] = lambda tensors: None,
        *,
        say: Callable[[str], object] = lambda line: None,
        frozen: Collection[str] | None = None,
    ) -> None:
        self._model = model
        self.masks = Masks(model)
        self._agree, self._channels = agree, channels
        self._schedules = [schedule_of(one) for one in pruners]
        self._at = [0.0] * len(pruners)
        self._begun = self._observed = False
        self._notes = SparsityNotes()
        self._anew: dict[int, bool] = {}
        self._fresh: list[set[str]] = [set() for _ in pruners]  # gradients since the last stair
        self._due: list[int | None] = [None] * len(pruners)  # the step that waits for others
        self._frozen = sorted(frozen_in(model) if frozen is None else frozen)
        weights = assign(model, pruners, modules, say=say, frozen=self._frozen)
        self._pruners = [
            self._made(model, conf, those, f"{PLACE}[{number}]")
            for number, (conf, those) in enumerate(zip(pruners, weights, strict=True))
        ]
        self._check_groups()
        for line in self._to_tell(pruners):
            say(line)
        self._shapes = {
            weight.name: weight.value.shape for one in self._pruners for weight in one.weights
        }
        self._asked = [_asked(conf, those) for conf, those in zip(pruners, weights, strict=True)]

    def _made(
        self, model: nn.Module, conf: PrunerConf, weights: Sequence[Weight], place: str
    ) -> Pruner:
        if conf.prune_type == "pattern_lock":
            return PatternLock(weights, self.masks, place)
        if conf.pattern == "channel":
            assert self._channels is not None
            found, frozen = self._channels, self._frozen
            return ChannelPruner(conf, weights, self.masks, model, found, place, frozen)
        if conf.parameters is not None:
            return HeadPruner(conf, weights, self.masks, model, place)
        return WeightPruner(conf, weights, self.masks, place)

    def _to_tell(self, pruners: Sequence[PrunerConf]) -> Iterator[str]:
        """Yield what to tell of channels that stay, and of several parts that nobody named."""
        if held := [name for one in self._pruners for name in getattr(one, "held", ())]:
            yield (
                f"not pruned, because layers that nothing trains give them, too: the channels of"
                f" {quoted(held, 5)}"
            )
        sizes: dict[str, int] = {}
        for conf, one in zip(pruners, self._pruners, strict=True):
            if not conf.names and conf.prune_type != "pattern_lock":
                for layer in one.layers(Parameters(self._model)):
                    part = layer.name.partition(".")[0]
                    sizes[part] = sizes.get(part, 0) + layer.elements
        shares = [f"`{part}` {size / sum(sizes.values()):.1%}" for part, size in sizes.items()]
        told = ", ".join(shares[:8]) + (f" and {len(shares) - 8} more" if len(shares) > 8 else "")
        if shares[1:]:
            yield f"weights that are pruned without being named are in: {told}"

    def _check_groups(self) -> None:
        """Refuse two pruners of the same channels."""
        owners: dict[str, int] = {}
        for number, one in enumerate(self._pruners):
            for group in one.groups if isinstance(one, ChannelPruner) else ():
                other = owners.setdefault(group.name, number)
                if other != number:
                    raise ConfError(
                        f"`{PLACE}[{other}]` and `[{number}]` prune the channels of"
                        f" `{group.name}`, which only go together: name them in one"
                    )

    @property
    def needs_gradients(self) -> bool:
        """Whether ``observe`` has anything to do."""
        return any(one.needs_gradients for one in self._pruners)

    @property
    def begun(self) -> bool:
        """Whether an epoch has begun."""
        return self._begun

    @property
    def reached(self) -> bool:
        """Whether every pruner was asked for its target; ``reached_in`` counts what is there."""
        return self._begun and not self.unreached

    @property
    def unreached(self) -> list[Schedule]:
        """The schedules that did not come to their target yet."""
        both = zip(self._at, self._schedules, strict=True)
        return [one for at, one in both if at < one.target_sparsity]

    @property
    def awaited(self) -> list[str]:
        """The weights that are to be pruned, and that no step has given a gradient yet."""
        waiting = zip(self._pruners, self._due, self._fresh, strict=True)
        return [
            weight.name
            for one, due, fresh in waiting
            if due is not None
            for weight in one.weights
            if weight.name not in fresh
        ]

    @property
    def has_pruned(self) -> bool:
        """Whether any weight is pruned."""
        return any(bool((mask == 0).any()) for mask in self.masks.tensors())

    def begin(self) -> None:
        """Take up what is zero already, where a pruner locks it; only the first call does."""
        if not self._begun:
            for one in self._pruners:
                one.begin()
            self._begun = True

    def begin_epoch(self, epoch: int) -> bool:
        """Prune to what the schedules in epochs ask of this one; what is pruned stays so.

        Returns:
            whether anything more was pruned.

        Raises:
            ConfError: if gradients are needed to prune, and none was seen yet.
            PruningError: if some weight got no gradient.
        """
        pruned = self._prune_to(self._wanted("epoch", epoch), f"epoch {epoch}")
        return pruned and self._noted("epoch", epoch)

    def begin_step(self, step: int) -> bool:
        """Prune to what the schedules in steps ask of this one, as ``begin_epoch`` does.

        Args:
            step: how many the optimizer has made; the same one may begin again.
        """
        if not any(one.unit == "step" for one in self._schedules):
            return False
        wanted = self._wanted("step", step)
        for number, at in enumerate(self._at):
            if wanted[number] > at and self._waits(number, step):
                wanted[number] = at
        return self._prune_to(wanted, f"step {step}") and self._noted("step", step)

    @property
    def log(self) -> tuple[SparsityLog, ...]:
        """How sparse each parameter was whenever more was pruned."""
        return self._notes.noted

    def _noted(self, unit: Unit, at: int) -> bool:
        layers = {one.name: one.sparsity for one in self.layers()}
        self._notes.note(SparsityLog(unit=unit, at=at, layers=layers), last=self.reached)
        return True

    def _waits(self, number: int, step: int) -> bool:
        """Return whether a weight has no gradient yet, as where optimizers take turns."""
        one, due = self._pruners[number], self._due[number]
        names = {weight.name for weight in one.weights}
        if not self._observed or not one.needs_gradients or names <= self._fresh[number]:
            return False
        self._due[number] = step if due is None else due
        return due is None or step < due + WAITS

    def _wanted(self, unit: Unit, at: int) -> list[float]:
        return [
            one.sparsity(at) if one.unit == unit else before
            for one, before in zip(self._schedules, self._at, strict=True)
        ]

    def finish(self) -> bool:
        """Prune to the targets at once, whatever the schedules say."""
        return self._prune_to([one.target_sparsity for one in self._schedules], "this epoch")

    def _prune_to(self, wanted: Sequence[float], when: str) -> bool:
        first = not self._begun
        self._take_up_exchanges()
        self.begin()
        late = [n for n, at in enumerate(self._at) if wanted[n] > at]
        for number in late:
            if not self._observed and self._pruners[number].needs_gradients:
                unit = self._schedules[number].unit
                raise ConfError(
                    f"`{PLACE}[{number}]` is to be at sparsity {wanted[number]:g} in {when}, the"
                    " first of this training, and `gradient_sensitivity` needs the gradients of"
                    f" {'an epoch' if unit == 'epoch' else 'a step'} before: let `start_{unit}` be"
                    " later, or `initial_sparsity` 0"
                )
            self._at[number] = wanted[number]
            self._fresh[number], self._due[number] = set(), None
            if number not in self._anew:
                self._pruners[number].prune_to(wanted[number])
        if late or first:
            self._agree(self.masks.tensors())
            self.masks.apply()
        return bool(late)

    def observe(self, only: Collection[int] | None = None) -> None:
        """Take in the gradients that are there.

        Args:
            only: ``id``s of the parameters whose gradients are new; all are, where it is left out.
        """
        self._take_up_exchanges()
        self._observed = True
        self._anew = dict.fromkeys(self._anew, True)
        for one, fresh in zip(self._pruners, self._fresh, strict=True):
            one.observe(only)
            fresh |= {
                weight.name
                for weight in one.weights
                if one.needs_gradients
                if weight.value.grad is not None and (only is None or id(weight.value) in only)
            }

    def apply(self) -> list[str]:
        """Make what is pruned zero again, also in a parameter that was exchanged for another.

        Returns:
            the names of those that were exchanged since the last time.

        Raises:
            LpotError: if one was exchanged for another of a shape that cannot be pruned so.
        """
        self._take_up_exchanges()
        self._choose_anew()
        exchanged = self.masks.exchanged()
        self.masks.apply()
        return exchanged

    def _take_up_exchanges(self) -> None:
        """Forget what was chosen of a parameter that has another shape now."""
        for number, one in enumerate(self._pruners):
            changed = [w for w in one.weights if w.value.shape != self._shapes[w.name]]
            for weight in changed:
                one.refit(weight)
                self._shapes[weight.name] = weight.value.shape
                self.masks.forget(weight.name)
            if changed:
                self._anew[number] = not one.needs_gradients

    def _choose_anew(self) -> None:
        """Prune what has another shape now, as soon as a gradient was seen where one is needed."""
        ready = [number for number, is_ready in self._anew.items() if is_ready]
        for number in ready:
            del self._anew[number]
            self._pruners[number].prune_to(self._at[number])
        if ready:
            self._agree(self.masks.tensors())

    def reached_in(self, model: nn.Module) -> bool:
        """Return whether the zeros are there that every pruner was to make, by counting them.

        Args:
            model: the pruned model, or a copy of it.
        """
        values = dict(model.named_parameters(remove_duplicate=False))
        targets = [one.target_sparsity for one in self._schedules]
        return (
            self._begun
            and self.masks.hold_in(values)
            and all(
                one.is_reached(values, target)
                for one, target in zip(self._pruners, targets, strict=True)
            )
        )

    def layers(self, model: nn.Module | None = None) -> tuple[LayerSparsity, ...]:
        """Return how sparse each pruned parameter is, in the pruned model or a copy of it."""
        owner = self._model if model is None else model
        values = dict(owner.named_parameters(remove_duplicate=False))
        return tuple(layer for one in self._pruners for layer in one.layers(values))

    def plan(self, model: nn.Module) -> ChannelPlan | None:
        """Return the plan that cuts pruned channels out of a dense ``model`` of the same class.

        Returns:
            ``None`` if no pruner prunes channels.
        """
        channels = [one for one in self._pruners if isinstance(one, ChannelPruner)]
        if not channels:
            return None
        groups = [group for one in channels for group in one.groups]
        return channel_plan_of(
            model, groups, {name: k for one in channels for name, k in one.kept.items()}
        )

    def state(self) -> dict[str, Any]:
        """Return plain values and tensors that ``load`` goes on from."""
        return {
            "asked": self._asked,
            "frozen": self._frozen,
            "begun": self._begun,
            "at": list(self._at),
            "fresh": [sorted(one) for one in self._fresh],
            "due": list(self._due),
            "masks": self.masks.state(),
            "pruners": [one.state() for one in self._pruners],
            "log": TrainingLog(sparsity=self.log).to_dict(),
        }

    def load(self, state: Mapping[str, Any]) -> None:
        """Take up what ``state`` gave, and apply it.

        Raises:
            ArtifactError: if it is damaged, or of other pruners or another model.
        """
        at, pruners = state.get("at"), state.get("pruners")
        for found in (at, pruners):
            if not isinstance(found, list) or len(found) != len(self._pruners):
                raise ArtifactError(
                    "the checkpoint was pruned by other pruners than the YAML has now: go on with"
                    " the YAML that it was trained with, or begin a new fit from its weights"
                )
        assert isinstance(at, list)
        assert isinstance(pruners, list)
        _check_same(state.get("asked", self._asked), self._asked)
        masks = state.get("masks")
        if not isinstance(masks, Mapping):
            raise ArtifactError("the masks in the checkpoint are damaged")
        if not all(isinstance(one, float) for one in at):
            raise ArtifactError("`pruner.at` in the checkpoint is damaged")
        if not all(isinstance(one, Mapping) for one in pruners):
            raise ArtifactError("`pruner.pruners` in the checkpoint is damaged")
        self.masks.load(masks)
        for one, saved in zip(self._pruners, pruners, strict=True):
            one.load(saved)
        self._at = [float(one) for one in at]
        self._take_up_waiting(state)
        self._take_up_log(state.get("log"))
        self._begun = self._observed = bool(state.get("begun"))
        self.masks.apply()

    def _take_up_waiting(self, state: Mapping[str, Any]) -> None:
        number = len(self._pruners)
        fresh, due = state.get("fresh", [[]] * number), state.get("due", [None] * number)
        for found, kind, name in ((fresh, list, "fresh"), (due, int | None, "due")):
            is_list = isinstance(found, list) and len(found) == number
            if not is_list or not all(isinstance(one, kind) for one in found):
                raise ArtifactError(f"`pruner.{name}` in the checkpoint is damaged")
        self._fresh, self._due = [set(one) for one in fresh], list(due)

    def _take_up_log(self, found: object) -> None:
        """Go on with the notes of the checkpoint; those of earlier versions have none."""
        if found is None:
            return
        try:
            log = TrainingLog.from_dict(found)  # type: ignore[arg-type]
        except (TypeError, KeyError, ValueError) as error:
            raise ArtifactError("`pruner.log` in the checkpoint is damaged") from error
        self._notes = SparsityNotes(log.sparsity)

    def close(self) -> None:
        """Take all hooks out of the model; what is pruned stays zero only until it is trained."""
        for one in self._pruners:
            one.close()


def _asked(conf: PrunerConf, weights: Sequence[Weight]) -> dict[str, Any]:
    """Return what of a pruner gives the masks that it has made their meaning."""
    return {
        "prune_type": conf.prune_type,
        "pattern": conf.pattern,
        "method": conf.method,
        "prune_domain": conf.prune_domain,
        "parameters": repr(conf.parameters),
        "names": sorted(one.name for one in weights),
    }


def _check_same(saved: object, asked: Sequence[Mapping[str, Any]]) -> None:
    """Refuse masks that were made for something else: they would be taken for what is asked now."""
    for number, now in enumerate(asked):
        before = saved[number] if isinstance(saved, list) and len(saved) == len(asked) else None
        if not isinstance(before, Mapping):
            raise ArtifactError("`pruner.asked` in the checkpoint is damaged")
        for field, value in now.items():
            if before.get(field) != value:
                raise ArtifactError(
                    f"the checkpoint was pruned with {_shown(before.get(field))} as"
                    f" `{PLACE}[{number}].{field}`, the YAML has {_shown(value)}: go on with the"
                    " YAML that it was trained with, or begin a new fit from its weights"
                )


def _shown(value: object) -> str:
    """Return a value for people; of a long list the first."""
    return quoted(value, 3) if isinstance(value, list) else f"`{value}`"
