"""A function that trains: what it freezes and exchanges is seen as the callback sees it."""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from plain_scenes import QAT, conf
from torch import Tensor, nn

import lpot_lightning
from lpot_lightning import Quantization
from lpot_lightning.errors import ConfError

KINDS = 3


def data(count: int = 96) -> tuple[Tensor, Tensor]:
    x = torch.randn(count, 8, generator=torch.Generator().manual_seed(3))
    return x, x[:, :KINDS].argmax(1)


def batches() -> list[tuple[Tensor, Tensor]]:
    return list(zip(*(one.split(16) for one in data()), strict=True))


def net(*widths: int) -> nn.Sequential:
    torch.manual_seed(1)
    first, *others = [nn.Linear(*pair) for pair in zip(widths, widths[1:], strict=False)]
    return nn.Sequential(first, *(one for layer in others for one in (nn.ReLU(), layer)))


def frozen(module: nn.Module) -> nn.Module:
    return module.eval().requires_grad_(False)


class Probed(nn.Module):
    """A head on a frozen backbone."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone, self.net = frozen(net(8, 8)), net(8, 16, KINDS)
        nn.init.eye_(self.backbone[0].weight)

    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            x = self.backbone(x)
        return self.net(x)


class Distilled(nn.Module):
    """A student and its frozen teacher; a loss outside of it compares them."""

    def __init__(self) -> None:
        super().__init__()
        self.net, self.teacher = net(8, 16, KINDS), frozen(net(8, 12, KINDS))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.net(x), self.teacher(x)


class Plain(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.net = net(8, 16, KINDS)

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)


def first_of(given: Any) -> Tensor:
    return given[0] if isinstance(given, tuple) else given


def accuracy(model: nn.Module) -> float:
    x, y = data()
    return float((first_of(model(x)).argmax(1) == y).float().mean())


class Train:
    """Trains as a user would, and notes which layers round after each batch.

    Args:
        do: what else it does with the model before a batch.
        call: gives what the loss is taken of.
    """

    def __init__(
        self,
        do: Callable[[nn.Module, int], None] = lambda model, batch: None,
        call: Callable[[nn.Module, Tensor], Any] = lambda model, x: model(x),
    ) -> None:
        self.seen: list[set[str]] = []
        self.outputs: list[Any] = []
        self._do, self._call = do, call

    def __call__(self, model: nn.Module) -> None:
        for batch, (x, y) in enumerate(batches()):
            self._do(model, batch)
            found = self._call(model, x)
            self.outputs.append((x, found))
            self.seen.append(rounding(model))
            loss = F.cross_entropy(first_of(found), y)
            learns = [one for one in model.parameters() if one.requires_grad]
            for one, slope in zip(learns, torch.autograd.grad(loss, learns), strict=True):
                one.data -= 0.1 * slope
        self.model = model


def rounding(model: nn.Module) -> set[str]:
    return {path for path, one in model.named_modules() if "forward" in vars(one) and path}


def quantized(workspace: Any, train: Train, **given: Any) -> Quantization:
    one = Quantization(conf(workspace, QAT, tuning={"exit_policy": {"max_trials": 1}}, **given))
    one.q_func, one.eval_func, one.calib_dataloader = train, accuracy, batches()
    return one


@pytest.fixture(autouse=True)
def _heard(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "lpot_lightning")


NET = {"net.0", "net.2"}
TEACHER = {"teacher.0", "teacher.2"}


# What is frozen


@pytest.mark.parametrize("loader", [batches(), None], ids=["loader", "eval_func only"])
def test_a_frozen_backbone_rounds_and_is_int8(workspace, caplog, loader):
    train = Train()
    one = quantized(workspace, train)
    one.calib_dataloader = loader
    one(Probed())
    assert train.seen == [{*NET, "backbone.0"}] * len(batches())
    assert set(one.result.int8_ops) == {*NET, "backbone.0"}
    assert "frozen `backbone` feeds modules that train: it rounds as they do" in caplog.text


def test_a_teacher_stays_exact_and_fp32(workspace, caplog):
    model, train = Distilled(), Train()
    one = quantized(workspace, train)
    one(model)
    assert train.seen == [NET] * len(batches())
    assert all(torch.equal(found[1], model.teacher(x)) for x, found in train.outputs)
    assert set(one.result.int8_ops) == NET
    assert "frozen teacher" in dict(one.result.not_quantizable)["teacher.0"]
    assert caplog.text.count("frozen `teacher` is only compared with: it stays exact") == 1


def test_modules_decide_otherwise(workspace):
    train = Train()
    one = quantized(workspace, train)
    one.modules = ["net", "teacher"]
    one(Distilled())
    assert train.seen == [NET | TEACHER] * len(batches())
    assert set(one.result.int8_ops) == NET | TEACHER


def test_modules_are_names(workspace):
    one = quantized(workspace, Train())
    one.modules = "net"
    with pytest.raises(ConfError, match="`modules` is `'net'`; allowed: a list of names"):
        one(Distilled())
    one.modules = ["nett"]
    with pytest.raises(ConfError, match="`nett`, which matches no quantizable op.*Did you mean"):
        one(Distilled())


def freeze_teacher(model: nn.Module, batch: int) -> None:
    model.teacher.requires_grad_(False)


def test_a_teacher_that_the_function_freezes_first_stays_exact(workspace, caplog):
    model, train = Distilled(), Train(freeze_teacher)
    model.teacher.requires_grad_(True)
    one = quantized(workspace, train)
    one(model)
    assert train.seen == [NET] * len(batches())
    assert all(torch.equal(found[1], model.teacher(x)) for x, found in train.outputs)
    assert "frozen teacher" in dict(one.result.not_quantizable)["teacher.0"]
    assert "frozen `teacher` is only compared with: it stays exact" in caplog.text


def test_a_function_that_exchanges_a_layer_and_freezes_a_teacher_first(workspace):
    def both_at_once(model: nn.Module, batch: int) -> None:
        exchange(model, batch)
        freeze_teacher(model, batch)

    exchange, model = Exchange(0, head), Distilled().requires_grad_(True)
    train = Train(both_at_once)
    one = quantized(workspace, train)
    one(model)
    assert train.seen == [NET] * len(batches())
    assert set(one.result.int8_ops) == NET
    assert "frozen teacher" in dict(one.result.not_quantizable)["teacher.0"]


def test_a_backbone_that_the_function_freezes_goes_on_rounding(workspace):
    train = Train(lambda model, batch: model.backbone.requires_grad_(False))
    model = Probed().requires_grad_(True)
    one = quantized(workspace, train)
    one(model)
    assert train.seen == [{*NET, "backbone.0"}] * len(batches())


def unfreeze(model: nn.Module, batch: int) -> None:
    if batch == 3:
        model.teacher.requires_grad_(True)


def both(model: nn.Module, x: Tensor) -> Tensor:
    return sum(model(x))


def test_a_teacher_that_is_unfrozen_rounds_from_then_on(workspace, caplog):
    train = Train(unfreeze, both)
    one = quantized(workspace, train)
    one(Distilled())
    assert train.seen == [NET] * 3 + [NET | TEACHER] * 3
    assert set(one.result.int8_ops) == NET | TEACHER
    assert "trains, or feeds what trains, and rounds from here on" in caplog.text


class InTraining(Probed):
    """Judged without the backbone, which only the training reads by."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) if self.training else self.net(x)


