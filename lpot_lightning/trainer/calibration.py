"""Which batches the observers see."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any, Literal

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.utilities import CombinedLoader

from lpot_lightning.errors import DataError
from lpot_lightning.machine.random_numbers import seeded
from lpot_lightning.machine.ranks import Ranks
from lpot_lightning.trainer.loaders import combined, given_back, share, take, unshuffled
from lpot_lightning.trainer.passes import Passes

Source = Literal["train", "val"]
HOOK = "calib_dataloader"
VALIDATION = "the validation data"


@dataclass(frozen=True)
class CalibrationData:
    """Batches held in memory, one list a validation dataloader of the user.

    Args:
        batches: where ``validation_step`` takes a ``dataloader_idx`` and the data is not its own,
            all of them come under index 0.
        samples: how many samples they hold.
        origin: where they come from, for people.
    """

    batches: tuple[tuple[Any, ...], ...]
    samples: int
    origin: str


class Calibration:
    """The calibration batches of this process, drawn when they are first asked for.

    Args:
        trainer: whose data it may be; of the ``owner``, too.
        owner: the user's module.
        val: gives the validation loaders.
        wanted: how many samples, of all processes together.
        calib: ``"train"`` or ``"val"``.
        train: training data, where it is not that of the trainer.
        passes: for the seed, and the processes that share the samples.
    """

    def __init__(
        self,
        trainer: Trainer,
        owner: LightningModule,
        val: Callable[[], CombinedLoader],
        *,
        wanted: int,
        calib: Source,
        train: Any,
        passes: Passes,
    ) -> None:
        self._trainer, self._owner, self._val = trainer, owner, val
        self._calib, self._train, self._passes = calib, train, passes
        self._ranks, self.wanted = passes.ranks, wanted
        self._size = math.ceil(wanted / passes.ranks.size)
        self._drawn: tuple[CalibrationData, int] | None = None

    @property
    def _data(self) -> CalibrationData:
        return self._draw()[0]

    @property
    def batches(self) -> tuple[tuple[Any, ...], ...]:
        """One list a validation loader of the user's."""
        return self._data.batches

    @property
    def user(self) -> CombinedLoader:
        """The validation loaders of the user, in whose places the batches stand."""
        return self._val()

    @property
    def origin(self) -> str:
        """Where they come from, for people."""
        return self._data.origin

    @property
    def samples(self) -> int:
        """How many samples they hold, those of all processes together."""
        return self._draw()[1]

    @property
    def first(self) -> tuple[tuple[Any, ...], ...]:
        """The first batch alone, where it stands."""
        number = next(i for i, batches in enumerate(self.batches) if batches)
        return tuple(batches[:1] if i == number else () for i, batches in enumerate(self.batches))

    def take_validation_data(self) -> None:
        """Give up what was wanted."""
        self._drawn = self._together(self._validation)

    def _draw(self) -> tuple[CalibrationData, int]:
        if self._drawn is None:
            self._drawn = self._together(self._asked)
        return self._drawn

    def _together(self, collect: Callable[[], CalibrationData]) -> tuple[CalibrationData, int]:
        """Return the batches, and how many samples all processes hold."""

        def seedily() -> CalibrationData:
            with seeded(self._passes.seed):
                return collect()

        data = self._ranks.together(seedily)
        return data, sum(self._ranks.gather(data.samples))

    def _asked(self) -> CalibrationData:
        data = collect_hook(self._trainer, self._owner, self._size, self._ranks)
        if data is None and self._calib == "train":
            data = collect_train(self._trainer, self._train, self._size, self._ranks)
            if data is None:
                self._passes.say(
                    "there is no training data that can be read: calibrating on the validation data"
                )
        if data is None:
            return self._validation()
        return padded(data, len(self._val().flattened))

    def _validation(self) -> CalibrationData:
        return collect_val(self._val(), self._size, self._ranks)


def collect_hook(
    trainer: Trainer, module: LightningModule, size: int, ranks: Ranks
) -> CalibrationData | None:
    """Take ``size`` samples from ``calib_dataloader()`` of datamodule or module, if there is one.

    Raises:
        DataError: if it gives nothing.
    """
    for owner in (trainer.datamodule, module):  # type: ignore[attr-defined]
        hook = getattr(owner, HOOK, None)
        if callable(hook):
            origin = f"`{type(owner).__name__}.{HOOK}()`"
            return _collect(combined(hook()), size, origin, trainer, ranks)
    return None


def collect_train(trainer: Trainer, given: Any, size: int, ranks: Ranks) -> CalibrationData | None:
    """Take ``size`` samples of the training data, unshuffled; ``None`` if there is none.

    There is none, too, in a generator that the training has read to its end.

    The loaders are the ``given`` ones, else those of the fit, else newly asked for.

    A ``CombinedLoader``, or a collection of loaders, gives its combined batches; an iterable
    dataset gives what comes first.
    """
    loader, source = trainer.fit_loop._combined_loader, trainer.fit_loop._data_source
    if given is not None:
        loader = combined(given, mode="max_size_cycle")
    elif loader is None:
        if not source.is_defined():
            return None
        loader = combined(source.dataloader(), mode="max_size_cycle")
    try:
        return _collect(unshuffled(loader), size, "the training data", trainer, ranks)
    except DataError as error:
        read_before = any(isinstance(one, Iterator) for one in loader.flattened)
        if error.__cause__ is None and read_before:  # empty, and not failing
            return None
        raise


def collect_val(loader: CombinedLoader, size: int, ranks: Ranks) -> CalibrationData:
    """Take ``size`` samples of the validation data, an equal share from each loader."""
    each = math.ceil(size / max(1, len(loader.flattened)))
    with given_back(loader):
        taken = [take(share(one, [one], ranks), each, VALIDATION) for one in loader.flattened]
    return _checked(
        tuple(tuple(batches) for batches, _ in taken),
        sum(samples for _, samples in taken),
        VALIDATION,
    )


def padded(data: CalibrationData, loaders: int) -> CalibrationData:
    """Return ``data`` with as many lists as the user has validation loaders."""
    missing = max(0, loaders - len(data.batches))
    return CalibrationData(data.batches + ((),) * missing, data.samples, data.origin)


def _collect(
    loader: CombinedLoader, size: int, origin: str, trainer: Trainer, ranks: Ranks
) -> CalibrationData:
    limit = int(trainer.limit_train_batches) if trainer.fast_dev_run else None  # type: ignore[attr-defined]
    with given_back(loader):  # not by `loader.limits`: a cycle does not obey them
        all_batches = islice((batch for batch, _, _ in loader), limit)
        batches, samples = take(share(all_batches, loader.flattened, ranks), size, origin)
    return _checked((tuple(batches),), samples, origin)


def _checked(batches: tuple[tuple[Any, ...], ...], samples: int, origin: str) -> CalibrationData:
    if samples == 0:
        raise DataError(f"{origin} has no batch to calibrate on")
    return CalibrationData(batches, samples, origin)
