"""LPOT's imperative pruning: hooks in a loop of the user's, and the call."""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torch import nn
from torch.utils.data import DataLoader, TensorDataset
from torchmetrics.classification import MulticlassAccuracy

from lpot_lightning import Pruning, load
from lpot_lightning.artifacts.storage import to_bytes
from lpot_lightning.artifacts.tune_config import seal, seal_with_file
from lpot_lightning.errors import (
    ArtifactError,
    ConfError,
    DataError,
    EvaluationError,
    PruningError,
)
from lpot_lightning.machine.files import sha256
from lpot_lightning.machine.lock import WorkspaceLock
from lpot_lightning.runs.pruning_result import NAMES

KINDS, WIDTH = 3, 8


def points(count: int = 96, seed: int = 0) -> TensorDataset:
    draw = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % KINDS
    noise = 0.5 * torch.randn(count, WIDTH, generator=draw)
    return TensorDataset(4 * torch.eye(KINDS, WIDTH)[labels] + noise, labels)


def loader() -> DataLoader[Any]:
    return DataLoader(points(), batch_size=16)


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.up, self.norm = nn.Linear(WIDTH, 16), nn.BatchNorm1d(16)
        self.out = nn.Linear(16, KINDS)

    def forward(self, x):
        return self.out(self.norm(self.up(x)).relu())


def net() -> Net:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Net()


def conf(workspace: Path | None = None, *pruners: Any, **shared: Any) -> dict[str, Any]:
    train = shared.pop("train", None)
    weights = {"target_sparsity": 0.5, "end_epoch": 2, "pruners": list(pruners or [{}]), **shared}
    pruning = {"approach": {"weight_compression": weights}}
    if train:
        pruning["train"] = train
    tuning = {"workspace": {"path": str(workspace)}} if workspace else {}
    tuning["accuracy_criterion"] = {"absolute": 0.2}
    model = {"name": "points", "framework": "pytorch_fx"}
    return {"model": model, "tuning": tuning, "pruning": pruning}


def accuracy(model: nn.Module) -> float:
    x, y = points(48, seed=1).tensors
    return float((model(x).argmax(1) == y).float().mean())


def training(pruning: Pruning, epochs: int = 4, post_grad: bool = True) -> Any:
    """Return a loop as LPOT's documents have it."""

    def train(model: nn.Module) -> None:
        sgd = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)
        for epoch in range(epochs):
            pruning.on_epoch_begin(epoch)
            for number, (x, y) in enumerate(loader()):
                pruning.on_batch_begin(number)
                sgd.zero_grad()
                nn.functional.cross_entropy(model(x), y).backward()
                if post_grad:
                    pruning.on_post_grad()
                sgd.step()
                pruning.on_batch_end()
            pruning.on_epoch_end()

    return train


def zeros(model: nn.Module) -> dict[str, int]:
    return {n: int((v == 0).sum()) for n, v in model.named_parameters() if v.dim() > 1}


def test_hooks_prune_the_users_model_in_place() -> None:
    pruning, model = Pruning(conf()), net()
    up, before = model.up.weight, model.out.weight.detach().clone()
    pruning.model = model
    training(pruning)(model)
    assert zeros(model) == {"up.weight": 64, "out.weight": 24}
    assert model.up.weight is up
    assert (model.out.weight[model.out.weight != 0] != before[model.out.weight != 0]).all()


def test_a_call_prunes_a_copy_and_judges_it(tmp_path: Path) -> None:
    pruning, model = Pruning(conf(tmp_path)), net()
    before = copy.deepcopy(model.state_dict())
    pruned = pruning(model, q_func=training(pruning), eval_func=accuracy)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert zeros(pruned) == {"up.weight": 64, "out.weight": 24}
    result = pruning.result
    assert (result.status, result.reached, result.sparsity) == ("met", True, 0.5)
    assert result.model is pruned
    assert result.accuracy == accuracy(pruned) > accuracy(model.eval()) == result.baseline
    assert not pruned.training
    assert pruning.model is None


