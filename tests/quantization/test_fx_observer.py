"""Ranges, by every scheme and algorithm, as torch's own observers give them."""

import itertools

import pytest
import torch
from torch.ao.quantization.observer import HistogramObserver, MinMaxObserver

from lpot_lightning.errors import DataError
from lpot_lightning.quantization.fx import engine
from lpot_lightning.quantization.fx.observer import RangeObserver, SettledObserver

THEIRS = {"kl": HistogramObserver, "minmax": MinMaxObserver}
SCHEMES = {"asym": torch.per_tensor_affine, "sym": torch.per_tensor_symmetric}


@pytest.fixture
def batches():
    torch.manual_seed(0)
    return [torch.randn(64) * scale + 0.3 for scale in (1.0, 3.0, 0.5)]


WISHES = set(itertools.product(THEIRS, SCHEMES, [False, True]))
REFUSED = {("minmax", "sym", True)}  # by torch's own observer


@pytest.mark.filterwarnings("ignore:Please use quant_min and quant_max:UserWarning")
@pytest.mark.parametrize(("algorithm", "scheme", "reduced"), sorted(WISHES - REFUSED))
def test_one_pass_answers_for_every_wish(batches, algorithm, scheme, reduced):
    ours = RangeObserver(reduced)
    theirs = THEIRS[algorithm](dtype=torch.quint8, qscheme=SCHEMES[scheme], reduce_range=reduced)
    for batch in batches:
        assert ours(batch) is batch
        theirs(batch)
    ours.qparams("sym" if scheme == "asym" else "asym", "minmax")  # asked before, for another op
    scale, zero_point = theirs.calculate_qparams()
    assert ours.qparams(scheme, algorithm) == (float(scale), int(zero_point))


def test_percentile_holds_all_but_the_outermost_values_at_each_end():
    torch.manual_seed(0)
    observer = RangeObserver()
    values = torch.rand(100_000) * 2 - 1
    values[:5], values[5:8] = 40.0, -20.0  # fewer than 1 in 10,000 at each end
    observer(values)
    scale, zero_point = observer.qparams("asym", "percentile")
    low, high = -zero_point * scale, (255 - zero_point) * scale
    bin_width = 60 / 2048
    assert -1 - 2 * bin_width < low < -1 + bin_width
    assert 1 - bin_width < high < 1 + 2 * bin_width


def test_percentile_keeps_outliers_that_are_no_rarity():
    observer = RangeObserver()
    values = torch.zeros(10_000)
    values[:5] = 40.0
    observer(values)
    assert observer.qparams("asym", "percentile") == observer.qparams("asym", "minmax")


@pytest.mark.parametrize("value", [0.0, 3.0, -3.0])
def test_percentile_of_one_value_is_that_value(value):
    observer = RangeObserver()
    observer(torch.full((10,), value))
    scale, zero_point = observer.qparams("asym", "percentile")
    theirs = observer.qparams("asym", "minmax")
    assert scale == pytest.approx(theirs[0], rel=0.01)
    assert zero_point == theirs[1]


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_what_is_not_finite_names_the_batch(batches, bad):
    observer = RangeObserver()
    observer(batches[0])
    batches[1][3] = bad
    with pytest.raises(DataError, match="calibration batch 1: an activation is not finite"):
        observer(batches[1])


def test_overflow_of_the_range_is_an_error_too():
    with pytest.raises(DataError, match="overflow"):
        RangeObserver()(torch.tensor([-3e38, 3e38]))


def test_what_int8_cannot_hold_is_noted_and_let_through():
    for value, why in (
        (torch.arange(3), "works on integers"),
        (torch.tensor([0.0, float("-inf")]), "works on minus infinity, as masks do"),
        ([torch.ones(1)], "works on a list of tensors that is made elsewhere"),
    ):
        observer = RangeObserver()
        assert observer(value) is value
        assert observer.unusable == why


def test_no_data_is_told_apart_from_data():
    observer = RangeObserver()
    observer(torch.empty(0, 3))
    assert observer.unusable == "saw no calibration data"
    observer(torch.zeros(2, 3))
    assert observer.unusable == ""


def test_a_settled_observer_gives_what_was_chosen():
    observer = SettledObserver(0.5, 3)
    value = torch.ones(2)
    assert observer(value) is value
    assert observer.calculate_qparams() == (torch.tensor([0.5]), torch.tensor([3]))


@pytest.mark.parametrize(
    ("supported", "chosen"),
    [
        (["none", "onednn", "x86", "fbgemm"], "x86"),
        (["fbgemm", "onednn"], "onednn"),
        (["qnnpack", "none"], "qnnpack"),
    ],
)
def test_the_best_engine_that_is_there_is_taken(monkeypatch, supported, chosen):
    monkeypatch.setattr(type(torch.backends.quantized), "supported_engines", supported)
    assert engine.choose_engine() == chosen


@pytest.mark.parametrize("vnni", [True, False])
def test_without_vnni_activations_keep_to_seven_bits(monkeypatch, vnni):
    monkeypatch.setattr(torch.cpu, "_is_vnni_supported", lambda: vnni)
    assert engine.needs_reduced_range() is not vnni
    monkeypatch.setattr(type(torch.backends.quantized), "supported_engines", ["qnnpack"])
    assert engine.needs_reduced_range() is False


def test_quiet_works_for_the_engine_that_is_asked_for_where_it_is_there():
    with engine.quiet("fbgemm"):
        assert torch.backends.quantized.engine == "fbgemm"
    with engine.quiet("none_such"):
        assert torch.backends.quantized.engine == engine.choose_engine()
