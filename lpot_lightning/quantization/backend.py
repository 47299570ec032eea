"""What a backend must do, and the table of backends."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol

from torch import Tensor, nn

from lpot_lightning.quantization.calls import Calls
from lpot_lightning.quantization.fx.backend import FxBackend
from lpot_lightning.quantization.fx.profile import OpProfile
from lpot_lightning.quantization.replace import StandIn
from lpot_lightning.recipe import Op, Recipe


class Prepared(Protocol):
    """A model whose parts are observed; calibrate them, then convert once a trial."""

    @property
    def observed(self) -> Mapping[str, StandIn]:
        """The observed parts by their path: put them in place and show them data."""

    @property
    def excluded(self) -> Mapping[str, str]:
        """What stays in floating point whatever is asked, with the reason."""

    def asleep(self) -> AbstractContextManager[None]:
        """Let data through the observed parts that the calibration is not to count."""

    def statistics(self) -> Any:
        """Return what the calibration saw here, as plain values."""

    def merge(self, seen: Sequence[Any]) -> None:
        """Take the statistics of all processes in place of the own ones."""

    def settle(self, agreed: Callable[[Any], Any]) -> None:
        """End the calibration and prove the int8 kernels; ``agreed`` makes one of many verdicts."""

    @property
    def ops(self) -> Sequence[Op]:
        """The quantizable ops and what each can be."""

    def convert(self, recipe: Recipe) -> Mapping[str, StandIn]:
        """Return the int8 parts by their path; parts without an int8 op are left out."""

    def rank(self, recipe: Recipe) -> Sequence[tuple[str, float]]:
        """Return how much each int8 op of ``recipe`` hurts, alone."""

    def profile(self) -> Mapping[str, OpProfile]:
        """Return what each op costs in floating point, on one calibration batch."""

    def error(self, recipe: Recipe, ops: Collection[str]) -> float:
        """Return how much ``ops`` hurt together, alone in int8 as ``recipe`` has them."""

    @property
    def forwards(self) -> float:
        """What ``rank`` and ``error`` cost so far, in forward passes of the dry run's batch."""

    def describe(self, recipe: Recipe) -> dict[str, Any]:
        """Return what ``Backend.rebuild`` needs besides the tensors, as plain values."""


class Backend(Protocol):
    """One way to int8."""

    name: str

    def prepare(
        self,
        model: nn.Module,
        calls: Mapping[int, Calls],
        *,
        avoid: Collection[str],
        whole: bool,
    ) -> Prepared:
        """Find the parts that can be quantized and observe them; ``model`` is left as it is.

        Modules whose paths are in ``avoid`` are no parts; what they hold may be. The model itself
        is one only if ``whole``, or where most of its layers are its own.
        """

    def rebuild(self, model: nn.Module, described: Mapping[str, Any]) -> Mapping[str, StandIn]:
        """Return int8 parts of the right structure, to be filled with tensors."""

    def to_plain(self, model: nn.Module) -> dict[str, Tensor]:
        """Return the whole state as dense tensors."""

    def fill(self, model: nn.Module, plain: Mapping[str, Tensor], engine: str) -> None:
        """Put such a state into a model of the same structure, packed for ``engine``."""


BACKENDS: dict[str, Callable[[], Backend]] = {
    "pytorch_fx": FxBackend,
    "pytorch": FxBackend,  # the eager flow is not built; FX takes models with stubs as they are
}