def test_the_result_knows_its_calls_and_judges_another_model(tmp_path: Path) -> None:
    pruning = Pruning(conf(tmp_path))
    pruned = pruning(net(), q_func=training(pruning), eval_func=accuracy)
    origin = pruning.result.origin
    assert (origin.root, origin.accuracy) == ("", pruning.result.accuracy)
    assert [len(call.args[0]) for call in origin.calls] == [48]
    assert origin.judge(copy.deepcopy(pruned)) == origin.accuracy > origin.judge(net().eval())


def test_attributes_say_the_same(tmp_path: Path) -> None:
    pruning = Pruning(conf_fname=conf(tmp_path))
    pruning.model, pruning.q_func = net(), training(pruning)
    pruning.eval_dataloader = loader()
    pruning.metric("accuracy", MulticlassAccuracy, num_classes=KINDS)
    pruned = pruning()
    assert pruning.result.monitor == "accuracy"
    assert zeros(pruned)["up.weight"] == 64


def test_the_files_give_the_model_back(tmp_path: Path) -> None:
    pruning = Pruning(conf(tmp_path))
    pruned = pruning(net(), q_func=training(pruning), eval_func=accuracy)
    again = load(tmp_path / "pruned_configure.yaml", tmp_path / "pruned_model_weights.pt", Net())
    x = torch.randn(5, WIDTH)
    assert torch.equal(again(x), pruned(x))
    told = yaml.safe_load((tmp_path / "pruned_configure.yaml").read_text())
    assert told["accuracy"]["pruned"] == pruning.result.accuracy
    assert told["sparsity"]["parameters"]["up.weight"]["sparsity"] == 0.5


@pytest.mark.parametrize("kind", ["basic_magnitude", "gradient_sensitivity"])
def test_channels_are_cut_out_of_the_model(
    tmp_path: Path, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "lpot_lightning")
    pruning = Pruning(conf(tmp_path, {"pattern": "channel", "prune_type": kind}))
    pruned = pruning(net(), None, training(pruning), loader(), accuracy)
    assert pruned.up.weight.shape == (8, WIDTH)
    assert pruned.norm.weight.shape == (8,)
    assert pruned.out.weight.shape == (KINDS, 8)
    result = pruning.result
    assert result.parameters == (227, 115)
    assert result.macs == (WIDTH * 16 + 16 * KINDS, WIDTH * 8 + 8 * KINDS)
    assert result.unprunable == {"out": "its channels are what the model gives"}
    assert "keeps all channels: out: its channels are what the model gives" in caplog.text
    files = tmp_path / "pruned_configure.yaml", tmp_path / "pruned_model_weights.pt"
    x = torch.randn(5, WIDTH)
    assert torch.equal(load(*files, Net())(x), pruned(x))


class Other(Net):
    """Has equal shapes, and computes something else."""

    def forward(self, x):
        return -super().forward(x)


@pytest.mark.parametrize("pruner", [{}, {"pattern": "channel"}], ids=["zeros", "cut"])
def test_another_class_of_equal_shapes_is_refused(tmp_path: Path, pruner: dict[str, str]) -> None:
    pruning = Pruning(conf(tmp_path, pruner))
    pruning(net(), None, training(pruning), loader(), accuracy)
    files = tmp_path / "pruned_configure.yaml", tmp_path / "pruned_model_weights.pt"
    load(*files, Net())
    with pytest.raises(ArtifactError, match="something else than the one that was pruned: .*`Oth"):
        load(*files, Other())


