"""How large integers may be that a kernel multiplies."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Bounds:
    """The greatest integers of activations and of weights.

    A CPU without VNNI adds up two products in 16 signed bits and cuts off what is more, so twice
    255 * 127 is too much for it. ``PAIRED`` keeps all 8 bits of activations, whose range is that of
    a whole tensor, and takes a bit off weights, which have a range for each output: that is how
    ONNX Runtime understands ``reduce_range``, too. Of ten small nets eight had a lower error so
    than on ``SEVEN_BITS``, by 1 to 4 dB (``docs/engine.md``).

    Args:
        high: the greatest integer of activations; the least is 0.
        pair: what the sizes of any two weights of an output may come to together.
    """

    high: int = 255
    pair: int = 254

    @property
    def bits(self) -> int:
        """Of activations."""
        return self.high.bit_length()


WHOLE = Bounds()
"""What 8 bits hold."""
PAIRED = Bounds(pair=128)
"""What a CPU without VNNI adds up right: 255 * 128 is less than 2^15."""
SEVEN_BITS = Bounds(high=127)
"""What the first files and trainings of such CPUs keep to."""
