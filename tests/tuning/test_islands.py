"""Which ops go to fp32 with their neighbours."""

from made_up import INT8, int8, linear

from lpot_lightning.recipe import FP32, Op
from lpot_lightning.tuning.islands import Islands, without_islands
from lpot_lightning.tuning.space import Space

PLAIN = int8(weight=None)


def layer(name, *reads):
    return Op(name=name, kind="Conv2d", configs=(INT8, FP32), weight_bytes=100, reads=reads)


def add(name, *reads, configs=(PLAIN, FP32)):
    return Op(name=name, kind="add", configs=configs, weight_bytes=0, reads=reads)


RESIDUAL = Space((layer("a"), layer("b", "a"), add("add", "a", "b"), layer("c", "add")))


def left(space, *fp32):
    return Islands(space).left_by(set(fp32))


def test_an_addition_among_fp32_ops_is_an_island():
    assert left(RESIDUAL, "a", "b", "c") == {"add"}
    assert without_islands(RESIDUAL.all_int8().with_fp32("abc"), RESIDUAL).int8_ops == ()


def test_one_int8_neighbour_keeps_it():
    for fp32 in ("ab", "ac", "bc", "a", "b", "c", ""):
        assert left(RESIDUAL, *fp32) == set()


def test_what_is_fp32_already_is_none():
    assert left(RESIDUAL, "a", "b", "c", "add") == set()


def test_a_chain_of_ops_without_weights_is_one_island():
    space = Space((layer("a"), add("x", "a"), add("y", "x"), layer("b", "y"), layer("c", "b")))
    assert left(space, "a", "b") == {"x", "y"}
    assert left(space, "a") == set()
    assert left(space, "a", "x", "b") == {"y"}


def test_two_islands_are_told_apart():
    space = Space((layer("a"), add("x", "a"), layer("b", "x"), add("y", "b"), layer("c", "y")))
    assert left(space, "a", "b") == {"x"}
    assert left(space, "b", "c") == {"y"}
    assert left(space, "a", "b", "c") == {"x", "y"}


def test_an_op_with_a_weight_is_none():
    norm = Op(name="norm", kind="LayerNorm", configs=(PLAIN, FP32), weight_bytes=8, reads=("a",))
    space = Space((layer("a"), norm, linear("b")))
    assert left(space, "a", "b") == set()
    weighted = Space(
        (
            layer("a"),
            Op(name="table", kind="Embedding", configs=(INT8, FP32), weight_bytes=0, reads=("a",)),
        )
    )
    assert left(weighted, "a") == set()


def test_an_op_that_may_not_fall_back_stays():
    space = Space((layer("a"), add("add", "a", configs=[PLAIN]), add("next", "add")))
    assert left(space, "a") == set()


def test_an_op_of_which_no_neighbour_is_known_stays():
    assert left(Space((layer("a"), add("add"), add("other"))), "a") == set()
    assert left(Space((add("x"), add("y", "x")))) == set()


def test_an_op_at_the_rim_of_the_model_has_neighbours_on_one_side():
    assert left(Space((layer("a"), add("add", "a"))), "a") == {"add"}
    assert left(Space((add("add"), layer("a", "add"))), "a") == {"add"}


def test_a_recipe_without_islands_is_as_it_was():
    recipe = RESIDUAL.all_int8().with_fp32("a")
    assert without_islands(recipe, RESIDUAL) == recipe
