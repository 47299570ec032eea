"""Which processor this is."""

from __future__ import annotations

import platform
from pathlib import Path


def cpu() -> str:
    """Return which int8 instructions there are: what speed-ups depend on most."""
    flags = cpu_info().get("flags", "").split()
    known = ("amx_int8", "avx512_vnni", "avx_vnni", "avx2")
    return next((one for one in known if one in flags), platform.machine())


def cpu_info() -> dict[str, str]:
    """Return what Linux tells of the first core; nothing elsewhere."""
    path = Path("/proc/cpuinfo")
    lines = path.read_text().split("\n\n")[0].splitlines() if path.exists() else []
    pairs = (line.partition(":") for line in lines)
    return {key.strip(): value.strip() for key, _, value in pairs}


def model_name() -> str:
    """Return what the processor is called."""
    return cpu_info().get("model name", platform.processor())
