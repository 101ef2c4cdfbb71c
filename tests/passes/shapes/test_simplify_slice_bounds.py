"""Bounds of slices."""

import pytest

from graphopt.passes.shapes.simplify_slice_bounds import NEEDS_RUN, UNKNOWN
from graphopt.testing import assert_rejects, assert_rewrites

PASS = "simplify-slice-bounds"
SIZES = [{"B": 4, "S": 5}, {"B": 1, "S": 1}, {"B": 0, "S": 5}, {"B": 2, "S": 0}]


def test_only_the_axes_that_are_cut():
    assert_rewrites(
        PASS,
        before="""g (float[B,S,4] x, float[N] z) => (float[B,P,4] y) {
            n = Shape(z)  e = Concat <axis = 0> ([1000000000], n, [4])
            y = Slice(x, [0,0,0], e, [0,1,2], [1,1,1]) }""",
        after="""g (float[B,S,4] x, float[N] z) => (float[B,P,4] y) {
            n = Shape(z)  y = Slice(x, [0], n, [1]) }""",
        sizes=[{"B": 2, "S": 5, "N": 3}, {"B": 0, "S": 2, "N": 7}],
    )


def test_bounds_of_32_bits():
    assert_rewrites(
        PASS,
        before="""g (float[B,S,4] x, float[N] z) => (float[B,P,4] y) {
            zeros = Constant <value = int32[3] {0,0,0}> ()
            n = Shape(z)  e = Concat <axis = 0> ([1000000000], n, [1000000000])  f = Cast <to = 6> (e)
            y = Slice(x, zeros, f) }""",
        after="""g (float[B,S,4] x, float[N] z) => (float[B,P,4] y) {
            n = Shape(z)  y = Slice(x, [0], n, [1]) }""",
        sizes=[{"B": 2, "S": 5, "N": 3}, {"B": 0, "S": 2, "N": 7}],
    )


def test_an_end_that_is_the_dim():
    assert_rewrites(
        PASS,
        before="""g (float[B,S] x) => (float[B,P] y) {
            s = Shape(x)  n = Slice(s, [1], [2])  y = Slice(x, [1], n, [1]) }""",
        after="g (float[B,S] x) => (float[B,P] y) { y = Slice(x, [1], [9223372036854775807], [1]) }",
        sizes=SIZES,
    )


def test_nothing_is_cut():
    assert_rewrites(
        PASS,
        before="""g (float[B,S] x) => (float[B,S] y) {
            r = Relu(x)  s = Shape(x)  m = Add(s, [2])  z = Sub(s, s)  a = Slice(r, z, m)  y = Neg(a) }""",
        after="g (float[B,S] x) => (float[B,S] y) { r = Relu(x)  y = Neg(r) }",
        sizes=SIZES,
    )


def test_two_of_three_stay_computed():
    assert_rewrites(
        PASS,
        before="""g (float[B,S,4] x, float[N] z) => (float[P,Q,4] y) {
            n = Shape(z)  m = Mul(n, [2])  e = Concat <axis = 0> (m, n, [9])
            y = Slice(x, [1,0,0], e) }""",
        after="""g (float[B,S,4] x, float[N] z) => (float[P,Q,4] y) {
            n = Shape(z)  m = Mul(n, [2])  e = Concat <axis = 0> (m, n)  y = Slice(x, [1,0], e, [0,1]) }""",
        sizes=[{"B": 4, "S": 5, "N": 2}, {"B": 4, "S": 5, "N": 0}],
    )


@pytest.mark.parametrize(
    ("graph", "reason"),
    [
        (
            """g (float[B,S,4] x, int64[2] n) => (float[P,Q,4] y) {
                e = Concat <axis = 0> (n, [4])  y = Slice(x, [1,0,0], e) }""",
            NEEDS_RUN,
        ),
        (
            """g (float[B,S] x, float[N] z) => (float[P,S] y) {
                n = Shape(z)  y = Slice(x, [0], n) }""",
            NEEDS_RUN,
        ),
        # Backwards, an end before the first element is no end that is reached.
        (
            """g (float[B,S] x, float[N] z) => (float[P,S] y) {
                n = Shape(z)  y = Slice(x, n, [-9223372036854775807], [0], [-1]) }""",
            NEEDS_RUN,
        ),
        (
            """g (float[B,S] x, int64[1] n, int64[1] a) => (float[P,Q] y) { y = Slice(x, [0], n, a) }""",
            UNKNOWN,
        ),
        # A shared Concat stays for the other one.
        (
            """g (float[B,S,4] x, float[N] z) => (float[P,Q,4] y, int64[3] f) {
                n = Shape(z)  m = Mul(n, [2])  e = Concat <axis = 0> (m, n, [9])  f = Neg(e)
                y = Slice(x, [1,0,0], e) }""",
            NEEDS_RUN,
        ),
    ],
)
def test_leaves_alone(graph, reason):
    assert_rejects(PASS, graph, reason)
