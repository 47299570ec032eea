"""How often a trial that meets the goal is given up, and how soon one that does not.

Made-up answers of an fp32 model and of int8 models: noise on all scores, and a shift of each class,
which int8 loses some classes by and wins others. The noise is searched so that the drop over the
whole pass is in the range of a row. The pass is shuffled, or sorted by class, the classes that int8
loses most by first. Batches are of equal or of random sizes.

    make bench
"""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor
from torchmetrics import MeanMetric, Metric
from torchmetrics.classification import BinaryAUROC, MulticlassAccuracy, MulticlassF1Score

from lpot_lightning.trainer.partial_metric import Held
from lpot_lightning.tuning.score import Criterion
from lpot_lightning.tuning.screening import Curve, Recorder, Screen

SAMPLES, CLASSES, GOAL = 3000, 10, 0.01
ORDERS = ("shuffled", "sorted by class")
PASSING = (0.0, 1.0)
HOPELESS = ((1.9, 2.1), (4.5, 5.5), (18.0, 22.0))


class Loss(MeanMetric):
    """The mean cross entropy."""

    higher_is_better = False

    def update(self, logits: Tensor, labels: Tensor) -> None:  # type: ignore[override]
        """Take a batch."""
        super().update(torch.nn.functional.cross_entropy(logits, labels, reduction="none"))


class Ranking(BinaryAUROC):
    """How well the first class is told from the others."""

    def update(self, logits: Tensor, labels: Tensor) -> None:
        """Take a batch."""
        super().update(logits[:, 0] - logits[:, 1:].logsumexp(1), (labels == 0).long())


METRICS: dict[str, Callable[[], Metric]] = {
    "accuracy": lambda: MulticlassAccuracy(CLASSES, average="micro"),
    "loss": Loss,
    "macro F1": lambda: MulticlassF1Score(CLASSES),
    "AUROC in 200 bins": lambda: Ranking(thresholds=200),
}


@dataclass
class Data:
    """Labels, the scores of fp32, and what int8 may do to them."""

    labels: Tensor
    logits: Tensor
    noise: Tensor
    shift: Tensor
    sizes: list[int]

    def int8(self, damage: float) -> Tensor:
        """Return the scores of a damaged model."""
        return self.logits + damage * (self.noise + self.shift)

    def batches(self, logits: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield scores and labels."""
        return zip(logits.split(self.sizes), self.labels.split(self.sizes), strict=True)


def made_up(order: str, draw: torch.Generator) -> Data:
    """Return a data set with classes of unequal size and difficulty."""
    share = torch.rand(CLASSES, generator=draw) + 0.2
    labels = torch.multinomial(share, SAMPLES, replacement=True, generator=draw)
    shift = torch.randn(CLASSES, generator=draw) * 2 * torch.rand(1, generator=draw)
    if order != "shuffled":  # the class that int8 shifts down most comes first
        rank = shift.argsort().argsort()
        labels = labels[rank[labels].argsort()]
    skill = 2 + 4 * torch.rand(1, generator=draw) + torch.rand(CLASSES, generator=draw)
    logits = torch.randn(SAMPLES, CLASSES, generator=draw)
    logits[torch.arange(SAMPLES), labels] += skill[labels]
    noise = torch.randn(SAMPLES, CLASSES, generator=draw)
    return Data(labels, logits, noise, shift, _sizes(draw))


def _sizes(draw: torch.Generator) -> list[int]:
    if torch.rand(1, generator=draw) < 0.5:
        return [50] * (SAMPLES // 50)
    cuts = torch.randint(1, SAMPLES, (60,), generator=draw).unique().tolist()
    return [b - a for a, b in zip([0, *cuts], [*cuts, SAMPLES], strict=True)]


@dataclass
class Seen:
    """A pass over made-up data."""

    name: str
    metric: Metric
    batches: int = 0
    weight: float = 0.0
    checksum: int = 0

    def partial(self) -> Held:
        """Return what the metric has seen."""
        return Held.of(self.name, self.metric, self.weight)

    def over(self, data: Data, logits: Tensor) -> Iterator[Seen]:
        """Yield itself after each batch."""
        for scores, labels in data.batches(logits):
            self.metric.update(scores, labels)
            self.batches += 1
            self.weight += len(labels)
            yield self


def whole(name: str, data: Data, logits: Tensor) -> float:
    """Return the metric of the whole pass."""
    metric = METRICS[name]()
    metric.update(logits, data.labels)
    return float(metric.compute())


def curve_of(name: str, data: Data) -> Curve:
    """Judge fp32."""
    recorder = Recorder()
    for seen in Seen(name, METRICS[name]()).over(data, data.logits):
        recorder(seen)
    assert recorder.end is not None, recorder.fault
    return Curve(recorder.points, recorder.end, recorder.end.value(), recorder.end.weight)


def share_spent(name: str, data: Data, damage: float, screen: Screen, curve: Curve) -> float:
    """Judge int8, and return the share of the pass after which it is given up, or 1."""
    for seen in Seen(name, METRICS[name]()).over(data, data.int8(damage)):
        if screen.estimate(seen.batches, seen.partial()) is not None:
            return seen.weight / curve.weight
    return 1.0


def drop_of(name: str, data: Data, criterion: Criterion, accuracy: float, damage: float) -> float:
    """Return the drop that a damage makes over the whole pass."""
    return criterion.drop(whole(name, data, data.int8(damage)), accuracy)


def damage_for(drop: Callable[[float], float], low: float, high: float) -> float | None:
    """Return a damage that makes a drop between ``low`` and ``high``."""
    below, above = 0.0, 30.0
    for _ in range(30):
        middle = (below + above) / 2
        found = drop(middle)
        if low <= found <= high:
            return middle
        below, above = (middle, above) if found < low else (below, middle)
    return None


def row(name: str, order: str, times: tuple[float, float], count: int) -> list[float]:
    """Return the shares of the pass that ``count`` trials of this kind took."""
    draw = torch.Generator().manual_seed(7)
    shares: list[float] = []
    while len(shares) < count:
        data = made_up(order, draw)
        curve = curve_of(name, data)
        criterion = Criterion(GOAL, relative=True, higher_is_better=name != "loss")
        drop = partial(drop_of, name, data, criterion, curve.accuracy)
        damage = damage_for(drop, times[0] * GOAL, times[1] * GOAL)
        if damage is not None:
            shares.append(share_spent(name, data, damage, Screen(curve, criterion), curve))
    return shares


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--passing", type=int, default=1000, help="trials that meet the goal, a row"
    )
    parser.add_argument("--hopeless", type=int, default=50, help="trials that do not, a row")
    parser.add_argument("--metrics", nargs="+", default=list(METRICS))
    parser.add_argument("--quick", action="store_true", help="50 and 5 trials a row")
    asked = parser.parse_args()
    if asked.quick:
        asked.passing, asked.hopeless = 50, 5
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    print(f"{SAMPLES} samples, goal {GOAL:.0%} relative\n")
    print("| metric | order | of those that meet it, given up | pass seen, drop 2x | 5x | 20x |")
    print("|---|---|---|---|---|---|")
    for name in asked.metrics:
        for order in ORDERS:
            shares = row(name, order, PASSING, asked.passing)
            wrong = sum(share < 1 for share in shares)
            spent = [row(name, order, times, asked.hopeless) for times in HOPELESS]
            means = " | ".join(f"{sum(one) / len(one):.0%}" for one in spent)
            print(f"| {name} | {order} | {wrong} of {len(shares)} | {means} |", flush=True)


if __name__ == "__main__":
    main()
