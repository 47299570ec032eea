"""Single ops, simulated."""

import torch
from zoo import calibrated_made

from lpot_lightning.quantization.fx.probe import ToggleRun, rounded_weights
from lpot_lightning.recipe import Recipe


def run_of(name):
    _, batches, found = calibrated_made(name)
    recipe = Recipe.of({op.name: op.configs[0] for op in found.ops})
    run = ToggleRun(found._parts[0], recipe.as_mapping())
    with torch.no_grad():
        return run, run.in_fp32(batches[0].args, batches[0].kwargs), found


def test_each_run_begins_from_the_clean_values():
    run, clean, found = run_of("functions")
    with torch.no_grad():
        first = {op.name: run.with_int8([op.name]) for op in found.ops}
        again = {op.name: run.with_int8([op.name]) for op in reversed(found.ops)}
    assert all(torch.equal(first[name][0], again[name][0]) for name in first)
    assert not any(torch.equal(noisy[0], clean[0]) for noisy in first.values())


def test_a_graph_with_several_outputs_gives_them_all():
    run, clean, found = run_of("dicts")
    with torch.no_grad():
        noisy = run.with_int8(["head"])
    assert len(clean) == len(noisy) == 3
    assert torch.equal(noisy[1], clean[1])


def test_only_weights_that_int8_holds_are_rounded():
    *_, found = calibrated_made("batch norm alone")
    layers = dict(found._parts[0].graph.named_modules())
    assert list(rounded_weights(layers["2"])) == ["weight"]
    assert rounded_weights(layers["0"]) == {}
