"""Which parameters a pruner prunes."""

from __future__ import annotations

import pytest
from pruning_scenes import net, pruners
from torch import nn
from torch.nn.utils.parametrizations import weight_norm

from lpot_lightning.errors import ConfError, PruningError
from lpot_lightning.pruning.weights import PLACE, assign


def names(*given, model=None, modules=()):
    found = assign(model or net(), pruners(*given), modules)
    return [[weight.name for weight in weights] for weights in found]


def refused(*given, **others):
    with pytest.raises(ConfError) as caught:
        names(*given, **others)
    return str(caught.value)


def test_without_names_every_weight_but_embeddings_norms_and_biases():
    assert names({}) == [["conv.weight", "up.weight", "fc.weight", "out.weight"]]


def test_lazy_weights_are_refused_by_name():
    lazy = nn.Sequential(nn.Linear(2, 2), nn.LazyLinear(2))
    with pytest.raises(PruningError, match="batch of `1.weight`, `1.bias`, and what is pruned"):
        names({}, model=lazy)


def test_names_may_be_globs():
    assert names({"names": ["*c*.weight"]}) == [["conv.weight", "fc.weight"]]


def test_an_embedding_is_pruned_where_it_is_named():
    assert names({"names": ["emb.weight"]}) == [["emb.weight"]]


def test_without_names_are_those_that_nobody_else_names():
    assert names({}, {"names": ["fc.weight"]}) == [
        ["conv.weight", "up.weight", "out.weight"],
        ["fc.weight"],
    ]


def test_names_can_be_excluded():
    assert names({"excluded_names": ["*c*", "up.weight"]}) == [["out.weight"]]
    assert names({"names": ["*.weight"], "excluded_names": ["[!f]*"]}) == [["fc.weight"]]


def test_modules_restrict_all():
    assert names({}, modules=["fc"]) == [["fc.weight"]]
    nested = nn.Sequential(nn.Sequential(nn.Linear(2, 2)), nn.Linear(2, 2))
    assert names({}, model=nested, modules=["0"]) == [["0.0.weight"]]


def test_tied_weights_are_one():
    model = net()
    model.fc.weight = model.out.weight = nn.Parameter(model.fc.weight.detach())
    assert names({}, model=model)[0][2:] == ["fc.weight"]
    assert names({"names": ["out.weight", "fc.weight"]}, model=model) == [["out.weight"]]


def test_a_transposed_convolution_is_known():
    (weights,) = assign(net(), pruners({"names": ["up.weight", "conv.weight"]}))
    assert [weight.transposed for weight in weights] == [True, False]


def test_what_is_parametrized_is_left_alone():
    model = net()
    weight_norm(model.fc)
    assert "fc" not in str(names({}, model=model))


def test_a_name_that_matches_nothing_is_refused():
    assert refused({"names": ["conv.weigth"]}) == (
        f"`{PLACE}[0].names` has `conv.weigth`, which matches no parameter."
        " Did you mean `conv.weight`?"
    )
    assert refused({}, {"names": ["conv.weight", "x*"]}) == (
        f"`{PLACE}[1].names` has `x*`, which matches no parameter."
    )
    assert refused({"excluded_names": ["xx"]}) == (
        f"`{PLACE}[0].excluded_names` has `xx`, which matches no parameter."
    )


def test_a_module_that_matches_nothing_is_refused():
    assert refused({}, modules=["cnv"]) == (
        "`modules` has `cnv`, which matches no module. Did you mean `conv`?"
    )


def test_a_bias_is_refused():
    assert refused({"names": ["fc.bias"]}) == (
        f"`{PLACE}[0].names` has `fc.bias`, which matches no weight of two dimensions or more;"
        " `fc.bias` is [8]"
    )


def test_two_pruners_of_one_weight_are_refused():
    assert refused({"names": ["fc.weight"]}, {"names": ["f*"]}) == (
        f"`fc.weight` is pruned by `{PLACE}[0]` and by `[1]`: name it in one of them, or exclude it"
        " in the other by `excluded_names`"
    )


def test_a_pruner_with_nothing_left_is_refused():
    assert refused({}, {"names": ["*"]}) == f"`{PLACE}[0]` prunes nothing: no weight is left for it"
    assert refused({"names": ["fc.weight"]}, modules=["out"]).endswith(
        "no weight is left for it in `modules`"
    )


class Encoder(nn.Module):
    """Named as the layers of BERT are."""

    def __init__(self):
        super().__init__()
        self.layer = nn.ModuleList([self._layer(), self._layer()])

    def _layer(self):
        attention = nn.ModuleDict({"output": nn.ModuleDict({"dense": nn.Linear(4, 4)})})
        return nn.ModuleDict(
            {"attention": attention, "output": nn.ModuleDict({"dense": nn.Linear(4, 4)})}
        )


OUTPUTS = ["layer.0.output.dense.weight", "layer.1.output.dense.weight"]


