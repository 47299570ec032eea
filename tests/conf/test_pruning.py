"""The `pruning` section."""

from __future__ import annotations

import pytest
from conf_scenes import conf_of, refusal, remark

from lpot_lightning.conf.reader import read_conf

PLACE = "pruning.approach.weight_compression"


def pruning_of(*pruners, **shared):
    weights = {**shared, "pruners": list(pruners)}
    return conf_of(pruning={"approach": {"weight_compression": weights}})


def weights_of(conf):
    return read_conf(conf).pruning.approach.weight_compression


def test_a_tagged_pruner_and_a_plain_mapping_mean_the_same(write):
    name = write(
        "model: {name: net, framework: pytorch_fx}\npruning:\n  approach:\n"
        "    weight_compression:\n      end_epoch: 6\n      pruners:\n"
        "        - !Pruner\n            names: ['a.weight', 'b.weight']\n"
        "            initial_sparsity: 0\n"
        "        - !Pruner {prune_type: pattern_lock}\n"
    )
    plain = pruning_of(
        {"names": "a.weight, b.weight", "initial_sparsity": 0.0},
        {"prune_type": "pattern_lock"},
        end_epoch=6,
    )
    assert read_conf(name) == read_conf(plain)
    assert read_conf(name).quantizes is False


def test_zero_is_an_answer():
    weights = weights_of(
        pruning_of(
            {"start_epoch": 0, "initial_sparsity": 0, "target_sparsity": 0},
            start_epoch=1,
            initial_sparsity=0.5,
        )
    )
    pruner = weights.resolved()[0]
    assert (pruner.start_epoch, pruner.initial_sparsity, pruner.target_sparsity) == (0, 0.0, 0.0)


def test_the_defaults_are_lpots():
    weights = weights_of(pruning_of({}))
    assert (weights.initial_sparsity, weights.target_sparsity) == (0.0, 0.97)
    assert (weights.start_epoch, weights.end_epoch) == (0, 4)
    pruner = weights.pruners[0]
    assert (pruner.prune_type, pruner.method) == ("basic_magnitude", "per_tensor")
    assert (pruner.update_frequency, pruner.names, pruner.parameters) == (None, (), None)
    assert weights.resolved()[0].end_epoch == 4


@pytest.mark.parametrize(
    ("pruner", "shared", "ends"),
    [
        ({}, {"end_step": 90}, (None, None, 0, 90)),
        ({"start_step": 20}, {"start_step": 10, "end_step": 90}, (None, None, 20, 90)),
        ({"start_step": 0, "end_step": 9}, {"end_epoch": 3}, (None, None, 0, 9)),
        ({"end_step": 9}, {}, (None, None, 0, 9)),
        ({"end_epoch": 2}, {"end_step": 90}, (0, 2, None, None)),
        ({"start_epoch": 1}, {"end_step": 90}, (1, 4, None, None)),
        ({"start_epoch": 1}, {"end_epoch": 3}, (1, 3, None, None)),
    ],
    ids=str,
)
def test_a_pruner_counts_what_it_says_itself_else_what_all_count(pruner, shared, ends):
    conf = pruning_of(pruner, **shared)
    (one,) = weights_of(conf).resolved()
    assert (one.start_epoch, one.end_epoch, one.start_step, one.end_step) == ends
    assert read_conf(read_conf(conf).to_dict()) == read_conf(conf)


@pytest.mark.parametrize(
    ("pruner", "shared", "said"),
    [
        (
            {"start_epoch": 1, "end_step": 9},
            {},
            ".pruners[0].end_step` counts steps of the optimizer, and `start_epoch` beside it"
            " epochs; allowed: one of the two.",
        ),
        (
            {},
            {"end_epoch": 0, "end_step": 9},
            ".end_step` counts steps of the optimizer, and `end_epoch` beside it epochs; allowed:"
            " one of the two.",
        ),
        (
            {"start_step": 5},
            {},
            ".pruners[0]` has `start_step` and no `end_step`, the step that begins at the target:"
            " give both.",
        ),
        (
            {"start_step": 95},
            {"end_step": 90},
            ".pruners[0]` goes from `start_step` 95 to `end_step` 90; allowed: `start_step` not"
            " above `end_step`.",
        ),
        (
            {"prune_type": "pattern_lock", "end_step": 3},
            {},
            ".pruners[0].end_step` has no meaning for `prune_type: pattern_lock`, which keeps the"
            " zeros that are there when the training begins: leave it out.",
        ),
        (
            {"end_step": -1},
            {},
            ".pruners[0].end_step` is `-1`; allowed: a whole number in [0, inf).",
        ),
    ],
    ids=str,
)
def test_a_schedule_in_steps_that_cannot_be_is_refused(pruner, shared, said):
    assert refusal(pruning_of(pruner, **shared)) == f"`{PLACE}{said}"


