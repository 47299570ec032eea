"""What a caller gives to a run besides model, conf and data."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from lpot_lightning.machine.ranks import Ranks
from lpot_lightning.runs.workspace import Workspace
from lpot_lightning.tuning.trial import Trial


@dataclass(frozen=True)
class Listener:
    """Who wants to hear of a run while it goes on.

    Args:
        say: takes one line for people.
        trial: takes each finished trial, and the name of the metric.
        saved: takes the tune config and the tensors of a model the moment it is the best.
    """

    say: Callable[[str], None]
    trial: Callable[[Trial, str], None] = lambda trial, monitor: None
    saved: Callable[[Mapping[str, Any], Mapping[str, Tensor]], None] = lambda conf, plain: None


@dataclass(frozen=True, kw_only=True)
class Options:
    """What a caller asks for besides the conf.

    Args:
        modules: names or globs of submodules or ops to quantize; empty means everything.
        workspace: where the files go.
        ranks: the processes that work together.
        dense: the accuracy of the model before it was pruned, where it was: int8 is compared with
            that.
        channels: the plan, in plain values, by which channels were cut out of the model, where they
            were; it goes into the tune config.
        depends_on: gives what else scores depend on, by name, once the baseline was judged; a
            history counts for the same only.
    """

    modules: tuple[str, ...] = ()
    workspace: Workspace = Workspace()
    ranks: Ranks = field(default_factory=Ranks)
    dense: float | None = None
    channels: Mapping[str, Any] | None = None
    depends_on: Callable[[], Mapping[str, Any]] = dict
