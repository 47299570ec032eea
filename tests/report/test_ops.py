"""Ops, the worst first, each with what it became and why."""

import math
import re

from report_scenes import CAUSE, tuning

from lpot_lightning.recipe import Rung
from lpot_lightning.report.facts import OpFacts
from lpot_lightning.report.ops import excluded_section, ops_section
from lpot_lightning.tuning.repair import Repair


def names(found):
    return re.findall(r'<td class="name"><code>(.*?)</code>', found.replace("<wbr>", ""))


def op(name, damage=None, **given):
    return OpFacts(name=name, rung=given.pop("rung", Rung.STATIC), damage=damage, **given)


def test_the_worst_op_stands_first_and_one_that_is_not_finite_above_it():
    ops = (op("a", 1e-4), op("b", 2e-2), op("c"), op("d", math.nan))
    assert names(ops_section(tuning(ops=ops))) == ["d", "b", "a", "c"]


def test_shares_are_of_all_error():
    found = ops_section(tuning(ops=(op("a", 1.0), op("b", 3.0))))
    assert "75.0%" in found
    assert "25.0%" in found


def test_what_was_not_measured_has_no_column():
    found = ops_section(tuning(ops=(op("a"),)))
    assert "error of the output" not in found
    assert "ms in int8" not in found
    assert "was not measured" in found


def test_cause_remedy_and_repair_are_told():
    mended = (Repair("a", "cross_layer_equalization", 0.01, 0.001),)
    ops = (op("a", 1.0, repairs=mended), op("b", 2.0, cause=CAUSE, why="for the accuracy: x"))
    found = ops_section(tuning(ops=ops))
    assert "Repaired by cross layer equalization (error of the output 1.00e-02 → 1.00e-03)" in found
    assert "<b>unequal channels</b>: the widest channel is 63 times" in found
    assert (
        "<details open><summary>What helps</summary><p>even the channels out: <code>quant" in found
    )


def test_errors_and_times_are_told_of_what_they_are():
    found = ops_section(tuning(ops=(op("a", 1.0, cause=CAUSE, int8=0.1, fp32=0.2),)))
    assert "“Its error”, on the right, is that of what the op itself gives" in found
    assert "of what the op was in the first trial" in found


def test_what_is_not_int8_shares_a_row_by_its_reason():
    found = excluded_section({"a": "no kernel", "b": "no kernel", "c": "asked for"}, {})
    assert names(found) == ["a</code>, <code>b", "c"] or found.count("<tr>") == 3
    assert "what helps" not in found


def test_a_module_that_is_no_graph_is_told_with_what_helps():
    found = excluded_section({}, {"net.loop": CAUSE})
    assert "net.loop" in found
    assert "what helps" in found


def test_a_model_without_any_has_no_section():
    assert ops_section(tuning(ops=())) is None
    assert excluded_section({}, {}) is None