def test_a_lock_stands_beside_pruners_in_steps():
    locked, other = weights_of(
        pruning_of({"prune_type": "pattern_lock"}, {}, end_step=90)
    ).resolved()
    assert (locked.prune_type, other.end_step) == ("pattern_lock", 90)


def test_a_structured_pruner_has_parameters():
    parameters = {"target": 8, "stride": 64, "transpose": True, "importance_inputs": ["head_mask"]}
    pruner = weights_of(
        pruning_of({"prune_type": "gradient_sensitivity", "parameters": parameters})
    ).pruners[0]
    assert pruner.parameters["target"] == 8
    assert pruner.parameters["importance_inputs"] == ("head_mask",)


@pytest.mark.parametrize(
    ("pruner", "said"),
    [
        (
            {"target_sparsity": 1.1},
            f"`{PLACE}.pruners[0].target_sparsity` is `1.1`; allowed: a number in [0, 1].",
        ),
        (
            {"initial_sparsity": 1},
            f"`{PLACE}.pruners[0].initial_sparsity` is `1`; allowed: a number in [0, 1).",
        ),
        (
            {"start_epoch": 5},
            f"`{PLACE}.pruners[0]` goes from `start_epoch` 5 to `end_epoch` 4; "
            "allowed: `start_epoch` not above `end_epoch`.",
        ),
        (
            {"initial_sparsity": 0.98},
            f"`{PLACE}.pruners[0]` goes from `initial_sparsity` 0.98 to "
            "`target_sparsity` 0.97; allowed: `initial_sparsity` not above `target_sparsity`.",
        ),
        (
            {"update_frequency": 0},
            f"`{PLACE}.pruners[0].update_frequency` is `0`; allowed: a whole number in [1, inf).",
        ),
        (
            {"update_frequency": 1.5},
            f"`{PLACE}.pruners[0].update_frequency` is `1.5`; allowed: a whole number in [1, inf).",
        ),
        (
            {"prune_type": "magnitude"},
            f"`{PLACE}.pruners[0].prune_type` is `magnitude`; allowed: "
            "`basic_magnitude`, `gradient_sensitivity`, `pattern_lock`. Did you mean "
            "`basic_magnitude`?",
        ),
        (
            {"method": "per_layer"},
            f"`{PLACE}.pruners[0].method` is `per_layer`; allowed: `per_tensor`, "
            "`per_channel`. Did you mean `per_tensor`?",
        ),
        (
            {"parameters": {"target": 8}},
            f"`{PLACE}.pruners[0].parameters` is for `prune_type: "
            "gradient_sensitivity`, and this is `basic_magnitude`: leave it out.",
        ),
        ({"names": [1]}, f"`{PLACE}.pruners[0].names` is `1`; allowed: a text (put it in quotes)."),
        (None, f"`{PLACE}.pruners[0]` is missing."),
        ("conv1", f"`{PLACE}.pruners[0]` is `conv1`; allowed: a mapping."),
    ],
)
def test_a_pruner_that_cannot_prune_is_refused(pruner, said):
    assert refusal(pruning_of(pruner)) == said


def test_a_part_of_an_epoch_is_a_step_each_epoch_as_in_lpots_template():
    conf, said = remark(pruning_of({"update_frequency": 0.1}))
    assert weights_of(conf).pruners[0].update_frequency == 1
    assert f"`{PLACE}.pruners[0].update_frequency` is `0.1`, and an epoch has one step;" in said


def test_an_unknown_key_of_a_pruner_is_refused_with_its_line(write):
    name = write(
        "model: {name: net, framework: pytorch_fx}\npruning:\n  approach:\n"
        "    weight_compression:\n      pruners:\n        - !Pruner\n"
        "            group_lasso: 4x1\n"
    )
    assert refusal(name).startswith(
        f"ptq.yaml:7: `{PLACE}.pruners[0].group_lasso` is not a known key;"
    )


def test_a_pruner_says_pattern_domain_and_schedule():
    own = {"pattern": "4x1", "prune_domain": "global", "schedule": "cubic"}
    weights = weights_of(pruning_of(own, {}, schedule="linear"))
    first, second = weights.resolved()
    assert (first.pattern, first.prune_domain, first.schedule) == ("4x1", "global", "cubic")
    assert (second.pattern, second.prune_domain, second.schedule) == (
        "tile_pattern_1x1",
        "local",
        "linear",
    )


