"""Names, kinds and neighbours of the ops of a graph."""

from zoo import calibrated_made


def ops_of(name):
    *_, found = calibrated_made(name)
    return found._parts[0].ops


def test_ops_have_the_names_and_kinds_that_people_write():
    assert ops_of("residual").kinds == {
        "c1": "Conv2d", "c2": "Conv2d", "#add_0": "add", "fc": "Linear",
    }  # fmt: skip
    assert ops_of("fused by hand").kinds == {"conv": "Conv2d", "fc": "Linear"}
    assert ops_of("two names").kinds == {"first": "Linear"}


def test_functions_of_one_kind_are_counted():
    kinds = ops_of("functions").kinds
    assert {"#mul_0", "#mul_1"} <= set(kinds)
    assert ops_of("float functional").kinds["#add_1"] == "add"


def test_pass_through_nodes_go_with_what_comes_before_them():
    ops = ops_of("residual")
    names = {node.name for node in ops.followers}
    assert names <= ops.int8_nodes(())
    assert not names & ops.int8_nodes({"c1", "c2", "#add_0"})


def test_embeddings_neither_read_nor_give_int8():
    ops = ops_of("embedding")
    (node,) = ops.nodes["embedding"]
    assert node.name not in ops.int8_nodes(())
    assert all("embedding" not in near for near in ops.producers.values())


def test_an_op_reads_those_before_it_through_what_passes_on():
    ops = ops_of("residual")
    assert {op: ops.reads(op) for op in ops.nodes} == {
        "c1": (), "c2": ("c1",), "#add_0": ("c1", "c2"), "fc": ("#add_0",),
    }  # fmt: skip
