"""What the CPU can compute with."""

from __future__ import annotations

import torch

_BF16 = ("avx512_bf16", "amx_bf16")
NO_BF16 = "this CPU has neither AVX512-BF16 nor AMX: it is slower than fp32 here"


def has_bf16() -> bool:
    """Whether the CPU multiplies bfloat16: by AVX512-BF16 or AMX.

    Others do it all the same, each number made a float32 first, and take longer than in float32;
    torch's ``mkldnn._is_mkldnn_bf16_supported`` counts those with plain AVX512 among the ones that
    can (torch 2.13).
    """
    found = torch.cpu.get_capabilities()
    return any(found.get(one) for one in _BF16)
