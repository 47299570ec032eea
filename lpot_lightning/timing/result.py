"""What a benchmark came to."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from lpot_lightning.machine.columns import aligned
from lpot_lightning.timing.percentiles import Latency, Speed
from lpot_lightning.timing.ratio import Spread, as_speedup


@dataclass(frozen=True)
class InstanceResult:
    """What one of several processes measured, all at the same time.

    Args:
        cores: that it was pinned to.
        threads: that it computed with.
        speed: of the model.
        fp32: of what it was compared with.
    """

    cores: tuple[int, ...]
    threads: int
    speed: Speed
    fp32: Speed | None = None


@dataclass(frozen=True, kw_only=True)
class BenchmarkResult:
    """What a benchmark came to.

    Args:
        name: ``model.name`` of the conf.
        label: ``"int8"`` for an int8 model, else ``"model"``.
        threads: with which each process computed.
        warmup: calls before the measured ones.
        speed: of the model: percentiles over all calls of all instances, throughput summed over
            the instances; ``None`` where only the accuracy was asked for.
        fp32: the same of the model it was compared with.
        speedup: seconds of a call of the other over those of one of the model, run in turns: the
            median of the ratios of all pairs.
        speedup_spread: two ratios between which it is, 95 of 100 times; ``None`` where nothing was
            compared, or by fewer than three pairs.
        accuracy: of the model, where it was measured.
        fp32_accuracy: of the other one.
        instances: each process by itself; empty where the measuring was done in this one.
        monitor: what the accuracy is called: the name of the metric, where there is one.
    """

    name: str
    label: str
    threads: int
    warmup: int
    speed: Speed | None = None
    fp32: Speed | None = None
    speedup: float | None = None
    speedup_spread: Spread | None = None
    accuracy: float | None = None
    fp32_accuracy: float | None = None
    instances: tuple[InstanceResult, ...] = ()
    monitor: str = "accuracy"

    @property
    def latency(self) -> Latency | None:
        """Milliseconds of a call: ``p50``, ``p90``, ``p99``."""
        return None if self.speed is None else self.speed.latency

    @property
    def latency_per_sample(self) -> Latency | None:
        """The same, divided by the samples of the call."""
        return None if self.speed is None else self.speed.latency_per_sample

    @property
    def throughput(self) -> float | None:
        """Samples a second, those of all instances together."""
        return None if self.speed is None else self.speed.throughput

    def to_json(self, indent: int | None = 1) -> bytes:
        """Return all of it as JSON."""
        return json.dumps(asdict(self), indent=indent).encode()

    @classmethod
    def from_json(cls, content: bytes | str) -> BenchmarkResult:
        """Build from what ``to_json`` gave."""
        plain = json.loads(content)
        plain |= {name: _speed(plain[name]) for name in ("speed", "fp32")}
        plain["instances"] = tuple(
            InstanceResult(
                tuple(one["cores"]), one["threads"], *map(_speed, (one["speed"], one["fp32"]))
            )
            for one in plain["instances"]
        )
        spread = plain.get("speedup_spread")
        return cls(**{**plain, "speedup_spread": None if spread is None else (*spread,)})

    def table(self) -> str:
        """Return it as a table for people."""
        grid = [["", self.label, *(["fp32"] if self._compared else [])], *self._of_speed()]
        if self.accuracy is not None:
            grid.append([self.monitor, *(_number(one, 4) for one in self._accuracies)])
        notes = [["name", self.name]]
        if self.speedup is not None:
            notes.insert(0, ["speed-up", as_speedup(self.speedup, self.speedup_spread)])
        if self.speed is not None:
            notes.append(["calls", self._calls])
        notes.append(["threads", f"{self.threads}{' each' if self.instances else ''}"])
        first = max(len(row[0]) for row in [*grid, *notes])
        parts = [f"{aligned(grid, first)}\n{aligned(notes, first)}"]
        if self.instances:
            parts.append(self._per_instance())
        return "\n\n".join(parts)

    @property
    def _compared(self) -> bool:
        return self.fp32 is not None or self.fp32_accuracy is not None

    @property
    def _accuracies(self) -> list[float | None]:
        return [self.accuracy, *([self.fp32_accuracy] if self._compared else [])]

    @property
    def _calls(self) -> str:
        assert self.speed is not None
        each = self.speed.iterations // max(1, len(self.instances))
        times = f" in each of {len(self.instances)} instances" if self.instances else ""
        turns = ", in turns" if self.fp32 is not None else ""
        return f"{each} after {self.warmup} of warm-up{times}{turns}"

    def _of_speed(self) -> list[list[str]]:
        speeds = [one for one in (self.speed, self.fp32) if one is not None]
        if not speeds:
            return []
        latencies = [str(one.latency) for one in speeds]
        if speeds[0].batch_size is None:
            return [["ms a call, p50 / p90 / p99", *latencies]]
        return [
            ["batch size", *(str(one.batch_size) for one in speeds)],
            ["ms a batch, p50 / p90 / p99", *latencies],
            ["ms a sample, p50 / p90 / p99", *(str(one.latency_per_sample) for one in speeds)],
            ["samples a second", *(_number(one.throughput, 0) for one in speeds)],
        ]

    def _per_instance(self) -> str:
        compared = self.fp32 is not None
        head = ["instance", "cores", f"{self.label}: ms, p50 / p90 / p99", "samples/s"]
        rows = [head + (["fp32: ms, p50 / p90 / p99", "samples/s"] if compared else [])]
        for number, one in enumerate(self.instances, start=1):
            row = [str(number), in_short_ranges(one.cores)]
            for speed in filter(None, (one.speed, one.fp32)):
                row += [str(speed.latency), _number(speed.throughput, 0)]
            rows.append(row)
        total = ["all", ""]
        for speed in filter(None, (self.speed, self.fp32)):
            total += [str(speed.latency), _number(speed.throughput, 0)]
        return aligned([*rows, total])


def _speed(plain: dict[str, Any] | None) -> Any:
    if plain is None:
        return None
    latencies = {
        name: None if plain[name] is None else Latency(**plain[name])
        for name in ("latency", "latency_per_sample")
    }
    return Speed(**{**plain, **latencies})


def in_short_ranges(numbers: Sequence[int]) -> str:
    """Return ``0-3,8`` for ``0, 1, 2, 3, 8``."""
    runs: list[list[int]] = []
    for number in sorted(numbers):
        if runs and runs[-1][-1] == number - 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return ",".join(str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs)


def _number(value: float | None, digits: int) -> str:
    return "?" if value is None else f"{value:,.{digits}f}"