def test_what_only_the_training_calls_rounds_from_the_second_batch_on(workspace):
    train = Train()
    one = quantized(workspace, train)
    one(InTraining())
    assert train.seen == [NET] + [{*NET, "backbone.0"}] * 5


def test_a_forward_that_fails_leaves_no_mode_behind(workspace):
    def fails(model: nn.Module, batch: int) -> None:
        if batch == 0:
            for error in (RuntimeError, KeyboardInterrupt):
                hook = model.net.register_forward_hook(raising(error))
                with pytest.raises(error):
                    model(torch.ones(2, 8))
                hook.remove()

    train = Train(fails)
    quantized(workspace, train)(Distilled())
    assert torch.overrides._get_current_function_mode_stack() == []
    assert not torch.nn.modules.module._global_forward_hooks
    assert not train.model._forward_pre_hooks
    assert not train.model._forward_hooks


def raising(error: type[BaseException]) -> Callable[..., None]:
    def hook(*_: object) -> None:
        raise error

    return hook


def test_no_flow_is_looked_for_where_all_trains(workspace, monkeypatch):
    monkeypatch.setattr("lpot_lightning.module.flow.Flow.looking", raising(AssertionError))
    quantized(workspace, Train())(Plain())


def test_a_copy_of_the_model_is_no_batch_of_it(workspace):
    """Its own forward ends no batch, and nothing of it is taken for an exchanged layer."""

    def copies(model: nn.Module, batch: int) -> None:
        other = copy.deepcopy(model).train()
        other.net[2] = nn.Linear(16, 7)
        assert other(torch.ones(2, 8)).shape == (2, 7)

    train = Train(copies)
    quantized(workspace, train)(Plain())
    assert train.seen == [NET] * len(batches())


