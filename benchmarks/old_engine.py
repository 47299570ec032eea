"""How fast int8 was by the engine before this one: `torch.ao`'s FX graph mode."""

from __future__ import annotations

# fp32 time / int8 time by CPU, net, batch and threads.
_SPEEDUPS: dict[str, dict[tuple[str, int, int], float]] = {}


def old_speedup(net: str, batch: int, threads: int, cpu: str) -> float | None:
    """Return the last figure of it on such a CPU, or ``None`` where there is none."""
    return _SPEEDUPS.get(cpu, {}).get((net, batch, threads))
