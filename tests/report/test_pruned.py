"""What was pruned, by layer and time, and what was cut."""

from report_scenes import CRITERION

from lpot_lightning.pruning.pruners import LayerSparsity
from lpot_lightning.report.facts import PruningFacts
from lpot_lightning.report.pruned import pruning_section
from lpot_lightning.training_log import SparsityLog, TrainingLog

LAYERS = (
    LayerSparsity(
        name="a.weight", shape=(10, 10), sparsity=0.5, target=0.5, pattern="tile_pattern_1x1"
    ),
    LayerSparsity(name="b.weight", shape=(100,), sparsity=0.25, target=None, pattern="channel"),
)


def drawn(alone=True, **given):
    usual = {"monitor": "acc", "criterion": CRITERION, "baseline": 0.9, "accuracy": 0.9}
    usual |= {"met": True, "reached": True, "layers": LAYERS, "sparsity": 0.375}
    return pruning_section(PruningFacts(**{**usual, "parameters": (9, 9), **given}), alone=alone)


def log(*shares):
    return TrainingLog(
        sparsity=tuple(
            SparsityLog(unit="step", at=10 * n, layers={"a.weight": share, "b.weight": 0.0})
            for n, share in enumerate(shares)
        )
    )


def test_each_layer_has_its_share_and_its_target():
    found = drawn()
    assert "10 × 10" in found
    assert "37.5% of the weights that were to be pruned are zero" in found
    assert "over time" not in found
    assert "No channel was cut" in found


def test_the_total_goes_by_the_sizes_of_layers():
    found = drawn(training=log(0.0, 0.5))
    assert "step 10: 25.0% zeros" in found
    assert "over time" in found


def test_what_was_cut_is_told_with_what_it_saves():
    shapes = {"a.weight": ((8, 4), (4, 4))}
    found = drawn(cut=shapes, parameters=(100, 25), macs=(1000, 250), unprunable={"c": "read"})
    assert "Parameters: 100 → 25 (25.0% are left)" in found
    assert "1,000 → 250 (25.0%)" in found
    assert "8 × 4" in found
    assert "weights that were to be pruned became zero, before channels were cut out" in found
    assert " are zero" not in found


def test_what_keeps_all_channels_is_told_with_the_reason():
    shapes = {"a.weight": ((8, 4), (4, 4))}
    found = drawn(cut=shapes, unprunable={"": "it is read", "c": "it is read", "d": "so"})
    assert 'the model itself, <code>c</code></td><td class="why">it is read' in found
    assert '<code>d</code></td><td class="why">so' in found
    assert "<code></code>" not in found


def test_beside_an_int8_model_its_own_verdict_is_told():
    assert "The goal of the pruning was <b>not met</b>" in drawn(alone=False, met=False)
    assert "The goal of the pruning" not in drawn()
