"""Calibration batches, shown by the user's ``validation_step``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch import nn

from lpot_lightning.data.batches import few_samples
from lpot_lightning.errors import DataError, LpotError, in_short
from lpot_lightning.trainer import calibration
from lpot_lightning.trainer.calibration import Calibration
from lpot_lightning.trainer.loaders import take
from lpot_lightning.trainer.passes import Passes
from lpot_lightning.trainer.precision import step_failed


class ValidationFeed:
    """Shows models data by the validation loop of a trainer.

    Args:
        passes: lends the loop.
        fresh: gives a new copy of the model that is to be quantized.
        data: draws the batches when they are asked for.
        tells: whether to say that there are fewer samples than are asked for.
    """

    def __init__(
        self,
        passes: Passes,
        fresh: Callable[[], nn.Module],
        data: Calibration,
        *,
        tells: bool = True,
    ) -> None:
        self._passes, self._fresh, self._data, self._tells = passes, fresh, data, tells
        self._is_whole = False

    @property
    def batches(self) -> Any:
        """The calibration batches."""
        return self._data.batches

    @property
    def samples(self) -> int:
        """How many samples they hold, those of all processes together."""
        return self._data.samples

    @property
    def first_samples(self) -> int:
        """How many samples the first batch holds."""
        return take(next(filter(None, self._data.first)), 1, self._data.origin)[1]

    def fresh(self) -> nn.Module:
        """Return a new copy of the model that is to be quantized."""
        return self._fresh()

    def try_out(self, model: nn.Module) -> nn.Module:
        """Show ``model`` the first samples of the first calibration batch.

        If ``validation_step`` cannot take a training batch, the validation data takes its place,
        one warning says so, and a fresh model is returned.

        Raises:
            EvaluationError: if it cannot take a validation batch either.
        """
        fault = self._fault(model)
        if fault is None:
            return model
        if not self._is_whole:  # a step may depend on how many samples a batch has
            self._is_whole = True
            if self._fault(self._fresh()) is None:
                return self._fresh()
        origin, reason = self._data.origin, in_short(fault)
        if origin != calibration.VALIDATION:
            self._data.take_validation_data()
            fault = self._fault(self._fresh())
            if fault is None:
                self._passes.say(
                    f"`validation_step` cannot take a batch of {origin} ({reason}); calibrating on"
                    " the validation data"
                )
                return self._fresh()
        raise step_failed(fault, self._passes.precision) from fault

    def _fault(self, model: nn.Module) -> Exception | None:
        """Return what ``validation_step`` says against the first calibration batch."""
        try:
            take = list if self._is_whole else _few_samples
            self._passes.show(model, [take(one) for one in self._data.first], self._data.user)
        except LpotError:
            raise
        except Exception as error:
            return error
        return None

    def calibrate(self, model: nn.Module) -> None:
        """Show ``model`` all calibration batches.

        Raises:
            DataError: if ``validation_step`` fails on one that is not the first.
        """
        quick = self._passes.trainer.fast_dev_run  # type: ignore[attr-defined]
        if self.samples < self._data.wanted and self._tells and not quick:
            self._passes.say(
                f"{self._data.origin} has {self.samples} samples,"
                f" `quantization.calibration.sampling_size` asks for {self._data.wanted}: all are"
                " used"
            )
        try:
            with self._passes.bar("calibration", sum(map(len, self._data.batches))) as bar:
                self._passes.show(model, self._data.batches, self._data.user, [bar])
        except LpotError:
            raise
        except Exception as error:
            raise DataError(
                f"`validation_step` fails on a batch of {self._data.origin} ({in_short(error)});"
                " calibrate on other data, with `calib='val'` or a `calib_dataloader()`"
            ) from error

    def step_seconds(self, model: nn.Module, runs: int = 1) -> list[float]:
        """Return the seconds of ``validation_step`` on the first calibration batch, each run's."""
        return self._passes.step_seconds(model, self._data.first, self._data.user, runs)


def _few_samples(batches: Sequence[Any]) -> list[Any]:
    return [few_samples(one) for one in batches]