@pytest.mark.parametrize("pattern", ["tile_pattern_2x2", "1x16", "16x1", "2:4", "1:8", "channel"])
def test_a_pattern_is_read(pattern):
    assert weights_of(pruning_of({"pattern": pattern})).pruners[0].pattern == pattern


def test_two_of_four_needs_no_quotes_in_a_file(write):
    name = write(
        "model: {name: net, framework: pytorch_fx}\npruning: {approach: {weight_compression: "
        "{pruners: [{pattern: 2:4}]}}}\n"
    )
    assert weights_of(name).resolved()[0].target_sparsity == 0.5


def test_what_yaml_1_1_makes_of_two_of_four_is_understood():
    said = refusal(pruning_of({"pattern": 124}))
    assert said.startswith(f"`{PLACE}.pruners[0].pattern` is `124`; allowed: `tile_pattern_1x1`,")
    assert said.endswith("If it was `2:4`, put it in quotes.")


@pytest.mark.parametrize("pattern", ["4:2", "2:2", "0:4", "0x1", "2x", "tile_pattern_2", "rows", 2])
def test_what_is_no_pattern_is_refused(pattern):
    said = refusal(pruning_of({"pattern": pattern}))
    assert said.startswith(f"`{PLACE}.pruners[0].pattern` is `{pattern}`; allowed:")


@pytest.mark.parametrize(
    ("pruner", "said"),
    [
        (
            {"pattern": "2:4", "target_sparsity": 0.9},
            "target_sparsity` is `0.9`, and `pattern: 2:4` leaves 0.5 of the weights zero: "
            "leave it out.",
        ),
        (
            {"pattern": "2:4", "method": "per_channel"},
            "method` is `per_channel`, and `pattern: 2:4` is the same in every 4 weights: "
            "leave it out.",
        ),
        (
            {"method": "per_channel", "prune_domain": "global"},
            "prune_domain` is `global`, which ranks the weights of all tensors together, and "
            "`method: per_channel` gives every channel the same sparsity; allowed: one of the two.",
        ),
        (
            {"method": "per_channel", "pattern": "channel"},
            "method` is `per_channel`, and `pattern: channel` prunes whole channels.",
        ),
        (
            {"prune_type": "pattern_lock", "target_sparsity": 0.5},
            "target_sparsity` has no meaning for `prune_type: pattern_lock`, which keeps the zeros "
            "that are there when the training begins: leave it out.",
        ),
        (
            {
                "prune_type": "gradient_sensitivity",
                "parameters": {"target": 2},
                "target_sparsity": 0.5,
            },
            "target_sparsity` is given, and so is `parameters.target`, the number of groups to "
            "keep: leave one out.",
        ),
        (
            {"prune_type": "gradient_sensitivity", "parameters": {}, "pattern": "4x1"},
            "pattern` is given, and `parameters` says what goes together: leave one out.",
        ),
    ],
)
def test_a_pruner_that_contradicts_itself_is_refused(pruner, said):
    assert refusal(pruning_of(pruner)) == f"`{PLACE}.pruners[0].{said}"


@pytest.mark.parametrize(
    "pruning",
    [
        {"magnitude": {"prune1": {"weights": ["conv1.weight"], "target_sparsity": 0.5}}},
        {"start_epoch": 0, "magnitude": {}},
        {"init_sparsity": 0.1},
        {"approach": {"weight_magnitude": {"target_sparsity": 0.3}}},
    ],
)
def test_the_older_form_is_refused_and_the_new_one_is_shown(pruning):
    assert refusal(conf_of(pruning=pruning)).endswith(
        "is LPOT 1.3's form; write `approach: {weight_compression: {target_sparsity: 0.97, "
        "pruners: [{prune_type: basic_magnitude, names: [conv1.weight]}]}}` under `pruning`."
    )


def test_the_new_form_that_is_shown_is_read():
    weights = weights_of(
        pruning_of(
            {"prune_type": "basic_magnitude", "names": ["conv1.weight"]}, target_sparsity=0.97
        )
    )
    assert weights.pruners[0].names == ("conv1.weight",)


@pytest.mark.parametrize(
    ("pruning", "said"),
    [
        ({}, "`pruning.approach` is missing."),
        ({"approach": {}}, f"`{PLACE}` is missing."),
        (
            {"approach": {"weight_compression": {"target_sparsity": 0.5}}},
            f"`{PLACE}` has no `pruners`, "
            "so nothing would be pruned; `pruners: [{}]` prunes every weight.",
        ),
    ],
)
def test_pruning_that_prunes_nothing_is_refused(pruning, said):
    assert refusal(conf_of(pruning=pruning)) == said
