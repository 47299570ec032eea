"""Kernels of every kind, proved or left out with a reason."""

import pytest
import torch
import torch.nn.functional as F
from int8_scenes import (
    Batch,
    all_int8,
    calibrated,
    converted,
    distance,
    int8_ops,
    load,
    other_weights,
    recipes,
    same,
    save,
    truth_of,
)
from torch import nn
from zoo import Made, images, seeded

from lpot_lightning.quantization.fx import kernels


def between(step, /, **layers):
    """Return a model with ``step`` between two convolutions."""
    return seeded(
        lambda: Made(
            lambda m, x: m.post(step(m, m.pre(x))),
            pre=nn.Conv2d(3, 4, 3, padding=1),
            post=nn.Conv2d(4, 2, 1),
            **layers,
        )
    )


def layer(module):
    return lambda: between(lambda m, x: m.step(x), step=module)


def function(step, **layers):
    return lambda: between(step, **layers)


def norm(**given):
    return lambda m, x: F.layer_norm(x, (8, 8), **{k: getattr(m, v) for k, v in given.items()})


PROVED = {
    "step": [
        nn.LeakyReLU(0.3), nn.Hardswish(), nn.Softmax(1), nn.Sigmoid(), nn.Tanh(),
        nn.Hardsigmoid(), nn.LayerNorm((8, 8)),
        nn.LayerNorm((8, 8), elementwise_affine=False),
        nn.Conv2d(4, 4, 3, padding=1, padding_mode="reflect"),
        nn.Conv2d(4, 4, 3, padding="same"), nn.Conv2d(4, 4, 3, padding=2, dilation=2, groups=4),
    ],
    "#elu_0": [lambda m, x: F.elu(x)],
    "#leaky_relu_0": [lambda m, x: F.leaky_relu(x, 0.3)],
    "#instance_norm_0": [lambda m, x: F.instance_norm(x.flatten(2)).reshape(x.shape)],
    "#layer_norm_0": [lambda m, x: F.layer_norm(x, (8, 8))],
    "#hardswish_0": [lambda m, x: F.hardswish(x)],
    "#sigmoid_0": [lambda m, x: x.sigmoid(), lambda m, x: x * torch.sigmoid(x)],
    "#add_0": [
        lambda m, x: x + 1, lambda m, x: 1.5 + x, lambda m, x: F.relu(x + 1),
        lambda m, x: torch.add(x, x.relu(), alpha=3), lambda m, x: x + x.mean((2, 3), keepdim=True),
    ],
    "#mul_0": [lambda m, x: x * 2.0, lambda m, x: -2 * x, lambda m, x: F.relu(x * x)],
    "#cat_0": [lambda m, x: torch.cat([x, F.gelu(x)], 2)],
}  # fmt: skip
CASES = [
    pytest.param(op, layer(step) if isinstance(step, nn.Module) else function(step), id=f"{op}{i}")
    for op, steps in PROVED.items()
    for i, step in enumerate(steps)
]


@pytest.mark.parametrize(("op", "model"), CASES)
def test_common_kernels_are_proved_and_kept(op, model, tmp_path):
    model, batches = model(), images(8, 8)()
    found = calibrated(model, *batches)
    assert op in int8_ops(found), found.excluded
    for recipe in recipes(found):
        assert truth_of(found, recipe) == set(recipe.int8_ops)
    int8 = save(tmp_path, model, found)
    assert distance(batches[0](int8), batches[0](model)) < 0.05
    assert same(batches[0](load(tmp_path, other_weights(model))), batches[0](int8))


LARGE = "its int8 kernel is wrong in batches of more samples than an image has pixels"


@pytest.mark.parametrize(
    ("op", "model"),
    [
        ("step", layer(nn.InstanceNorm2d(4))),
        ("step", layer(nn.InstanceNorm2d(4, affine=True))),
        ("#instance_norm_0", function(lambda m, x: F.instance_norm(x))),
    ],
)
@pytest.mark.parametrize("for_training", [False, True])
def test_instance_norm_of_images_stays_fp32(op, model, for_training):
    found = calibrated(model(), *images(8, 8)(), for_training=for_training)
    assert found.excluded == {op: LARGE}
    assert int8_ops(found) == ("pre", "post")