# What is exchanged


class Exchange:
    """Puts a new layer in at a batch, and remembers it."""

    def __init__(self, at: int, make: Callable[[], nn.Module]) -> None:
        self._at, self._make = at, make

    def __call__(self, model: nn.Module, batch: int) -> None:
        if batch == self._at:
            self.old, self.new = model.net[2], self._make()
            self.begun = copy.deepcopy(self.new)
            model.net[2] = self.new


def head() -> nn.Module:
    return nn.Linear(16, KINDS)


@pytest.mark.parametrize("at", [0, 2])
def test_the_new_layer_is_trained_rounded_and_judged(workspace, caplog, at: int):
    exchange = Exchange(at, head)
    train = Train(exchange)
    one = quantized(workspace, train)
    one(Plain())
    assert train.seen == [NET] * len(batches())
    assert not torch.equal(exchange.new.weight, exchange.begun.weight)
    assert "forward" not in {*vars(exchange.old), *vars(exchange.new)}
    assert set(one.result.int8_ops) == NET
    assert one.result.accuracy == pytest.approx(accuracy(train.model), abs=0.05)
    assert "`net.2`: another layer from here on, which rounds" in caplog.text


def test_a_wider_head_is_judged_and_restored(workspace):
    train = Train(Exchange(3, lambda: nn.Linear(16, KINDS + 2)))
    one = quantized(workspace, train)
    int8 = one(Plain())
    assert int8(torch.ones(1, 8)).shape == (1, KINDS + 2)
    assert set(one.result.int8_ops) == NET
    paths = workspace / "best_configure.yaml", workspace / "best_model_weights.pt"
    restored = lpot_lightning.load(*paths, train.model)
    assert torch.equal(restored(data()[0]), int8(data()[0]))


