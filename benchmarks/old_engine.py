"""How fast int8 was by the engine before this one: `torch.ao`'s FX graph mode, of torch 2.13.0.

Measured by `today.py` itself with the package as of commit 48b1088, the last whose post-training
quantization was that engine:

    git worktree add ../old 48b1088
    PYTHONPATH=../old python benchmarks/today.py
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
    # An AMD EPYC of family 25, model 17: Zen 4.
    "avx512_vnni": {
        ("ResNet-50", 1, 1): 4.06,
        ("ResNet-50", 1, 2): 3.29,
        ("ResNet-50", 8, 1): 3.98,
        ("ResNet-50", 8, 2): 3.78,
        ("EfficientNet-B0-like", 1, 1): 1.43,
        ("EfficientNet-B0-like", 1, 2): 1.15,
        ("EfficientNet-B0-like", 8, 1): 1.68,
        ("EfficientNet-B0-like", 8, 2): 1.63,
        ("MobileNetV3-small-like", 1, 1): 1.59,
        ("MobileNetV3-small-like", 1, 2): 1.14,
        ("MobileNetV3-small-like", 8, 1): 1.87,
        ("MobileNetV3-small-like", 8, 2): 1.89,
        ("YOLOv8n-like", 1, 1): 1.93,
        ("YOLOv8n-like", 1, 2): 1.67,
        ("YOLOv8n-like", 8, 1): 2.35,
        ("YOLOv8n-like", 8, 2): 2.11,
        ("ViT-S/16", 1, 1): 2.55,
        ("ViT-S/16", 1, 2): 2.46,
        ("ViT-S/16", 8, 1): 2.50,
        ("ViT-S/16", 8, 2): 2.24,
        ("BERT, 4 layers of 128 tokens", 1, 1): 3.23,
        ("BERT, 4 layers of 128 tokens", 1, 2): 3.17,
        ("BERT, 4 layers of 128 tokens", 16, 1): 3.18,
        ("BERT, 4 layers of 128 tokens", 16, 2): 3.03,
        ("planted net", 1, 1): 1.51,
        ("planted net", 1, 2): 0.90,
        ("planted net", 100, 1): 4.57,
        ("planted net", 100, 2): 3.65,
    },
}


def old_speedup(net: str, batch: int, threads: int, cpu: str) -> float | None:
    """Return the last figure of it on such a CPU, or ``None`` where there is none."""
    return _SPEEDUPS.get(cpu, {}).get((net, batch, threads))
