"""Single ops, simulated."""

import weakref

import torch
from int8_scenes import all_int8
from zoo import calibrated_made

from lpot_lightning.quantization.fx.probe import ToggleRun, rounded_weight


def run_of(name):
    _, batches, found = calibrated_made(name)
    configs = all_int8(found).as_mapping()
    with torch.no_grad():
        run = ToggleRun(found._parts[0], batches[0].args, batches[0].kwargs)
    return run, configs, found


def test_each_run_begins_from_the_clean_values():
    run, configs, found = run_of("functions")
    with torch.no_grad():
        first = {op.name: run.with_int8(configs, [op.name]) for op in found.ops}
        again = {op.name: run.with_int8(configs, [op.name]) for op in reversed(found.ops)}
    assert all(torch.equal(first[name][0], again[name][0]) for name in first)
    assert not any(torch.equal(noisy[0], run.clean[0]) for noisy in first.values())


def test_a_graph_with_several_outputs_gives_them_all():
    run, configs, _ = run_of("dicts")
    with torch.no_grad():
        noisy = run.with_int8(configs, ["head"])
    assert len(run.clean) == len(noisy) == 3
    assert torch.equal(noisy[1], run.clean[1])


def test_what_an_op_does_not_reach_is_not_run_again():
    run, configs, found = run_of("dicts")
    whole = run.computed
    with torch.no_grad():
        run.with_int8(configs, ["head"])
    assert run.computed == whole + 1


def test_a_run_holds_on_to_nothing_but_the_clean_values():
    run, configs, _ = run_of("residual")
    with torch.no_grad():
        noisy = weakref.ref(run.with_int8(configs, ["c1"])[0])
    assert noisy() is None
    assert run.env == {}


def test_only_weights_that_int8_holds_are_rounded():
    *_, found = calibrated_made("batch norm alone")
    layers = dict(found._parts[0].graph.named_modules())
    assert list(rounded_weight(layers["2"])) == ["weight"]
    assert rounded_weight(layers["0"]) == {}
