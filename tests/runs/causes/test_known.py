"""What a run knows of ops that are not int8, in words."""

from __future__ import annotations

import pytest

from lpot_lightning.quantization import reasons
from lpot_lightning.quantization.graph.breaks import RAISES, GraphBreak
from lpot_lightning.runs.causes.known import KNOWN, of_asked, of_breaks, of_excluded, of_slower
from lpot_lightning.runs.paying_result import NotPaying
from lpot_lightning.tuning.causes import CauseKind

REASONS = {name: why for name, why in vars(reasons).items() if name.isupper()}


@pytest.mark.parametrize("why", REASONS.values(), ids=REASONS)
def test_each_reason_has_a_remedy_or_says_that_there_is_none(why: str) -> None:
    assert why in KNOWN
    cause = of_excluded({"net.0": why})["net.0"]
    assert bool(cause.remedy) != cause.found.endswith("there is nothing to be done about it")
    assert cause.found.startswith(why)


def test_products_that_graphs_can_compute_in_bfloat16_may_be_asked_to_be() -> None:
    found = of_excluded({"a#matmul_0": reasons.OPERANDS, "a#einsum_0": reasons.OPERANDS})
    assert "`quantization: {float: bf16}`" in found["a#matmul_0"].remedy
    assert found["a#einsum_0"].remedy == ""


def test_parameters_that_are_no_weights_need_nothing() -> None:
    cause = of_excluded({"vit": f"`token` goes {reasons.NO_WEIGHT}"})["vit"]
    assert (cause.kind, cause.remedy) == (CauseKind.NO_KERNEL, "")


@pytest.mark.parametrize(("module", "product"), [("mix", "mix#matmul_0"), ("Net", "#matmul_0")])
def test_a_weight_that_is_multiplied_by_has_one_remedy(module: str, product: str) -> None:
    why = {module: f"`w` goes {reasons.NO_WEIGHT}", product: reasons.PRODUCT}
    found = of_excluded({**why, "other": why[module]}, root="Net")
    assert found[product].remedy in found[module].remedy
    assert found[module].remedy.startswith(f"where `{product}` multiplies by it, write it as")
    assert "nothing to be done" not in found[module].found
    assert found["other"].remedy == ""


def test_a_reason_that_nobody_has_thought_of_is_told_as_it_is() -> None:
    cause = of_excluded({"a": "works on complex64"})["a"]
    assert (cause.kind, cause.found) == (CauseKind.NONE_OF_THESE, "works on complex64")
    assert cause.remedy


def test_what_is_slower_says_how_much() -> None:
    one = NotPaying(ops=("a",), int8=0.004, fp32=0.001, spread=(0.2, 0.3), share=0.5)
    cause = of_slower({"a": one})["a"]
    assert cause.found == one.why
    assert "op_wise: {'a': {activation: {dtype: uint8," in cause.remedy


def test_what_is_asked_for_says_by_what() -> None:
    assert "`modules`" in of_asked(["a"])["a"].found


@pytest.mark.parametrize(
    ("reason", "remedy"),
    [
        ("Unsupported Tensor.item() call", "`torch.where` in place of `if`"),
        ("Could not guard on data-dependent expression u0 > 0", "`torch.where` in place of `if`"),
        ("Failed to trace builtin operator `print`", "`if not torch.compiler.is_compiling():`"),
        ("Skip calling `torch.compiler.disable()`d function", "leave `torch.compiler.disable` out"),
        ("generic_jump TensorVariable()", "`torch.where` in place of `if`"),
        ("it is turned off", "leave `TORCHDYNAMO_DISABLE` out"),
        ("Attempted to call function marked as skipped", "in plain torch"),
    ],
)
def test_a_line_that_is_in_no_graph(reason: str, remedy: str) -> None:
    found = of_breaks({"net": GraphBreak(reason, "/home/me/net.py", 7, "x.go()")})["net"]
    assert found.found.startswith("line 7 of `net.py` (`x.go()`) is in no graph")
    assert ("it asks a tensor" if "jump" in reason else reason) in found.found
    assert remedy in found.remedy
    assert of_breaks({"net": GraphBreak(reason)})["net"].found.startswith("its `forward` is in no")


def test_an_exception_of_the_code_is_no_word_of_dynamo() -> None:
    one = GraphBreak(f"{RAISES}OSError('print')", "/home/me/net.py", 7, "raise")
    found = of_breaks({"net": one})["net"]
    assert "Dynamo" not in found.found
    assert "the code itself raises this" in found.found
    assert "raise nothing while `torch.compiler.is_compiling()`" in found.remedy
