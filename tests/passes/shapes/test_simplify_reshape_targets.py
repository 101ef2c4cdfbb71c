"""Reshape targets as constants: what is copied, what is inferred, what has to stay."""

import pytest

from graphopt.passes.shapes.simplify_reshape_targets import NEEDS_RUN, UNKNOWN_RANK
from graphopt.testing import assert_rejects, assert_rewrites

PASS = "simplify-reshape-targets"
SIZES = [{"B": 2, "S": 5}, {"B": 1, "S": 1}, {"B": 0, "S": 5}, {"B": 2, "S": 0}, {"B": 0, "S": 0}]


def test_exporters_scaffold_becomes_copies():
    assert_rewrites(
        PASS,
        before="""g (float[B,S,12] x) => (float[B,S,3,4] y) {
            s = Shape(x)  b0 = Gather(s, 0)  s0 = Gather(s, 1)
            b = Unsqueeze(b0, [0])  n = Unsqueeze(s0, [0])
            t = Concat <axis = 0> (b, n, [3], [4])  y = Reshape(x, t) }""",
        after="g (float[B,S,12] x) => (float[B,S,3,4] y) { y = Reshape(x, [0,0,3,4]) }",
        sizes=SIZES,
    )


def test_one_dim_is_inferred_where_the_others_are_numbers():
    assert_rewrites(
        PASS,
        before="""g (float[B,S,4] x) => (float[P,4] y) {
            s = Shape(x)  h = Slice(s, [0], [2])  p = ReduceProd <keepdims = 1> (h)
            t = Concat <axis = 0> (p, [4])  y = Reshape(x, t) }""",
        after="g (float[B,S,4] x) => (float[P,4] y) { y = Reshape(x, [-1,4]) }",
        # A computed 0 copies dim 0 of x: only where that is 0 too does the model itself run.
        sizes=[{"B": 2, "S": 5}, {"B": 1, "S": 1}, {"B": 0, "S": 5}],
    )


def test_no_dim_is_inferred_beside_one_that_may_be_zero():
    # [B, 4*S, 3] as [0, -1, 3] would fail where B is 0, and the model does not.
    assert_rejects(
        PASS,
        """g (float[B,S,4,3] x) => (float[B,R,3] y) {
            s = Shape(x)  b = Slice(s, [0], [1])  r = Slice(s, [1], [2])  q = Mul(r, [4])
            t = Concat <axis = 0> (b, q, [3])  y = Reshape(x, t) }""",
        NEEDS_RUN,
    )


def test_a_dim_that_the_model_infers_itself_is_inferred_beside_any():
    assert_rewrites(
        PASS,
        before="""g (float[B,S,4,3] x) => (float[B,R,3] y) {
            s = Shape(x)  b = Slice(s, [0], [1])
            t = Concat <axis = 0> (b, [-1], [3])  y = Reshape(x, t) }""",
        after="g (float[B,S,4,3] x) => (float[B,R,3] y) { y = Reshape(x, [0,-1,3]) }",
        sizes=[{"B": 2, "S": 5}, {"B": 1, "S": 1}, {"B": 2, "S": 0}],
    )


@pytest.mark.parametrize("opset", [13, 14])
def test_two_unknown_dims_stay(opset):
    assert_rejects(
        PASS,
        """g (float[B,4,S,2] x) => (float[P,S,2] y) {
            s = Shape(x)  b = Slice(s, [0], [1])  n = Slice(s, [2], [3])  q = Mul(b, [4])
            t = Concat <axis = 0> (q, n, [2])  y = Reshape(x, t) }""",
        NEEDS_RUN,
        opset=opset,
    )


def test_a_true_zero_needs_allowzero():
    text = """g (float[0,B] x, int64[2] unused) => (float[3,0] y) {{
        s = Shape(unused)  z = Sub(s, [{two}])  t = Concat <axis = 0> ([3], z)  y = Reshape{attr} (x, t) }}"""
    assert_rewrites(
        PASS,
        before=text.format(two=2, attr=" <allowzero = 1>"),
        after="""g (float[0,B] x, int64[2] unused) => (float[3,0] y) {
            y = Reshape <allowzero = 1> (x, [3,0]) }""",
    )