def rewritten(folder: Path, change: Callable[[dict[str, Any], dict[str, Any]], None]) -> list[Path]:
    """Change both files as a forger would who also puts all hashes right."""
    files = [folder / NAMES.configure, folder / NAMES.weights]
    configure = yaml.safe_load(files[0].read_text())
    plain = torch.load(files[1], weights_only=True)
    change(configure, plain)
    content = to_bytes(plain)
    configure["weights"]["sha256"] = sha256(content)
    configure["weights"]["content"] = seal(configure, plain)
    configure["weights"]["with_file"] = seal_with_file(configure)
    files[0].write_text(yaml.safe_dump(configure, sort_keys=False))
    files[1].write_bytes(content)
    return files


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda one: one.half(), "tensor `up.weight` is float16"),
        (lambda one: one.to(torch.float8_e5m2), "tensor `up.weight` is float8_e5m2"),
        (lambda one: one / 0, "tensor `up.weight` holds NaN or infinity"),
    ],
)
def test_forged_tensors_are_not_cast(
    tmp_path: Path, change: Callable[[torch.Tensor], torch.Tensor], said: str
) -> None:
    pruning = Pruning(conf(tmp_path))
    pruning(net(), None, training(pruning), loader(), accuracy)
    files = rewritten(tmp_path, lambda _, one: one.update({"up.weight": change(one["up.weight"])}))
    with pytest.raises(ArtifactError, match=said):
        load(*files, Net())


def test_files_of_an_earlier_version_have_no_call_and_load(tmp_path: Path) -> None:
    def as_before(configure: dict[str, Any], plain: dict[str, Any]) -> None:
        for name in ("modules", "signatures", "probe"):
            del configure[name]
        for name in [one for one in plain if one.startswith(".probe.")]:
            del plain[name]

    pruning = Pruning(conf(tmp_path))
    pruned = pruning(net(), None, training(pruning), loader(), accuracy)
    x = torch.randn(5, WIDTH)
    assert torch.equal(load(*rewritten(tmp_path, as_before), Net())(x), pruned(x))


class Noisy(Net):
    def forward(self, x):
        return super().forward(x) * (1 + torch.rand(()) / 9)


def test_where_no_call_can_be_stored_the_reason_stands_there(tmp_path: Path) -> None:
    pruning = Pruning(conf(tmp_path))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        pruning(Noisy(), None, training(pruning), loader(), accuracy)
    told = yaml.safe_load((tmp_path / "pruned_configure.yaml").read_text())
    assert "it answers one call in two ways" in told["probe"][""]
    load(tmp_path / NAMES.configure, tmp_path / NAMES.weights, Noisy())


class Attending(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.num_heads = 4
        self.qkv, self.proj = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)
        self.out = nn.Linear(WIDTH, KINDS)

    def forward(self, x):
        x = torch.stack((x, 0.5 * x), dim=1)
        parts = self.qkv(x).unflatten(-1, (3, self.num_heads, -1)).permute(2, 0, 3, 1, 4)
        heads = nn.functional.scaled_dot_product_attention(*parts.unbind(0))
        return self.out((x + self.proj(heads.transpose(1, 2).flatten(2))).mean(1))


