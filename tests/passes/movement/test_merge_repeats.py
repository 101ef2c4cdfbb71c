import pytest

from graphopt.passes.movement.merge_repeats import NEEDS_MIDDLE, UNKNOWN_REPEATS
from graphopt.rewriting import HAS_OTHER_CONSUMERS, IS_GRAPH_OUTPUT
from graphopt.testing import assert_rejects, assert_rewrites

PASS = "merge-repeats"


def test_tiles_multiply():
    assert_rewrites(
        PASS,
        before="g (float[N,3] x) => (float[A,B] y) { t = Tile(x, [2, 1])  y = Tile(t, [3, 2]) }",
        after="g (float[N,3] x) => (float[A,B] y) { y = Tile(x, [6, 2]) }",
        sizes=[{"N": 0}, {"N": 1}, {"N": 4}],
    )


def test_zero_repeats_stay_zero():
    assert_rewrites(
        PASS,
        before="g (float[N,3] x) => (float[A,B] y) { t = Tile(x, [0, 1])  y = Tile(t, [3, 2]) }",
        after="g (float[N,3] x) => (float[A,B] y) { y = Tile(x, [0, 2]) }",
    )


def test_the_last_expand_is_enough():
    assert_rewrites(
        PASS,
        before="g (float[1,3] x) => (float[4,3] y) { e = Expand(x, [4, 1])  y = Expand(e, [4, 3]) }",
        after="g (float[1,3] x) => (float[4,3] y) { y = Expand(x, [4, 3]) }",
    )


def test_expand_to_dims_of_another_value_in_a_body():
    inner = "%s y2 = Expand(%s, s)"
    text = """g (bool c, float[1,1] x, float[N,M] z) => (float[N,M] y) {
        s = Shape(z)
        y = If (c) <then_branch = t () => (float[N,M] y2) { %s },
                    else_branch = e () => (float[N,M] w) { w = Neg(z) }> }"""
    assert_rewrites(
        PASS,
        before=text
        % (inner % ("e1 = Expand(x, [1, 1, 1])  e2 = Squeeze(e1, [0])  e3 = Expand(e2, [1, 1]) ", "e3")),
        after=text % (inner % ("e1 = Expand(x, [1, 1, 1])  e2 = Squeeze(e1, [0]) ", "e2")),
        sizes=[{"N": 0, "M": 2}, {"N": 3, "M": 1}],
    )


@pytest.mark.parametrize(
    ("graph", "reason"),
    [
        ("g (float[N] x, int64[1] r) => (float[M] y) { t = Tile(x, r)  y = Tile(t, [2]) }", UNKNOWN_REPEATS),
        (
            "g (float[N] x) => (float[M] y, float[P] t) { t = Tile(x, [3])  y = Tile(t, [2]) }",
            IS_GRAPH_OUTPUT,
        ),
        ("g (float[1] x) => (float[4,3] y) { e = Expand(x, [3])  y = Expand(e, [4, 1]) }", NEEDS_MIDDLE),
        ("g (float[1] x, int64[1] s) => (float[M] y) { e = Expand(x, [3])  y = Expand(e, s) }", NEEDS_MIDDLE),
        (
            "g (float[1] x) => (float[3] y, float[3] z) { e = Expand(x, [3])  y = Expand(e, [3])  z = Neg(e) }",
            HAS_OTHER_CONSUMERS,
        ),
    ],
)
def test_leaves_alone(graph, reason):
    assert_rejects(PASS, graph, reason)
