"""The map nests as the model does, and says by a code what it says by a colour."""

import re

from report_scenes import tuning

from lpot_lightning.recipe import Rung
from lpot_lightning.report.facts import OpFacts
from lpot_lightning.report.precision_map import map_section, tree_of


def drawn(**rungs):
    ops = tuple(OpFacts(name=name.replace("__", "."), rung=one) for name, one in rungs.items())
    return map_section(tuning(ops=ops))


def test_names_nest_by_their_dots_and_functions():
    tree = tree_of({"net.a": Rung.STATIC, "net.b#linear_0": None})
    assert list(tree.parts["net"].parts) == ["a", "b"]
    assert tree.parts["net"].parts["b"].parts["#linear_0"].rungs == [None]


def test_each_tile_has_a_code_and_its_whole_precision():
    found = drawn(net__a=Rung.STATIC, net__b=Rung.FP32, net__c=Rung.DYNAMIC)
    assert [*re.findall(r"<b>([^<]*)</b><code>", found)] == ["8", "32", "8d"]
    assert 'title="b: fp32"' in found


def test_the_legend_counts_what_is_there():
    found = drawn(a=Rung.STATIC, b=Rung.STATIC, c=Rung.WEIGHT_ONLY)
    assert "int8: 2" in found
    assert "weight-only int8: 1" in found
    assert "bf16" not in found


def test_a_box_around_a_single_box_is_left_out():
    found = drawn(net__body__a=Rung.STATIC, net__body__b=Rung.STATIC)
    assert found.count('class="box"') == 1
    assert "net.body" in found


def test_an_op_with_ops_in_it_has_a_tile_of_its_own():
    found = drawn(net=Rung.STATIC, net__inner=Rung.FP32)
    assert "itself" in found
    assert found.count('class="tile int8"') == 2  # and the one of the legend


def test_names_may_be_nested_deeper_than_a_page_can():
    deep = ".".join("a" * 3000)
    assert len(map_section(tuning(ops=(OpFacts(name=deep, rung=Rung.STATIC),)))) < 20_000
