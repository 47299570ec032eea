"""The base class of a user's own metric."""

from __future__ import annotations

from typing import Any


class Metric:
    """How good a model is, batch by batch: the base class of metrics of your own.

    It is LPOT's: ``update`` takes one batch, ``result`` says what all of them came to. Give the
    class, or an object of it, to ``Quantization.metric``.

    Attributes:
        higher_is_better: which way is better. ``None``: what
            ``tuning.accuracy_criterion.higher_is_better`` says, and higher where it says nothing.
        compare_label: ``False`` for a metric that needs no labels: in their place it is shown what
            the fp32 model gives for the same input.

    Example::

        class Correct(Metric):
            higher_is_better = True

            def __init__(self):
                self.reset()

            def update(self, preds, labels):
                self.right += int((preds.argmax(1) == labels).sum())
                self.seen += len(labels)

            def reset(self):
                self.right = self.seen = 0

            def result(self):
                return self.right / self.seen
    """

    higher_is_better: bool | None = None
    compare_label: bool = True

    def update(self, preds: Any, labels: Any) -> None:
        """Take one batch.

        Args:
            preds: what the model gave, as it gave it, on the CPU.
            labels: the label of the batch, as the loader gave it.
        """
        raise NotImplementedError(f"`{type(self).__name__}.update(preds, labels)` is not written")

    def reset(self) -> None:
        """Forget all batches. A class that is given, and no object, may leave it out."""

    def result(self) -> float:
        """Return what all batches came to, one number."""
        raise NotImplementedError(f"`{type(self).__name__}.result()` is not written")
