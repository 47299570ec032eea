"""Whether this CPU cuts off what kernels add up, and for which weights."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial

import numpy as np
import torch
from torch import Tensor
from torch.utils._python_dispatch import _disable_current_modes

from lpot_lightning.quantization.graph.tracing import paused

_MOST = 2**15 - 1
_ONEDNN = torch.ops.onednn


@cache
def saturates() -> bool:
    """Whether sums of two products of 8 bits are cut off here, as on CPUs without VNNI.

    It is tried and not read off the CPU: ``ONEDNN_MAX_CPU_ISA`` may keep oneDNN to less. A kernel
    that fails cuts nothing off: its proof says how it fails, and arithmetic takes its place.
    """
    try:
        return _cuts_off()
    except RuntimeError:
        return False


def _cuts_off() -> bool:
    with paused(), _disable_current_modes(), torch.inference_mode(False), torch.no_grad():
        x = torch.full((4, 64), 255, dtype=torch.uint8)
        weight = _ONEDNN.qlinear_prepack(torch.full((16, 64), 127, dtype=torch.int8), None)
        scales, zeros = torch.ones(16), torch.zeros(16, dtype=torch.int32)
        kernel: Callable[..., Tensor] = partial(_ONEDNN.qlinear_pointwise, x, 1.0, 0, weight)
        found = kernel(scales, zeros, None, 1.0, 0, torch.float32, "none", [], "")
        return bool((found != 255 * 127 * 64).any())


def may_saturate(weight: Tensor, high: int) -> bool:
    """Whether two products of an output may come to more than 16 signed bits.

    Any two weights of an output count: how oneDNN pairs them is known to it alone.

    Args:
        weight: ``int8``, outputs first.
        high: the greatest integer of activations; the least is 0.
    """
    room = _MOST // high
    if room >= 2 * 128 or not weight.numel():
        return False
    # NumPy, which compares bytes in a fifth of torch's time (2.13): each load looks at all weights
    sizes = np.abs(weight.flatten(1).numpy()).view(np.uint8)  # -128 is 128 there
    greatest = sizes.max(1)
    wide = greatest > room // 2  # in other rows any two are few enough
    left = (room - greatest[wide].astype(np.int16)).clip(0).astype(np.uint8)
    return bool(np.count_nonzero(sizes[wide] > left[:, None]) > len(left))  # each counts itself
