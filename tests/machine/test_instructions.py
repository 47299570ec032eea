"""Bfloat16 is computed with where the CPU multiplies it."""

from __future__ import annotations

import pytest
import torch

from lpot_lightning.machine.instructions import has_bf16


@pytest.mark.parametrize(
    ("capabilities", "found"),
    [
        ({"avx512_f": True, "avx512_vnni": True, "avx512_bf16": False}, False),
        ({"avx512_f": True, "avx512_bf16": True}, True),
        ({"amx_tile": True, "amx_bf16": True}, True),
        ({"architecture": "arm64", "neon": True}, False),
    ],
)
def test_what_the_cpu_says(monkeypatch, capabilities, found):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities)
    assert has_bf16() is found
