"""Torch's int8 engines, and how to work with them unseen."""

from __future__ import annotations

import contextlib
import linecache
import warnings
from collections.abc import Iterator

import torch
from torch.ao.quantization.fx.utils import assert_and_get_unique_device
from torch.fx import graph_module

from lpot_lightning.errors import QuantizationError

ENGINES = ("x86", "onednn", "fbgemm", "qnnpack")


def engines() -> list[str]:
    """Return the int8 engines of this machine's torch, the best one first.

    QNNPACK is made for ARM and counts only where it is the only one.

    Raises:
        QuantizationError: if there is none.
    """
    supported = torch.backends.quantized.supported_engines
    found = [engine for engine in ENGINES if engine in supported]
    if not found:
        raise QuantizationError(f"this torch has no int8 engine: it supports {supported}")
    return [engine for engine in found if engine != "qnnpack"] or found


def choose_engine() -> str:
    """Return the best int8 engine of this machine's torch.

    Raises:
        QuantizationError: if there is none.
    """
    return engines()[0]


def needs_reduced_range() -> bool:
    """Whether 8 x 8 bit products would overflow: x86 before VNNI adds pairs in 16 bits."""
    vnni = getattr(torch.cpu, "_is_vnni_supported", lambda: False)
    return choose_engine() != "qnnpack" and not vnni()


@contextlib.contextmanager
def quiet(engine: str | None = None) -> Iterator[None]:
    """Keep torch's deprecation notices, random numbers, caches and engine to ourselves.

    Weights are packed for ``engine`` where this machine has it, else for its own best.

    ``assert_and_get_unique_device`` caches on the module and would keep every trial's model
    alive (54 MiB a trial on a 40 MiB model, torch 2.13); the source cache of FX grows as well.
    """
    before = torch.backends.quantized.engine
    sources = graph_module._loader.eval_cache
    known = set(sources)
    supported = torch.backends.quantized.supported_engines
    torch.backends.quantized.engine = (
        engine if engine is not None and engine in supported else choose_engine()
    )
    try:
        with warnings.catch_warnings(), torch.random.fork_rng(devices=[]):
            warnings.simplefilter("ignore")
            yield
    finally:
        torch.backends.quantized.engine = before
        assert_and_get_unique_device.cache_clear()
        for source in set(sources) - known:
            del sources[source]
            linecache.cache.pop(source, None)