def test_a_star_is_the_number_of_a_layer_and_what_it_passes_is_told():
    told, pattern = [], "layer.*.output.dense.weight"
    (found,) = assign(Encoder(), pruners({"names": [pattern]}), say=told.append)
    assert [(one.name, one.layer) for one in found] == list(zip(OUTPUTS, "01", strict=True))
    assert told == [
        f"`{PLACE}[0].names` has `{pattern}`, where `*` is the number of a layer, as in LPOT:"
        f" `{OUTPUTS[0]}`, `{OUTPUTS[1]}`. Any text in its place would also match"
        " `layer.0.attention.output.dense.weight`, `layer.1.attention.output.dense.weight`; write"
        " `**` if you mean that"
    ]


def test_two_stars_are_any_text():
    assert len(names({"names": ["layer.**output.dense.weight"]}, model=Encoder())[0]) == 4


def test_nothing_is_told_where_another_pruner_names_the_rest():
    told, attention = [], "layer.*.attention.output.dense.weight"
    asked = pruners({"names": ["layer.*.output.dense.weight"]}, {"names": [attention]})
    assign(Encoder(), asked, say=told.append)
    assert told == []


def test_a_star_in_what_is_excluded_is_read_alike():
    told = []
    asked = pruners({"excluded_names": ["layer.*.output.dense.weight"]})
    (found,) = assign(Encoder(), asked, say=told.append)
    assert [one.name for one in found] == [
        "layer.0.attention.output.dense.weight",
        "layer.1.attention.output.dense.weight",
    ]
    assert len(told) == 1


def test_a_number_that_only_a_norm_has_leaves_the_star_to_any_text():
    model = nn.Sequential(nn.BatchNorm2d(4), nn.Sequential(nn.Conv2d(4, 4, 1)))
    assert names({"names": ["*.weight"]}, model=model) == [["1.0.weight"]]


# -- what nothing trains --------------------------------------------------------------------------

LEFT = (
    "not pruned, because nothing trains it when pruning begins: `{}`. It could not recover; name it"
)


def student():
    """A net with a frozen part, which is named in front of what is trained."""
    teacher = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4)).requires_grad_(False)
    return nn.ModuleDict({"teacher": teacher, "net": nn.Linear(4, 4)})


def told_of(*given, model, modules=()):
    told = []
    frozen = [name for name, one in model.named_parameters() if not one.requires_grad]
    found = assign(model, pruners(*given), modules, say=told.append, frozen=frozen)
    return [one.name for one in found[0]], "\n".join(told)


def test_what_nothing_trains_is_left_alone_and_told_by_module():
    found, told = told_of(model=student())
    assert found == ["net.weight"]
    assert told.startswith(LEFT.format("teacher"))


def test_what_nothing_trains_is_pruned_where_it_is_named():
    found, told = told_of({"names": ["teacher.*.weight"]}, model=student())
    assert found == ["teacher.0.weight", "teacher.2.weight"]
    assert told == (
        "pruned as `names` or `modules` ask, and nothing trains it when pruning begins: `teacher`."
        " It cannot recover until something does"
    )


def test_what_nothing_trains_is_pruned_where_modules_name_it_as_a_whole():
    found, told = told_of(model=student(), modules=["teacher", "net"])
    assert found == ["teacher.0.weight", "teacher.2.weight", "net.weight"]
    assert "`teacher`. It cannot recover" in told
    inner = nn.ModuleDict({"all": student()})
    found, told = told_of(model=inner, modules=["all"])
    assert found == ["all.net.weight"]
    assert told.startswith(LEFT.format("all.teacher"))


def test_zeros_of_what_nothing_trains_are_locked():
    found, told = told_of({"prune_type": "pattern_lock"}, model=student())
    assert found == ["teacher.0.weight", "teacher.2.weight", "net.weight"]
    assert not told


def test_where_nothing_is_trained_the_error_says_so():
    model = student().requires_grad_(False)
    with pytest.raises(ConfError) as caught:
        told_of(model=model)
    assert "prunes nothing: no weight is left for it; not pruned, because" in str(caught.value)


def test_what_is_excluded_or_outside_of_modules_is_not_told():
    assert not told_of({"excluded_names": ["teacher.*"]}, model=student())[1]
    assert not told_of(model=student(), modules=["net"])[1]


def test_embeddings_and_parametrized_weights_that_are_left_are_told():
    model = net()
    weight_norm(model.fc)
    found, told = told_of(model=model)
    assert found == ["conv.weight", "up.weight", "out.weight"]
    assert told == (
        "not pruned where no `names` ask for it: embeddings: `emb`; parametrized weights: `fc`"
    )


def test_an_embedding_that_is_pruned_by_another_name_is_not_told():
    model = nn.ModuleDict({"emb": nn.Embedding(4, 4), "out": nn.Linear(4, 4)})
    model["out"].weight = model["emb"].weight
    assert told_of(model=model) == (["out.weight"], "")
