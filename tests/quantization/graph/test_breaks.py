"""Where graphs end before the code does, by which line of whose module."""

from __future__ import annotations

import warnings
from pathlib import Path
from traceback import FrameSummary

import pytest
import torch
from lightning.pytorch import LightningModule
from planted_causes import Gate, Gated, WhereGate, quantized
from torch import Tensor, nn

from lpot_lightning.module.calls import ModuleCalls
from lpot_lightning.quantization.graph import breaks
from lpot_lightning.quantization.graph.breaks import RAISES, Breaks, GraphBreak
from lpot_lightning.quantization.graph.capture import Captured
from lpot_lightning.quantization.graph.untraced import untraced


class Loud(nn.Module):
    """Speaks in a loop, out of which nothing can be resumed."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(8, 8) for _ in range(2))
        self.calls = 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        for layer in self.layers:
            x = layer(x)
            print(end="")  # noqa: T201
        return x


class LoudOutside(Loud):
    """Speaks where no graph is made."""

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = layer(x)
            if not torch.compiler.is_compiling():
                print(end="")  # noqa: T201
        return x


class Around(nn.Module):
    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x).relu() + 1


class Quiet(nn.Module):
    @torch.compiler.disable
    def forward(self, x: Tensor) -> Tensor:
        return x + 1


def breaks_of(net: nn.Module, x: Tensor, path: str = "") -> dict[str, GraphBreak]:
    captured = Captured(net.eval(), lambda graph, _: graph.forward)
    with torch.no_grad():
        captured(x)
    calls = {path: ModuleCalls(args=(x,), count=1)}
    return untraced({path: captured}, calls)


def test_a_line_that_goes_by_a_value() -> None:
    ((path, found),) = breaks_of(Gated(Gate), torch.randn(4, 8), "net").items()
    assert path == "net.gate"
    assert found.reason.startswith("Unsupported Tensor.item() call")
    assert Path(found.file).name == "planted_causes.py"
    assert found.text == "if x.sum().item() > 0:"
    assert Path(found.file).read_text().splitlines()[found.line - 1].strip() == found.text


def test_many_modules_of_a_class_are_looked_at_once(monkeypatch) -> None:
    looks, usual = [], breaks._codes
    monkeypatch.setattr(breaks, "_codes", lambda kind: looks.append(kind) or usual(kind))
    found = Breaks()
    found.note("unsupported", [FrameSummary("/home/me/helper.py", 1, "help")])
    assert list(found.by_module(nn.Sequential(*(Quiet() for _ in range(50))))) == [""]
    assert len(looks) == 2


def test_a_module_that_is_a_graph_has_none() -> None:
    assert breaks_of(Gated(WhereGate), torch.randn(4, 8)) == {}


@pytest.mark.parametrize("inside", [False, True])
def test_a_line_in_a_loop(inside: bool) -> None:
    loud = Loud()
    found = breaks_of(Around(loud) if inside else loud, torch.randn(4, 8))
    ((path, one),) = found.items()
    assert path == ("inner" if inside else "")
    assert one.text.startswith('print(end="")')
    assert loud.calls == 1  # looking for it computes nothing


def test_what_only_speaks_can_be_left_out_of_graphs() -> None:
    assert breaks_of(LoudOutside(), torch.randn(4, 8)) == {}


class Refusing(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        if torch.compiler.is_compiling():
            raise RuntimeError("no graphs, please")
        return x + 1


def test_an_exception_of_the_code_itself_is_told_as_that() -> None:
    ((path, one),) = breaks_of(Around(Refusing()), torch.randn(4, 8)).items()
    assert (path, one.reason) == ("inner", f"{RAISES}RuntimeError('no graphs, please')")
    assert one.text == 'raise RuntimeError("no graphs, please")'


def test_an_exception_that_dynamo_lets_through_is_no_word_of_dynamo(monkeypatch) -> None:
    def compiled(*_, **__):
        raise ValueError("of a property")

    captured = Captured(Quiet(), lambda graph, _: graph.forward)
    monkeypatch.setattr(torch, "compile", lambda *_, **__: compiled)
    captured.find_break(torch.randn(4, 8))
    assert list(captured.breaks.found) == [GraphBreak(f"{RAISES}ValueError: of a property")]


def test_a_forward_that_is_kept_from_being_captured() -> None:
    ((path, one),) = breaks_of(Quiet(), torch.randn(4, 8)).items()
    assert (path, one.file) == ("", "")
    assert "torch.compiler.disable" in one.reason


def test_a_line_of_lightning_is_that_of_the_user_who_calls_it() -> None:
    class Logs(LightningModule):
        def forward(self, x: Tensor) -> Tensor:
            x = x + 1
            self.log("mean", x.mean())
            return x * 2

    module = Logs()
    module._fabric = None
    captured = Captured(module.eval(), lambda graph, _: graph.forward)
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # there is no Trainer
        captured(torch.randn(4, 8))
    (found,) = untraced({"": captured}, {"": ModuleCalls()}).values()
    assert found.text == 'self.log("mean", x.mean())'


def test_where_dynamo_is_turned_off_nothing_is_computed_to_find_out() -> None:
    loud = Loud()
    with torch._dynamo.config.patch(disable=True):
        assert breaks_of(loud, torch.randn(4, 8)) == {"": GraphBreak("it is turned off")}
    assert loud.calls == 1


def test_what_we_leave_out_of_graphs_ourselves_is_no_break() -> None:
    class Bag(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.bag, self.last = nn.EmbeddingBag(9, 8), nn.Linear(8, 2)

        def forward(self, x: Tensor) -> Tensor:
            ids = (x.abs() * 2).long().clamp(max=8)
            return self.last(self.bag(ids))

    assert quantized(Bag(), Path("ws"), goal=0.9).causes == {}


class Touchy:
    def __call__(self):
        return 1

    def __getattr__(self, name):
        raise RuntimeError(f"nobody may ask for {name}")


class Held(nn.Module):
    touchy = Touchy()

    def forward(self, x):
        return x


def test_what_a_class_holds_is_not_asked_for_its_attributes():
    breaks = Breaks()
    breaks.note("data", [FrameSummary(__file__, 1, "forward")])
    assert list(breaks.by_module(Held())) == [""]
