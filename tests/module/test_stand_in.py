"""Parts out, parts in, and back."""

import copy
import pickle
import threading

import pytest
import torch
from int8_scenes import state_of
from torch import nn
from zoo import Made, TwoNames, seeded

from lpot_lightning.errors import QuantizationError
from lpot_lightning.module.copying import check_copyable, second_model
from lpot_lightning.module.stand_in import StandIn, put, replaced


class Double(nn.Module):
    def forward(self, x):
        return 2 * x


class Net(nn.Module):
    """Has what others may read of a module besides its ``forward``."""

    width = 3

    def __init__(self):
        super().__init__()
        self.fc, self.norm = nn.Linear(3, 3), nn.LayerNorm(3)

    def forward(self, x):
        return self.norm(self.fc(x))


def test_a_part_computes_inside_of_the_with_and_not_after_it():
    model, x = seeded(lambda: nn.Sequential(Net())), torch.ones(1, 3)
    before, out = state_of(model), model(x)
    with replaced(model, {"0": StandIn(Double(), gone=["fc.weight", "fc.bias"])}) as changed:
        assert changed is model
        assert torch.equal(model(x), 2 * x)
        assert torch.equal(model[0].forward(x), 2 * x)
        assert sorted(model.state_dict()) == ["0.norm.bias", "0.norm.weight"]
    assert torch.equal(model(x), out)
    assert state_of(model) == before


def test_what_a_weight_was_can_be_asked_and_its_values_cannot():
    model = seeded(lambda: nn.Sequential(Net()))
    put(model, {"0": StandIn(Double(), gone=["fc.weight", "fc.bias"])})
    pickled = pickle.loads(pickle.dumps(model))  # noqa: S301
    for one in (model, copy.deepcopy(model), pickled):
        weight = one[0].fc.weight
        assert (weight.dtype, weight.device.type, weight.shape) == (torch.float32, "cpu", (3, 3))
        assert weight.new_ones(2).tolist() == [1, 1]
        for use in (torch.norm, lambda one: torch.ones(3) @ one, lambda one: one.sum() * 2):
            with pytest.raises(QuantizationError, match="weights of `0.fc` are int8 now"):
                use(weight)
    assert not any("fc" in name for name in model.state_dict())


def test_fp32_weights_are_not_loaded_into_int8():
    model = seeded(lambda: nn.Sequential(Net()))
    fp32 = copy.deepcopy(model.state_dict())
    put(model, {"0": StandIn(Net(), gone=["fc.weight", "fc.bias"])})
    for one in (model, copy.deepcopy(model)):
        one.load_state_dict(one.state_dict())
        with pytest.raises(QuantizationError, match="model is int8 .* leave `ckpt_path` out"):
            one.load_state_dict(fp32)


def test_it_is_undone_after_an_error():
    model = nn.Sequential(nn.ReLU())
    before = state_of(model)
    with pytest.raises(ZeroDivisionError), replaced(model, {"0": StandIn(Double())}):
        raise ZeroDivisionError
    assert state_of(model) == before


def test_the_whole_model_may_be_the_part():
    model = Net()
    put(model, {"": StandIn(Double(), gone=["fc.weight", "fc.bias"])})
    assert torch.equal(model(torch.ones(1, 3)), torch.full((1, 3), 2.0))
    assert (type(model), model.width, model.fc.in_features) == (Net, 3, 3)
    assert "fc" in repr(model)


def test_a_layer_inside_of_a_graph_says_so_when_it_is_called():
    model = nn.ModuleDict({"net": Net()})
    put(model, {"net": StandIn(Double(), gone=["fc.weight", "fc.bias"])})
    with pytest.raises(QuantizationError, match="`net.fc` computes in int8 inside of `net` only"):
        model.net.fc(torch.ones(3))


def test_a_module_with_two_names_computes_the_same_under_both():
    model = seeded(TwoNames)
    put(model, {"first": StandIn(Double())})
    assert model.first is model.second
    assert torch.equal(model.second(torch.ones(1)), torch.full((1,), 2.0))