@pytest.mark.parametrize(
    ("conv", "norm", "shape"),
    [(nn.Conv1d, nn.InstanceNorm1d, (5,)), (nn.Conv3d, nn.InstanceNorm3d, (2, 2, 2))],
)
def test_instance_norm_of_others_is_int8_at_every_batch_size(conv, norm, shape):
    model = seeded(lambda: nn.Sequential(conv(3, 4, 1), norm(4, affine=True), conv(4, 2, 1)))
    x = torch.randn(64, 3, *shape)
    found = calibrated(model, Batch(x))
    assert "1" in int8_ops(found)
    int8 = converted(model, found, all_int8(found))
    with torch.no_grad():
        assert distance(int8(x), model(x)) < 0.05
        assert torch.equal(int8(x), torch.cat([int8(one) for one in x.split(1)]))


def test_layer_norm_is_proved_where_its_weight_comes_by_name():
    model = between(norm(weight="w", bias="b"), w=nn.Parameter(torch.rand(8, 8)), b=None)
    assert "#layer_norm_0" in int8_ops(calibrated(model, *images(8, 8)()))


def test_batch_norm_alone_is_proved_with_and_without_relu():
    for step in (lambda m, x: m.bn(F.max_pool2d(x, 2)), lambda m, x: F.relu(m.bn(x * x))):
        model = between(step, bn=nn.BatchNorm2d(4))
        assert "bn" in int8_ops(calibrated(model, *images(8, 8)()))


@pytest.mark.parametrize(
    ("module", "reason"),
    [
        (nn.GroupNorm(2, 4), "has no int8 kernel for `GroupNorm`"),
        (nn.RMSNorm(8), "has no int8 kernel for `RMSNorm`"),
        (nn.Conv2d(4, 4, 3, padding=1, padding_mode="circular"), "has no int8 kernel for `Conv2d`"),
        (
            nn.Conv2d(4, 4, 3, padding=1, padding_mode="replicate"),
            "has no int8 kernel for `Conv2d`",
        ),
    ],
)
def test_a_layer_without_a_kernel_is_named(module, reason):
    model, batches = layer(module)(), images(8, 8)()
    found = calibrated(model, *batches)
    assert found.excluded == {"step": reason}
    assert int8_ops(found) == ("pre", "post")


@pytest.mark.parametrize(
    "step",
    [
        nn.ELU(),  # keeps its scale out of the state_dict
        nn.PReLU(4),
        nn.GELU(),
        nn.BatchNorm2d(4, affine=False),
        nn.Hardtanh(),
        nn.Upsample(scale_factor=2, mode="bilinear"),
        nn.AdaptiveAvgPool2d(2),
        nn.Dropout2d(),
    ],
)
def test_what_has_no_kernel_or_needs_none_does_no_harm(step, tmp_path):
    model, batches = layer(step)(), images(8, 8)()
    found = calibrated(model, *batches)
    assert int8_ops(found) == ("pre", "post")
    int8 = save(tmp_path, model, found)
    assert distance(batches[0](int8), batches[0](model)) < 0.05
    assert same(batches[0](load(tmp_path, other_weights(model))), batches[0](int8))


def test_an_op_before_what_int8_cannot_do_gives_way_with_the_reason():
    model = between(lambda m, x: F.interpolate(x, scale_factor=2, mode="bicubic"))
    found = calibrated(model, *images(8, 8)())
    assert "has no int8 kernel for what is asked of it (NotImpl" in found.excluded["pre"]
    assert "\n" not in found.excluded["pre"]
    assert int8_ops(found) == ("post",)


def test_a_kernel_that_nothing_can_be_held_against_is_not_believed(monkeypatch):
    monkeypatch.delitem(kernels._FLOAT, "elu")
    found = calibrated(between(lambda m, x: F.elu(x)), *images(8, 8)())
    assert found.excluded == {"#elu_0": "has an int8 kernel that cannot be proved against fp32"}


def test_a_kernel_that_computes_something_else_is_found_out(monkeypatch):
    monkeypatch.setitem(kernels._FLOAT, "elu", lambda x, *_, **__: -F.elu(x))
    found = calibrated(between(lambda m, x: F.elu(x)), *images(8, 8)())
    assert found.excluded["#elu_0"].startswith("its int8 kernel is wrong on this machine (relati")


def test_a_layer_whose_result_nobody_reads_is_no_op():
    model = between(lambda m, x: (m.dead(x), x)[1], dead=nn.Conv2d(4, 4, 1))
    found = calibrated(model, *images(8, 8)())
    assert found.excluded == {"dead": "has no int8 kernel"}


def test_all_first_choices_of_what_is_left_are_int8():
    found = calibrated(between(lambda m, x: F.elu(x)), *images(8, 8)())
    assert all_int8(found).fp32_ops == ()
