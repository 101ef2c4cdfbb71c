"""Gemms on rows that a Reshape had merged."""

from graphopt.testing import assert_rejects, assert_rewrites

PASS = "split-merged-rows"


def test_a_gemm_between_reshapes_with_computed_targets():
    assert_rewrites(
        PASS,
        before="""g (float[B,S,2,6] x, float[12,3] w, float[3] b) => (float[B,S,3] y) {
            x1 = Reshape(x, [-1,12])  g1 = Gemm(x1, w, b)  s = Shape(x)
            h = Slice(s, [0], [2])  t = Concat <axis = 0> (h, [3])  y = Reshape(g1, t) }""",
        after="""g (float[B,S,2,6] x, float[12,3] w, float[3] b) => (float[B,S,3] y) {
            x1 = Reshape(x, [0,0,12])  p = MatMul(x1, w)  y = Add(p, b) }""",
        sizes=[{"B": 2, "S": 5}, {"B": 1, "S": 1}, {"B": 0, "S": 5}],
        exact=False,
    )


def test_a_transposed_weight_must_be_constant():
    assert_rejects(
        PASS,
        """g (float[B,S,2,6] x, float[3,12] w) => (float[B,S,3] y) {
            x1 = Reshape(x, [-1,12])  g1 = Gemm <transB = 1> (x1, w)  s = Shape(x)
            h = Slice(s, [0], [2])  t = Concat <axis = 0> (h, [3])  y = Reshape(g1, t) }""",
    )


def test_a_scaled_gemm_stays():
    assert_rejects(
        PASS,
        """g (float[B,S,12] x, float[12,3] w) => (float[B,S,3] y) {
            x1 = Reshape(x, [-1,12])  g1 = Gemm <alpha = 2.0> (x1, w)  s = Shape(x)
            h = Slice(s, [0], [2])  t = Concat <axis = 0> (h, [3])  y = Reshape(g1, t) }""",
    )


def test_constant_targets_are_not_worth_an_addition():
    assert_rejects(
        PASS,
        """g (float[4,5,2,6] x, float[12,3] w, float[3] b) => (float[4,5,3] y) {
            x1 = Reshape(x, [-1,12])  g1 = Gemm(x1, w, b)  y = Reshape(g1, [4,5,3]) }""",
    )
