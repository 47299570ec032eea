"""What a backend must do, and the table of backends."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol

from torch import Tensor, nn

from lpot_lightning.errors import ArtifactError, quoted
from lpot_lightning.module.calls import ModuleCalls
from lpot_lightning.module.stand_in import StandIn
from lpot_lightning.quantization.diagnosing.diagnosis import Diagnosis
from lpot_lightning.quantization.graph.breaks import GraphBreak
from lpot_lightning.quantization.op_profile import OpProfile
from lpot_lightning.recipe import Op, OpConfig, Recipe


class Diagnoses(Protocol):
    """Finds what hurts ops in int8."""

    def can_tell(self, op: str, config: OpConfig) -> bool:
        """Whether there is something to simulate."""

    def diagnosis(self, op: str, config: OpConfig) -> Diagnosis:
        """Return what hurts an op as ``config`` has it."""

    def error(self, op: str, config: OpConfig) -> float:
        """Return the error of an op as ``config`` has it."""


class Prepared(Protocol):
    """A model whose parts are observed; calibrate them, then convert once a trial."""

    narrow: bool
    """Whether what is no op is computed in bfloat16, where graphs compute."""

    @property
    def observed(self) -> Mapping[str, StandIn]:
        """The observed parts by their path: put them in place and show them data."""

    @property
    def excluded(self) -> Mapping[str, str]:
        """What stays in floating point whatever is asked, with the reason."""

    @property
    def exact(self) -> Mapping[str, str]:
        """Ops whose kernel is wrong here, with how: plain arithmetic computes in its place."""

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
        """Return what stands in for parts by their path; without int8 ops it may be nothing."""

    def graphs(self, model: nn.Module) -> Mapping[str, Callable[..., Any]]:
        """Return what computes for modules of ``model`` over int8 parts, by path, the same always.

        It is empty where the parts are graphs.
        """

    def other_graphs(self, model: nn.Module, *, narrow: bool) -> Mapping[str, Callable[..., Any]]:
        """Return new ones beside those of ``graphs``, which are ``narrow`` or not for good."""

    def rank(self, recipe: Recipe) -> Sequence[tuple[str, float]]:
        """Return how much each int8 op of ``recipe`` hurts, alone."""

    def profile(self, recipe: Recipe | None = None) -> Mapping[str, OpProfile]:
        """Return what each op of ``recipe`` costs, or all in fp32, on one calibration batch."""

    def error(self, recipe: Recipe, ops: Collection[str]) -> float:
        """Return how much ``ops`` hurt together, alone in int8 as ``recipe`` has them."""

    @property
    def diagnoser(self) -> Diagnoses:
        """What finds what hurts ops."""

    @property
    def forwards(self) -> float:
        """What ranking, repair and diagnosis cost so far, in passes of the dry run's batch."""

    def untraced(self) -> Mapping[str, GraphBreak]:
        """Return the modules whose own code ends a graph, by path, as calls have shown so far."""

    def describe(self, recipe: Recipe) -> dict[str, Any]:
        """Return what ``Backend.rebuild`` needs besides the tensors, as plain values."""