def test_unknown_target_stays():
    assert_rejects(
        PASS,
        "g (float[B,4] x, int64[K] t) => (float[P,Q] y) { s = Identity(t)  y = Reshape(x, s) }",
        UNKNOWN_RANK,
    )
    assert_rejects(
        PASS,
        "g (float[B,4] x, int64[2] t) => (float[P,Q] y) { s = Identity(t)  y = Reshape(x, s) }",
        NEEDS_RUN,
    )


def test_shared_target_and_graph_output_target_stay_computed():
    assert_rewrites(
        PASS,
        before="""g (float[B,4] x) => (float[B,2,2] y, int64[3] t) {
            s = Shape(x)  b = Slice(s, [0], [1])  t = Concat <axis = 0> (b, [2], [2])  y = Reshape(x, t) }""",
        after="""g (float[B,4] x) => (float[B,2,2] y, int64[3] t) {
            s = Shape(x)  b = Slice(s, [0], [1])  t = Concat <axis = 0> (b, [2], [2])
            y = Reshape(x, [0,2,2]) }""",
        sizes=[{"B": 3}, {"B": 0}],
    )


def test_in_a_branch_with_captured_values():
    assert_rewrites(
        PASS,
        before="""g (float[B,4] x, bool c) => (float[P,2,2] y) {
            s = Shape(x)
            y = If (c) <
                then_branch = t () => (float[P,2,2] a) {
                    b = Slice(s, [0], [1])  w = Concat <axis = 0> (b, [2], [2])  a = Reshape(x, w) },
                else_branch = e () => (float[P,2,2] a2) { a2 = Reshape(x, [-1,2,2]) }> }""",
        after="""g (float[B,4] x, bool c) => (float[P,2,2] y) {
            y = If (c) <
                then_branch = t () => (float[P,2,2] a) { a = Reshape(x, [0,2,2]) },
                else_branch = e () => (float[P,2,2] a2) { a2 = Reshape(x, [-1,2,2]) }> }""",
        sizes=[{"B": 3}, {"B": 0}],
    )


def test_declared_shapes_in_a_loop_body_are_not_believed():
    # The body declares [1,1,4]; the cache grows by one row a step, so dim 1 is none of the numbers.
    assert_rejects(
        PASS,
        """g (float[1,1,4] x, int64 n, bool c) => (float[1,R,4] y, float[P,2,Q] z) {
            y, z = Loop (n, c, x) <body = b (int64 i, bool ci, float[1,1,4] p) =>
                    (bool co, float[1,1,4] q, float[2,1,2] r) {
                co = Identity(ci)  q = Concat <axis = 1> (p, x)
                s = Shape(p)  k = Slice(s, [1], [2])  m = Slice(s, [0], [1])
                l = Sub(k, m)  o = Add(l, m)
                t = Concat <axis = 0> ([2], o, o)  u = Concat <axis = 1> (p, p)  r = Reshape(u, t) }> }""",
        NEEDS_RUN,
    )


def test_opset_12_and_5_take_the_same_target():
    assert_rewrites(
        PASS,
        before="""g (float[B,S,4] x) => (float[B,S,2,2] y) {
            s = Shape(x)  h = Slice(s, [0], [2])  t = Concat <axis = 0> (h, [2], [2])  y = Reshape(x, t) }""",
        after="g (float[B,S,4] x) => (float[B,S,2,2] y) { y = Reshape(x, [0,0,2,2]) }",
        opset=12,
        sizes=SIZES,
    )


def test_dims_of_one_are_inserted_where_no_target_can_say_it():
    # [B, S] as [0, 1, 1, S]: S can't be copied, nor inferred beside B.
    assert_rewrites(
        PASS,
        before="""g (float[B,S] x) => (float[B,1,1,S] y) {
            s = Shape(x)  b = Slice(s, [0], [1])  n = Slice(s, [1], [2])
            t = Concat <axis = 0> (b, [1,1], n)  y = Reshape(x, t) }""",
        after="g (float[B,S] x) => (float[B,1,1,S] y) { y = Unsqueeze(x, [1,2]) }",
        # A 0 with nothing to copy: the model itself does not run where S is 0.
        sizes=[{"B": 2, "S": 5}, {"B": 0, "S": 5}],
    )
