"""What a benchmark came to."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from lpot_lightning.machine.columns import aligned, in_blocks
from lpot_lightning.machine.shown_in_short import Cells, ShownInShort
from lpot_lightning.timing.percentiles import Latency, Speed
from lpot_lightning.timing.ratio import Spread, as_speedup


@dataclass(frozen=True, kw_only=True)
class InstanceResult:
    """What one of several processes measured, all at the same time.

    Args:
        cores: that it was pinned to.
        threads: that it computed with.
        speed: of the model.
        fp32: of what it was compared with.
        files: of each file.
    """

    cores: tuple[int, ...]
    threads: int
    speed: Speed
    fp32: Speed | None = None
    files: tuple[Speed, ...] = ()

    @property
    def speeds(self) -> tuple[Speed, ...]:
        """All of them, as the columns of the table."""
        return tuple(filter(None, (self.speed, self.fp32, *self.files)))


@dataclass(frozen=True, kw_only=True)
class FileResult:
    """What came of a file that took its turn.

    Args:
        label: its name.
        runtime: what ran it, with its version.
        speed: as that of the model.
        speedup: seconds of a call of fp32, or of the model where there is no fp32, over those of
            one of the file.
        speedup_spread: as that of the model.
        accuracy: the same.
    """

    label: str
    runtime: str
    speed: Speed | None = None
    speedup: float | None = None
    speedup_spread: Spread | None = None
    accuracy: float | None = None

    @classmethod
    def from_plain(cls, plain: dict[str, Any]) -> FileResult:
        """Build from a mapping of JSON."""
        own = {"speed": _speed(plain["speed"]), "speedup_spread": _spread(plain["speedup_spread"])}
        return cls(**plain | own)


@dataclass(frozen=True, kw_only=True, repr=False)
class BenchmarkResult(ShownInShort):
    """What a benchmark came to.

    ``print`` shows it in a few lines, a notebook as small tables.

    Args:
        name: ``model.name`` of the conf.
        label: ``"int8"`` for an int8 model, the name of a file, else ``"model"``.
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
        runtime: what ran the model, where that is a file.
        files: those that took turns with the model.
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
    runtime: str = ""
    files: tuple[FileResult, ...] = ()

    @property
    def latency(self) -> Latency | None:
        """Milliseconds of a call, as ``p50``, ``p90``, ``p99``."""
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
        plain["instances"] = tuple(map(_instance, plain["instances"]))
        plain["files"] = tuple(map(FileResult.from_plain, plain.get("files", ())))
        return cls(**{**plain, "speedup_spread": _spread(plain.get("speedup_spread"))})

    def table(self) -> str:
        """Return it as a table for people; columns that do not fit the terminal follow below."""
        (grid, _), (notes, _) = self._grids()
        first = max(len(row[0]) for row in [*grid, *notes])
        parts = [f"{in_blocks(grid, first)}\n{aligned(notes, first)}"]
        if self.instances:
            parts.append(self._per_instance())
        return "\n\n".join(parts)

    def _grids(self) -> list[tuple[Cells, bool]]:
        """Return a column for each that was timed, and what holds for all of them."""
        grid = [["", *self._labels], *self._of_speed()]
        if self.accuracy is not None:
            grid.append([self.monitor, *(_number(one, 4) for one in self._accuracies)])
        notes = [["name", self.name], *self._runtimes]
        if self.files and self.speed is not None:
            grid.append(["speed-up", *self._speedups])
        elif self.speedup is not None:
            notes.insert(0, ["speed-up", as_speedup(self.speedup, self.speedup_spread)])
        if self.speed is not None:
            notes.append(["calls", self._calls])
        notes.append(["threads", f"{self.threads}{' each' if self.instances else ''}"])
        return [(grid, True), (notes, False)]

    def _in_short(self) -> list[str]:
        speeds = self._speeds or (None,) * len(self._labels)
        timed = zip(self._labels, speeds, self._accuracies, self._speedups, strict=True)
        return [_one_line(*one, self.monitor) for one in timed]

    @property
    def _compared(self) -> bool:
        return self.fp32 is not None or self.fp32_accuracy is not None

    @property
    def _labels(self) -> list[str]:
        compared = ["fp32"] if self._compared else []
        return [self.label, *compared, *(one.label for one in self.files)]

    @property
    def _accuracies(self) -> list[float | None]:
        compared = [self.fp32_accuracy] if self._compared else []
        return [self.accuracy, *compared, *(one.accuracy for one in self.files)]

    @property
    def _speedups(self) -> list[str]:
        """Return those over fp32, or over the model; what they are measured by has none."""
        own = "" if self.speedup is None else as_speedup(self.speedup, self.speedup_spread)
        compared = [""] if self._compared else []
        ratios = ((one.speedup, one.speedup_spread) for one in self.files)
        return [own, *compared, *("" if one is None else as_speedup(one, by) for one, by in ratios)]

    @property
    def _runtimes(self) -> list[list[str]]:
        ran = [(self.label, self.runtime), *((one.label, one.runtime) for one in self.files)]
        return [["runtime", f"{label} in {name}"] for label, name in ran if name]

    @property
    def _calls(self) -> str:
        assert self.speed is not None
        each = self.speed.iterations // max(1, len(self.instances))
        times = f" in each of {len(self.instances)} instances" if self.instances else ""
        turns = ", in turns" if self.fp32 is not None or self.files else ""
        return f"{each} after {self.warmup} of warm-up{times}{turns}"

    def _of_speed(self) -> list[list[str]]:
        speeds = self._speeds
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

    @property
    def _speeds(self) -> tuple[Speed, ...]:
        return tuple(filter(None, (self.speed, self.fp32, *(one.speed for one in self.files))))

    def _per_instance(self) -> str:
        """Return what each process measured, model by model where the terminal is narrow."""
        rows = [["instance", "cores"]]
        for label in self._labels:
            rows[0] += [f"{label}: ms, p50 / p90 / p99", "samples/s"]
        for number, one in enumerate(self.instances, start=1):
            rows.append([str(number), in_short_ranges(one.cores), *_cells(one.speeds)])
        return in_blocks([*rows, ["all", "", *_cells(self._speeds)]], names=2, together=2)


def _one_line(
    label: str, speed: Speed | None, accuracy: float | None, speedup: str, monitor: str
) -> str:
    parts = []
    if speed is not None:
        what = "call" if speed.batch_size is None else f"batch of {speed.batch_size}"
        parts.append(f"{speed.latency.p50:.3g} ms a {what}")
    if speed is not None and speed.throughput is not None:
        parts.append(f"{_number(speed.throughput, 0)} samples a second")
    if accuracy is not None:
        parts.append(f"{monitor} {_number(accuracy, 4)}")
    if speedup:
        parts.append(f"speed-up {speedup}")
    return f"{label}: {', '.join(parts) or 'nothing measured'}"


def _cells(speeds: Sequence[Speed]) -> list[str]:
    shown = ((str(one.latency), _number(one.throughput, 0)) for one in speeds)
    return [cell for pair in shown for cell in pair]


def _instance(plain: dict[str, Any]) -> InstanceResult:
    speed, fp32 = map(_speed, (plain["speed"], plain["fp32"]))
    files = tuple(map(_speed, plain.get("files", ())))
    return InstanceResult(
        cores=tuple(plain["cores"]), threads=plain["threads"], speed=speed, fp32=fp32, files=files
    )


def _spread(plain: Any) -> Spread | None:
    return None if plain is None else (*plain,)


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