class Training(Protocol):
    """The rounding of a model while it is trained for int8."""

    @property
    def layers(self) -> tuple[str, ...]:
        """Names of the layers whose weights are rounded."""

    @property
    def int8_ops(self) -> tuple[str, ...]:
        """The ops that are trained for int8."""

    @property
    def excluded(self) -> Mapping[str, str]:
        """What stays in floating point whatever is asked, with the reason."""

    @property
    def fp32_ops(self) -> tuple[str, ...]:
        """The other ops that stay in floating point."""

    @property
    def left_out(self) -> Mapping[str, str]:
        """The modules that were left out, with the reason."""

    observing: bool
    """Whether the ranges of activations are learned from what passes."""

    def learn_only(self, ops: Collection[str] | None) -> None:
        """While ``observing``, let the ranges of ``ops`` alone be learned; of all for ``None``."""

    def take_over(self, other: Any, ops: Collection[str]) -> None:
        """Round ``ops`` as ``other`` does, with the ranges that they have learned there."""

    def follow(self, model: nn.Module) -> None:
        """Learn only while ``model`` itself is in training mode, whatever its parts are in."""

    def attach(self, model: nn.Module) -> None:
        """Let the modules of ``model`` compute as int8 will, until ``detach``."""

    def detach(self) -> None:
        """Let the model compute as it did."""

    def end_batch(self, maximum: Callable[[Tensor], None] | None = None) -> None:
        """Make the ranges ready for the next batch, the same in all processes."""

    @property
    def has_seen_data(self) -> bool:
        """Whether anything taught a range; where no activation is rounded, it is true."""

    def check_finite(self) -> None:
        """Raise a ``DataError`` if the training went to NaN or infinity."""

    def state(self) -> dict[str, Any]:
        """Return all that is needed to go on, or to make int8, as tensors and plain values."""

    def load_ranges(self, state: Mapping[str, Any]) -> None:
        """Go on with the ranges of ``state``."""


class Backend(Protocol):
    """One way to int8."""

    name: str

    def prepare(
        self,
        model: nn.Module,
        calls: Mapping[int, ModuleCalls],
        *,
        avoid: Collection[str],
        for_training: bool = False,
        trained: Mapping[str, Any] | None = None,
        left_out: Mapping[str, str] | None = None,
    ) -> Prepared:
        """Find what can be quantized and observe it; ``model`` is left as it is.

        Modules whose paths are in ``avoid`` are left out; what they hold is not. What is prepared
        for a training is no more than where that begins; ``trained`` is the state that it ended in.
        All in modules whose paths are in ``left_out`` stays in floating point, for that reason.
        """

    def rebuild(self, model: nn.Module, described: Mapping[str, Any]) -> Mapping[str, StandIn]:
        """Return int8 parts of the right structure, to be filled with tensors."""

    def join(self, model: nn.Module, described: Mapping[str, Any]) -> None:
        """Let graphs compute over int8 parts that are in place, where there are any."""

    def to_plain(self, model: nn.Module) -> dict[str, Tensor]:
        """Return the whole state as dense tensors."""

    def fill(self, model: nn.Module, plain: Mapping[str, Tensor], engine: str) -> None:
        """Put such a state into a model of the same structure, packed for ``engine``."""

    def training(self, prepared: Any, recipe: Recipe) -> Training:
        """Return how a model, ``prepared`` by this backend, is trained to be ``recipe``."""

    def training_of(self, model: nn.Module, state: Mapping[str, Any]) -> Training:
        """Return the training that ``state`` was taken of, ready to go on."""

    def int8_of(self, model: nn.Module, state: Mapping[str, Any]) -> Mapping[str, StandIn]:
        """Return the int8 parts of a trained model, as its training meant them to be."""


def _onednn() -> Backend:
    from lpot_lightning.quantization.onednn import OnednnBackend  # brings Dynamo, slow to import

    return OnednnBackend()


ENGINE = "onednn"
BACKENDS: dict[str, Callable[[], Backend]] = {ENGINE: _onednn}
"""By the names that files have."""
OLD = "pytorch_fx"
"""The engine of earlier versions."""


def check_backend(name: object, where: str, what_to_do: str) -> None:
    """Refuse what another engine wrote.

    Args:
        name: of the engine.
        where: the field that has it.
        what_to_do: with what the engine of earlier versions wrote.

    Raises:
        ArtifactError: if there is no such engine.
    """
    if name == OLD:
        raise ArtifactError(
            f"`{where}` is `{OLD}`, the engine of earlier versions, which is gone: {what_to_do}"
        )
    if name not in BACKENDS:
        raise ArtifactError(f"`{where}` is `{name}`; this version has {quoted(BACKENDS)}")