def test_what_a_graph_shares_is_one_tensor():
    model, graph = nn.ModuleDict({"net": Net()}), Net()
    put(model, {"net": StandIn(graph, {"norm.weight": "norm.weight"}, gone=["fc.weight"])})
    assert graph.norm.weight is model.net.norm.weight
    assert sorted(model.net.state_dict())[:2] == ["fc.bias", "lpot_int8.fc.bias"]


def test_a_container_keeps_its_length_and_its_items():
    model = Made(lambda m, x: m.net(x), net=nn.Sequential(nn.Linear(3, 3), nn.ReLU()))
    put(model, {"net": StandIn(Double(), gone=["0.weight", "0.bias"])})
    assert len(model.net) == 2
    assert isinstance(model.net[-1], nn.ReLU)
    assert torch.equal(model(torch.ones(3)), torch.full((3,), 2.0))
    assert isinstance(model.lpot_int8.net, Double)


def test_a_container_in_containers_holds_its_graph_itself():
    model = nn.Sequential(nn.Sequential(nn.Linear(3, 3)))
    put(model, {"0": StandIn(Double(), gone=["0.weight", "0.bias"])})
    assert torch.equal(model(torch.ones(3)), torch.full((3,), 2.0))


def test_an_int8_model_can_be_copied():
    model = seeded(lambda: nn.Sequential(Net()))
    put(model, {"0": StandIn(Double())})
    second = copy.deepcopy(model)
    assert second[0].forward.__self__ is second[0].lpot_int8
    assert second[0].lpot_int8 is not model[0].lpot_int8


def test_a_second_model_shares_nothing_and_is_in_eval_mode():
    model = seeded(TwoNames).train()
    second = second_model(model)
    kept = model.first.weight.clone()
    second.first.weight.data.zero_()
    assert model.training
    assert not second.training
    assert second.first is second.second
    assert torch.equal(model.first.weight, kept)


def test_torchmetrics_are_looked_up_anew_in_the_second_model():
    model = nn.Linear(2, 2)
    model._metric_attributes = {1: "stale"}
    assert second_model(model)._metric_attributes is None
    assert model._metric_attributes == {1: "stale"}


def test_what_cannot_be_copied_is_told():
    model = nn.Linear(2, 2)
    model.lock = threading.Lock()
    for tried in (second_model, check_copyable):
        with pytest.raises(QuantizationError, match="`Linear` cannot be copied, .*second object"):
            tried(model)


def test_whether_it_can_be_copied_is_found_without_copying_tensors(monkeypatch):
    model = seeded(TwoNames)
    monkeypatch.setattr(torch.Tensor, "__deepcopy__", None)
    check_copyable(model)


def test_an_activation_that_a_module_remembers_is_copied_as_a_value():
    model = seeded(lambda: nn.Linear(2, 2))
    model.seen = [model(torch.ones(1, 2))]
    assert torch.equal(second_model(model).seen[0], model.seen[0])
    assert second_model(model).seen[0].grad_fn is None


def test_what_was_compiled_is_not_compiled_in_the_copy():
    inner = nn.Linear(2, 2)
    model = Made(lambda m, x: m.net(x), net=torch.compile(inner, backend="eager"))
    second, x = second_model(model), torch.ones(1, 2)
    assert list(second.state_dict()) == list(model.state_dict())
    assert torch.equal(second(x), inner(x))
    assert second.net.in_features == 2
    assert not isinstance(second.net, type(model.net))


def test_weights_that_are_tied_stay_tied_in_float32():
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2)).half()
    model[1].weight = model[0].weight
    second = second_model(model)
    assert second[0].weight is second[1].weight


def test_only_the_types_of_weights_are_changed():
    model = nn.Linear(2, 2)
    model.register_buffer("table", torch.zeros(2, dtype=torch.float64))
    assert second_model(model).table.dtype is torch.float64
    assert second_model(model.bfloat16()).table.dtype is torch.float32


def test_a_model_without_values_is_refused():
    with torch.device("meta"):
        model = nn.Sequential(nn.Linear(2, 2))
    with pytest.raises(QuantizationError, match="`0.weight` has no values.* load weights into"):
        second_model(model)
