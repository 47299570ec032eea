"""When ranges and BatchNorm statistics stop changing while a model is trained for int8."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from lightning.pytorch import LightningModule
from torch.nn.modules.batchnorm import _BatchNorm

from lpot_lightning.callbacks.length import Length
from lpot_lightning.conf.schema import Unit
from lpot_lightning.errors import ConfError


@dataclass(frozen=True)
class Moment:
    """An epoch, and a step of the optimizer, both counted from 0; ``None`` is never."""

    epoch: int | None = None
    step: int | None = None

    def has_come(self, now: Moment) -> bool:
        """Whether either of them has come."""
        epochs, steps = (now.epoch, self.epoch), (now.step, self.step)
        return any(a is not None and b is not None and a >= b for a, b in (epochs, steps))


@dataclass(frozen=True)
class FreezePlan:
    """From when on something is frozen.

    Args:
        batch_norm: statistics of BatchNorm.
        observers: ranges of activations.
    """

    batch_norm: Moment = Moment()
    observers: Moment = Moment()

    @staticmethod
    def of(length: Length, first: Moment, asked: Mapping[str, Moment]) -> FreezePlan:
        """Return the plan that was asked for, with a default where nothing was.

        That is half of the training for BatchNorm and three quarters for ranges: what the weights
        are rounded by is settled first, and the weights have time to follow. Epochs count where
        ``max_epochs`` ends the training, steps where ``max_steps`` does, or where there is one
        epoch. Without a known end nothing is frozen.

        Args:
            length: of the fit, as far as it is known.
            first: the first epoch and step of the training for int8.
            asked: by argument of ``QATCallback``; those that were not given have neither.

        Raises:
            ConfError: if an epoch or step is asked for that there is not, or that leaves nothing
                to learn.
        """
        for name, moment in asked.items():
            _check_end(name, moment, length)
        _check_start(asked["freeze_observers"], first)
        return FreezePlan(
            _given(asked["freeze_batch_norm"]) or _default(length, first, _half),
            _given(asked["freeze_observers"]) or _default(length, first, _three_quarters),
        )


def _given(asked: Moment) -> Moment | None:
    return None if asked == Moment() else asked


def _default(length: Length, first: Moment, share: Callable[[int], int]) -> Moment:
    """Return where a share of the training is over, by each limit: the nearer one comes first."""
    epoch, step, most = first.epoch or 0, first.step or 0, length.max_epochs
    is_one_epoch = most is not None and most - epoch == 1
    last_step = length.steps if is_one_epoch else length.max_steps
    return Moment(_after(epoch, most, share), _after(step, last_step, share))


def _after(begin: int, end: int | None, share: Callable[[int], int]) -> int | None:
    """Return where a share of a way is over; ``None`` if it is too short to be shared."""
    whole = 0 if end is None else end - begin
    return None if whole < 2 else begin + share(whole)


def _half(whole: int) -> int:
    return (whole + 1) // 2


def _three_quarters(whole: int) -> int:
    return max(1, whole * 3 // 4)


def _check_end(name: str, asked: Moment, length: Length) -> None:
    """Refuse to freeze something when all is over."""
    limits: dict[Unit, tuple[int | None, int | None]] = {
        "epoch": (asked.epoch, length.max_epochs),
        "step": (asked.step, length.steps),
    }
    for unit, (at, most) in limits.items():
        if at is not None and most is not None and at >= most:
            ended = f"`max_epochs` is {most}" if unit == "epoch" else f"there are {most} steps"
            raise ConfError(
                f"`{argument(name, unit)}` is {at}, and {ended}: no {unit} is left in which it"
                " would be frozen; train longer, freeze earlier, or leave it out for the default"
            )
    if asked.epoch is not None and asked.epoch > length.epoch:
        _check_epoch(name, asked.epoch, length)


def _check_epoch(name: str, epoch: int, length: Length) -> None:
    """Refuse an epoch that ``max_steps`` leaves no time for."""
    first, most = length.first_step_of(epoch), length.max_steps
    way = f"`{argument(name, 'step')}` in place of it counts steps"
    if most is not None and first is not None and first >= most:
        raise ConfError(
            f"`{name}` is {epoch}, an epoch that begins after {first} steps, and `max_steps` is"
            f" {most}: it would never be frozen; train longer, or freeze earlier; {way}"
        )
    if most is not None and length.is_endless and length.max_epochs is None:
        raise ConfError(
            f"`{name}` is {epoch}, and the training data have no length: `max_steps={most}` may"
            " end the fit in its first epoch. Say by `limit_train_batches` how many batches an"
            f" epoch has; {way}"
        )


def _check_start(asked: Moment, first: Moment) -> None:
    """Refuse to freeze ranges before any was learned."""
    units: dict[Unit, tuple[int | None, int | None]] = {
        "epoch": (asked.epoch, first.epoch),
        "step": (asked.step, first.step),
    }
    for unit, (at, begin) in units.items():
        if at is not None and begin is not None and at <= begin:
            raise ConfError(
                f"`{argument('freeze_observers', unit)}` is {at}, and the training for int8 begins"
                f" with {unit} {begin}: the ranges of activations would never be learned; take a"
                " later one, or leave it out for the default"
            )


def argument(name: str, unit: Unit) -> str:
    """Return the argument by which something is frozen."""
    return name if unit == "epoch" else f"{name}_step"


def has_batch_norm(module: LightningModule) -> bool:
    """Whether there are statistics to be frozen."""
    return any(isinstance(one, _BatchNorm) for one in module.modules())


class BatchNorms:
    """Freezes the BatchNorm layers of a module that is in training mode, and lets them go again."""

    def __init__(self) -> None:
        self._frozen: list[_BatchNorm] = []

    def freeze(self, module: LightningModule) -> None:
        """Put those into eval mode that learn; those that the user froze are left alone."""
        for norm in module.modules():
            if isinstance(norm, _BatchNorm) and norm.training and norm.track_running_stats:
                norm.training = False
                if norm not in self._frozen:
                    self._frozen.append(norm)

    def release(self) -> None:
        """Put those into training mode that ``freeze`` put out of it."""
        for norm in self._frozen:
            norm.training = True
        self._frozen = []