def test_attention_heads_are_cut_out_of_the_model(tmp_path: Path) -> None:
    pruning = Pruning(conf(tmp_path, {"pattern": "channel"}))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        pruned = pruning(Attending(), None, training(pruning), loader(), accuracy)
    assert pruned.num_heads == 2
    assert pruned.qkv.weight.shape == (3 * WIDTH // 2, WIDTH)
    assert pruned.proj.weight.shape == (WIDTH, WIDTH // 2)
    files = tmp_path / "pruned_configure.yaml", tmp_path / "pruned_model_weights.pt"
    x = torch.randn(5, WIDTH)
    again = load(*files, Attending())
    assert again.num_heads == 2
    assert torch.equal(again(x), pruned(x))


def test_channels_in_a_loop_of_hooks_alone() -> None:
    pruning, model = Pruning(conf(None, {"pattern": "channel"})), net()
    pruning.model, pruning.eval_dataloader = model, loader()
    training(pruning)(model)
    gone = (model.up.weight == 0).all(1)
    assert gone.sum() == 8
    for value in (model.up.bias, model.norm.weight, model.norm.bias):
        assert torch.equal(value == 0, gone)


def test_channels_need_a_few_samples() -> None:
    pruning = Pruning(conf(None, {"pattern": "channel"}))
    pruning.model = net()
    with pytest.raises(ConfError) as caught:
        pruning.on_epoch_begin(0)
    assert str(caught.value).startswith("`pattern: channel` follows channels through the model by")


STEPS = {"end_epoch": None, "start_step": 3, "end_step": 20}


@pytest.mark.parametrize("kind", ["basic_magnitude", "gradient_sensitivity"])
def test_a_schedule_may_count_the_calls_of_on_batch_end(tmp_path: Path, kind: str) -> None:
    """24 in four epochs."""
    found = []

    class Noted(Pruning):
        def on_batch_end(self) -> None:
            super().on_batch_end()
            found.append(zeros(self.model)["up.weight"])

    pruning = Noted(conf(tmp_path, {"prune_type": kind}, **STEPS))
    pruned = pruning(net(), q_func=training(pruning), eval_func=accuracy)
    assert found[:4] == [0] * 4
    assert 0 < found[4] < found[12] < 64
    assert found == sorted(found)
    assert found[20:] == [64] * 4
    assert zeros(pruned) == {"up.weight": 64, "out.weight": 24}
    assert pruning.result.reached
    pruning(net(), q_func=training(pruning), eval_func=accuracy)
    assert found[24:28] == [0] * 4  # and counts from 0 again


def test_steps_are_pruned_where_on_batch_begin_is_left_out() -> None:
    pruning, model = Pruning(conf(None, end_epoch=None, end_step=1)), net()
    pruning.model = model
    pruning.on_epoch_begin(0)
    pruning.on_batch_end()
    assert zeros(model) == {"up.weight": 0, "out.weight": 0}
    pruning.on_batch_end()
    assert zeros(model) == {"up.weight": 64, "out.weight": 24}


def test_a_training_with_too_few_steps_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    pruning = Pruning(conf(tmp_path, **{**STEPS, "end_step": 24}))
    pruning(net(), q_func=training(pruning), eval_func=accuracy)
    assert "train longer, or let `end_epoch` or `end_step` be earlier" in caplog.text
    assert not pruning.result.reached


@pytest.mark.parametrize("post_grad", [True, False])
def test_gradients_are_taken_in_once_a_batch(post_grad: bool) -> None:
    pruning = Pruning(conf(None, {"prune_type": "gradient_sensitivity", "names": ["up.weight"]}))
    pruning.model = model = net()
    pruning.on_epoch_begin(0)
    pruning.on_batch_begin(0)
    model.up.weight.grad = torch.ones_like(model.up.weight)
    if post_grad:
        pruning.on_post_grad()
    pruning.on_batch_end()
    (sums,) = pruning._pruner.state()["pruners"]
    assert torch.allclose(sums["up.weight"], model.up.weight.abs())


TRAIN = {
    "optimizer": {"SGD": {"learning_rate": 0.1, "momentum": 0.9}},
    "criterion": {"CrossEntropyLoss": {}},
    "end_epoch": 4,
}


def test_the_yaml_may_say_how_to_train(tmp_path: Path) -> None:
    pruning = Pruning(conf(tmp_path, train=TRAIN))
    pruned = pruning(net(), q_dataloader=loader(), eval_func=accuracy)
    assert zeros(pruned) == {"up.weight": 64, "out.weight": 24}
    assert pruning.result.accuracy > pruning.result.baseline


def test_a_training_that_ends_early_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    pruning = Pruning(conf(tmp_path))
    with caplog.at_level(logging.INFO, "lpot_lightning"):
        pruning(net(), q_func=training(pruning, epochs=2), eval_func=accuracy)
    assert (pruning.result.status, pruning.result.reached) == ("not_met", False)
    assert "the training ended before the target sparsity was reached" in caplog.text
    assert "epoch 1: 25.0% of the weights to prune are zero" in caplog.text
    assert "not_met, target not reached" in caplog.text


def test_random_numbers_and_the_workspace_are_given_back(tmp_path: Path) -> None:
    pruning = Pruning(conf(tmp_path))
    before = torch.get_rng_state()
    with pytest.raises(ZeroDivisionError):
        pruning(net(), q_func=lambda model: 1 / 0, eval_func=accuracy)
    assert torch.equal(torch.get_rng_state(), before)
    WorkspaceLock(tmp_path).acquire()
    assert pruning.result is None
    assert pruning.model is None


def test_an_old_result_is_forgotten(tmp_path: Path) -> None:
    pruning = Pruning(conf(tmp_path))
    pruning(net(), q_func=training(pruning), eval_func=accuracy)
    with pytest.raises(EvaluationError):
        pruning(net(), q_func=training(pruning), eval_func=lambda model: None)
    assert pruning.result is None


def test_a_q_func_that_calls_no_hook_is_told(tmp_path: Path) -> None:
    with pytest.raises(PruningError) as caught:
        Pruning(conf(tmp_path))(net(), q_func=lambda model: None, eval_func=accuracy)
    assert str(caught.value) == (
        "the training called no hook, so that nothing was pruned: call `on_epoch_begin` and"
        " `on_batch_end` of this object in `q_func`"
    )


def test_hooks_out_of_their_order_are_told() -> None:
    pruning = Pruning(conf())
    with pytest.raises(ConfError) as caught:
        pruning.on_epoch_begin(0)
    assert str(caught.value) == (
        "`model` is a `NoneType`: set `pruning.model` to an `nn.Module` before the first hook"
    )
    pruning.model = net()
    for hook in (pruning.on_batch_end, pruning.on_epoch_end, lambda: pruning.on_batch_begin(0)):
        with pytest.raises(ConfError) as caught:
            hook()
        assert "is called outside of an epoch: call `on_epoch_begin` first" in str(caught.value)
    with pytest.raises(ConfError) as caught:
        pruning.on_epoch_begin(-1)
    assert str(caught.value) == "`epoch` is `-1`; allowed: a whole number, counted from 0"


def test_another_model_is_pruned_from_the_start() -> None:
    pruning = Pruning(conf())
    for model in (net(), net()):
        pruning.model = model
        training(pruning)(model)
        assert zeros(model)["up.weight"] == 64


@pytest.mark.parametrize(
    ("given", "kind", "said"),
    [
        ({}, ConfError, "there is no `q_func` to train by: give a function that takes a model,"),
        ({"q_func": 3}, ConfError, "`q_func` is a `int`; allowed: a function that takes a model"),
        ({"model": "net.pt"}, ConfError, "`model` is a `str`; allowed: an `nn.Module` with its"),
        ({"model": None}, ConfError, "there is no model: set it, `pruning.model = model`, or"),
        ({"eval_func": None}, ConfError, "there is no `eval_func` to judge by: give a function"),
        (
            {"eval_dataloader": 3},
            ConfError,
            "`eval_dataloader` is a `int`; allowed: a",
        ),
    ],
)
def test_what_is_missing_is_told_first(tmp_path, given, kind, said) -> None:
    arguments = {"model": net(), "eval_func": accuracy, **given}
    with pytest.raises(kind) as caught:
        Pruning(conf(tmp_path))(**arguments)
    assert str(caught.value).startswith(said)
    assert not list(tmp_path.iterdir())


def test_a_training_of_the_yaml_needs_data(tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        Pruning(conf(tmp_path, train=TRAIN))(net(), eval_func=accuracy)
    assert str(caught.value) == (
        "<mapping>: `pruning.train` has no data to train on: give a `q_dataloader`, or"
        " `pruning.train.dataloader`"
    )


def test_what_a_function_replaces_is_told(tmp_path: Path) -> None:
    pruning = Pruning(conf(tmp_path, train=TRAIN))
    with pytest.warns(UserWarning, match="given replace `pruning.train`"):
        pruning(net(), q_func=training(pruning), eval_func=accuracy)


def test_a_metric_that_a_function_replaces_is_told(tmp_path: Path) -> None:
    pruning = Pruning(conf(tmp_path))
    pruning.metric = MulticlassAccuracy(2)
    with pytest.warns(UserWarning, match="given replace the metric `metric`"):
        pruning(net(), q_func=training(pruning), eval_func=accuracy)


def test_data_that_a_loader_replaces_are_not_looked_for(tmp_path: Path) -> None:
    missing = {"dataset": {"ImageFolder": {"root": str(tmp_path / "nowhere")}}}
    pruning = Pruning(conf(tmp_path, train={**TRAIN, "dataloader": missing}))
    with pytest.warns(UserWarning, match="given replace `pruning.train.dataloader`"):
        pruned = pruning(net(), q_dataloader=loader(), eval_func=accuracy)
    assert pruning.result is not None
    assert pruning.result.model is pruned


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({}, "neither of `conf` and `conf_fname` is given; allowed: exactly one"),
        (
            {"conf": {"model": {"name": "x", "framework": "pytorch_fx"}}},
            "<mapping>: there is no `pruning` for `Pruning`; use `Quantization`.",
        ),
    ],
)
def test_a_conf_that_is_none_is_refused(given: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfError) as caught:
        Pruning(**given)
    assert str(caught.value) == said


def test_what_is_frozen_is_left_alone_and_told(caplog: Any) -> None:
    pruning, model = Pruning(conf()), net()
    model.up.requires_grad_(False)
    pruning.model = model
    with caplog.at_level(logging.INFO, "lpot_lightning"):
        pruning.on_epoch_begin(0)
    assert "nothing trains it when pruning begins: `up`" in caplog.text
    training(pruning)(model)
    assert zeros(model) == {"up.weight": 0, "out.weight": 24}


def test_masks_are_applied_to_an_average_of_ones_own() -> None:
    pruning, model = Pruning(conf()), net()
    assert pruning.masks is None
    pruning.model = model
    average = copy.deepcopy(model)
    training(pruning)(model)
    assert pruning.masks is not None
    pruning.masks.apply_to(average)
    assert zeros(average) == {"up.weight": 64, "out.weight": 24}


# -- LPOT's YAML of BERT: heads and neurons by the number of the layer ---------------------------

HEADS, SIZE, LAYERS = 4, 4, 2
HEAD_CONF = """
model:
  name: bert
  framework: pytorch
pruning:
  approach:
    weight_compression:
      start_epoch: 1
      end_epoch: 1
      pruners:
        - !Pruner
          prune_type: gradient_sensitivity
          names: [
            bert.encoder.layer.*.attention.self.query.weight,
            bert.encoder.layer.*.attention.self.query.bias,
            bert.encoder.layer.*.attention.self.key.weight,
            bert.encoder.layer.*.attention.self.key.bias,
            bert.encoder.layer.*.attention.self.value.weight,
            bert.encoder.layer.*.attention.self.value.bias]
          parameters: {target: 2, normalize: true, stride: 4, transpose: false,
                       importance_inputs: [head_mask], importance_metric: abs_gradient}
        - !Pruner
          prune_type: gradient_sensitivity
          names: [bert.encoder.layer.*.attention.output.dense.weight]
          parameters: {target: 2, normalize: true, stride: 4, transpose: true,
                       importance_inputs: [head_mask], importance_metric: abs_gradient}
        - !Pruner
          prune_type: gradient_sensitivity
          names: [bert.encoder.layer.*.intermediate.dense.weight,
                  bert.encoder.layer.*.intermediate.dense.bias]
          parameters: {target: 10, normalize: false, stride: 1, transpose: false,
                       importance_inputs: [bert.encoder.layer.*.intermediate.dense.weight,
                                           bert.encoder.layer.*.intermediate.dense.bias],
                       importance_metric: weighted_gradient}
        - !Pruner
          prune_type: gradient_sensitivity
          names: [bert.encoder.layer.*.output.dense.weight]
          parameters: {target: 10, normalize: false, stride: 1, transpose: true,
                       importance_inputs: [bert.encoder.layer.*.intermediate.dense.weight,
                                           bert.encoder.layer.*.intermediate.dense.bias],
                       importance_metric: weighted_gradient}
tuning:
  accuracy_criterion: {absolute: 1}
"""


class BertLayer(nn.Module):
    """With the names of the layers of BERT."""

    def __init__(self) -> None:
        super().__init__()
        width = HEADS * SIZE
        self.attention = nn.ModuleDict()
        kinds = ("query", "key", "value")
        self.attention["self"] = nn.ModuleDict({one: nn.Linear(width, width) for one in kinds})
        self.attention["output"] = nn.ModuleDict({"dense": nn.Linear(width, width)})
        self.intermediate = nn.ModuleDict({"dense": nn.Linear(width, 24)})
        self.output = nn.ModuleDict({"dense": nn.Linear(24, width)})

    def forward(self, x, head_mask):
        kinds = self.attention["self"].values()
        q, k, v = (one(x).unflatten(-1, (HEADS, SIZE)).transpose(1, 2) for one in kinds)
        seen = (q @ k.mT / 2).softmax(-1) * head_mask[:, None, None]
        x = x + self.attention["output"]["dense"]((seen @ v).transpose(1, 2).flatten(2))
        return x + self.output["dense"](self.intermediate["dense"](x).relu())


class BertLike(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        layers = nn.ModuleList(BertLayer() for _ in range(LAYERS))
        encoder = nn.ModuleDict({"layer": layers})
        self.bert = nn.ModuleDict({"encoder": encoder})
        self.head = nn.Linear(HEADS * SIZE, KINDS)

    def forward(self, x, head_mask=None):
        x = x.repeat(1, 2)[:, None].expand(-1, 3, -1)
        ones = torch.ones(LAYERS, HEADS) if head_mask is None else head_mask
        for layer, mask in zip(self.bert["encoder"]["layer"], ones, strict=True):
            x = layer(x, mask)
        return self.head(x.mean(1))


def test_lpots_yaml_of_bert_prunes_what_lpot_pruned(tmp_path: Path, caplog: Any) -> None:
    workspace = f"  workspace: {{path: {tmp_path}}}\n"
    (tmp_path / "head_conf.yaml").write_text(HEAD_CONF + workspace)
    pruning = Pruning(tmp_path / "head_conf.yaml")

    def train(model: nn.Module) -> None:
        sgd = torch.optim.SGD(model.parameters(), 0.1)
        for epoch in range(2):
            pruning.on_epoch_begin(epoch)
            for number, (x, y) in enumerate(loader()):
                pruning.on_batch_begin(number)
                sgd.zero_grad()
                mask = torch.ones(LAYERS, HEADS, requires_grad=True)
                nn.functional.cross_entropy(model(x, head_mask=mask), y).backward()
                pruning.on_post_grad()
                sgd.step()
                pruning.on_batch_end()
            pruning.on_epoch_end()

    with caplog.at_level(logging.INFO, "lpot_lightning"):
        pruned = pruning(BertLike(), q_func=train, eval_func=accuracy)
    assert pruning.result is not None
    assert pruning.result.reached
    assert "any text" not in caplog.text
    for layer in pruned.bert["encoder"]["layer"]:
        rows = [one.weight.eq(0).all(1) for one in layer.attention["self"].values()]
        columns = layer.attention["output"]["dense"].weight.eq(0).all(0)
        assert [int(one.sum()) for one in (*rows, columns)] == [8] * 4
        assert all(torch.equal(one, columns) for one in rows)
        neurons = layer.intermediate["dense"].weight.eq(0).all(1)
        assert neurons.sum() == 14
        assert torch.equal(neurons, layer.output["dense"].weight.eq(0).all(0))
