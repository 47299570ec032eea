"""How fast int8 was by the engine before this one: `torch.ao`'s FX graph mode, of torch 2.13.0.

Measured by `today.py` itself with the package as of commit 48b1088, the last whose post-training
quantization was that engine:

    git worktree add ../old 48b1088
    PYTHONPATH=../old python benchmarks/today.py --threads 1
"""

from __future__ import annotations

# fp32 time / int8 time, by CPU; by net, batch and threads.
_SPEEDUPS: dict[str, dict[tuple[str, int, int], float]] = {
    # An AMD EPYC without VNNI, by processor time, as others computed on it as well.
    "avx2": {
        ("planted net", 1, 1): 2.26,
        ("planted net", 100, 1): 3.37,
        ("MobileNetV3-small-like", 1, 1): 1.28,
        ("MobileNetV3-small-like", 8, 1): 1.35,
        ("EfficientNet-B0-like", 1, 1): 1.15,
        ("EfficientNet-B0-like", 8, 1): 1.19,
        ("YOLOv8n-like", 1, 1): 1.42,
        ("YOLOv8n-like", 8, 1): 1.38,
    },
    # By another script, of nets of the same names: timm's, their norms split from activations.
    "avx512_vnni": {
        ("ResNet-50", 1, 1): 4.72,
        ("ResNet-50", 8, 1): 4.52,
        ("EfficientNet-B0-like", 1, 1): 1.42,
        ("EfficientNet-B0-like", 8, 1): 1.98,
        ("MobileNetV3-small-like", 1, 1): 1.30,
        ("MobileNetV3-small-like", 8, 1): 2.66,
        ("ViT-S/16", 1, 1): 2.47,
        ("ViT-S/16", 8, 1): 2.43,
    },
}


def old_speedup(net: str, batch: int, threads: int, cpu: str) -> float | None:
    """Return the last figure of it on such a CPU, or ``None`` where there is none."""
    return _SPEEDUPS.get(cpu, {}).get((net, batch, threads))