def test_what_has_no_int8_form_trains_in_fp32_and_is_told(workspace, caplog):
    class Rnn(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.rnn = nn.GRU(16, KINDS)

        def forward(self, x: Tensor) -> Tensor:
            return self.rnn(x)[0]

    train = Train(Exchange(2, Rnn))
    one = quantized(workspace, train)
    one(Plain())
    assert train.seen[-1] == {"net.0"}
    assert set(one.result.int8_ops) == {"net.0"}
    assert "`net.2.rnn`: another layer now, which trains in fp32" in caplog.text


def test_other_layers_keep_their_ranges(workspace):
    highs: list[Tensor] = []

    def shift(model: nn.Module, batch: int) -> None:
        ranges = vars(model.net[0])["forward"]._input._ranges
        highs.append(ranges.high.clone())
        exchange(model, batch)

    exchange = Exchange(3, head)
    quantized(workspace, Train(shift))(Plain())
    first = [float(one[0]) for one in highs]
    assert first[4] == pytest.approx(first[3], rel=0.1)
    assert first[4] != first[3]
    largest = [float(x.max()) for x, _ in batches()]
    expected = first[3] + 0.1 * (largest[3] - first[3])
    assert first[4] == pytest.approx(expected, rel=1e-5)


def by_parts(model: nn.Module, x: Tensor) -> Tensor:
    return model.net[2](model.net[1](model.net[0](x)))


def test_a_layer_that_is_exchanged_unseen_is_int8_and_told(workspace, caplog):
    """Nobody calls the model itself: that is seen when the function is over."""
    exchange = Exchange(2, lambda: nn.Linear(16, KINDS + 2))
    train = Train(exchange, by_parts)
    one = quantized(workspace, train)
    int8 = one(Plain())
    assert train.seen[-1] == {"net.0"}
    assert int8(torch.ones(1, 8)).shape == (1, KINDS + 2)
    assert set(one.result.int8_ops) == NET
    assert "`net.2`: another layer since the model itself was last called" in caplog.text


class Own(nn.Module):
    """The model itself computes, by functions with weights of its own and of a layer."""

    def __init__(self) -> None:
        super().__init__()
        self.net, self.weight = net(8, 16, KINDS), nn.Parameter(torch.eye(8))

    def forward(self, x: Tensor) -> Tensor:
        return self.net(F.linear(x, self.weight))


def test_a_layer_is_exchanged_of_a_model_that_computes_itself(workspace):
    exchange = Exchange(2, head)
    train = Train(exchange)
    one = quantized(workspace, train)
    one(Own())
    assert train.seen == [NET] * len(batches())
    assert set(one.result.int8_ops) == {*NET, "#linear_0"}
    assert one.result.accuracy == pytest.approx(accuracy(train.model), abs=0.05)


def in_half(model: nn.Module, x: Tensor) -> Tensor:
    with torch.autocast("cpu", torch.bfloat16):
        return model(x).float()


def test_a_layer_that_is_exchanged_under_autocast_is_prepared_in_float32(workspace):
    types = set()

    def noting(model: nn.Module) -> float:
        types.add(model(torch.ones(1, 8)).dtype)
        return accuracy(model)

    train = Train(Exchange(2, head), in_half)
    one = quantized(workspace, train)
    one.eval_func = noting
    one(Plain())
    assert train.seen == [NET] * len(batches())
    assert types == {torch.float32}


def test_the_first_call_after_an_exchange_may_be_in_inference_mode(workspace):
    def looked_at_first(model: nn.Module, x: Tensor) -> Tensor:
        with torch.inference_mode():
            model(x)
        return model(x)

    train = Train(Exchange(2, head), looked_at_first)
    quantized(workspace, train)(Plain())
    assert train.seen == [NET] * len(batches())


def test_random_numbers_go_on_as_if_nothing_was_exchanged(workspace, tmp_path):
    drawn: list[list[float]] = []
    for at in (2, 99):
        numbers: list[float] = []

        def draw(model: nn.Module, batch: int, at: int = at, into: list[float] = numbers) -> None:
            if batch == at:
                with torch.random.fork_rng():
                    model.net[2] = head()
            into.append(float(torch.rand(1)))

        quantized(tmp_path / str(at), Train(draw))(Plain())
        drawn.append(numbers)
    assert drawn[0] == drawn[1]


def test_a_teacher_that_is_another_copy_in_each_batch_stays_exact(workspace, caplog):
    def renew(model: nn.Module, batch: int) -> None:
        if batch:
            model.teacher = frozen(copy.deepcopy(model.net))

    train = Train(renew)
    one = quantized(workspace, train)
    one(Distilled())
    assert train.seen == [NET] * len(batches())
    assert "another layer" not in caplog.text
    assert "frozen teacher" in dict(one.result.not_quantizable)["teacher.0"]


def compiled(model: nn.Module, x: Tensor) -> Any:
    return torch.compile(model, backend="eager")(x)


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor")  # Dynamo asks for it
def test_a_function_that_compiles_the_model(workspace, caplog):
    """Nothing follows what Dynamo runs: what the model did before the training decides."""
    train = Train(Exchange(2, head), compiled)
    one = quantized(workspace, train)
    one(Distilled())
    assert train.seen == [NET] * len(batches())
    assert set(one.result.int8_ops) == NET
    assert one.result.accuracy == pytest.approx(accuracy(train.model), abs=0.05)
    assert "`net.2`: another layer from here on, which rounds" in caplog.text
