"""Operators on a merged leading axis, run on its parts."""

import pytest

from graphopt.testing import assert_rejects, assert_rewrites

PASS = "split-merged-axes"
SIZES = [{"B": 2}, {"B": 1}, {"B": 0}]


def test_three_dimensional_attention():
    assert_rewrites(
        PASS,
        before="""g (float[B,3,5,4] q, float[B,3,5,4] k, float[B,3,5,4] v, float[B,1,5,5] m)
                => (float[B,3,5,4] y) {
            q1 = Reshape(q, [-1,5,4])  k1 = Reshape(k, [-1,5,4])  v1 = Reshape(v, [-1,5,4])
            kt = Transpose <perm = [0,2,1]> (k1)  s = MatMul(q1, kt)  s1 = Reshape(s, [-1,3,5,5])
            a = Add(s1, m)  a1 = Reshape(a, [-1,5,5])  p = Softmax <axis = -1> (a1)
            o = MatMul(p, v1)  y = Reshape(o, [-1,3,5,4]) }""",
        after="""g (float[B,3,5,4] q, float[B,3,5,4] k, float[B,3,5,4] v, float[B,1,5,5] m)
                => (float[B,3,5,4] y) {
            kt = Transpose <perm = [0,1,3,2]> (k)  s = MatMul(q, kt)
            a = Add(s, m)  p = Softmax <axis = -1> (a)  y = MatMul(p, v) }""",
        sizes=SIZES,
    )  # fmt: skip


def test_a_computed_target_on_the_way_out():
    assert_rewrites(
        PASS,
        before="""g (float[B,3,S,4] q, float[4,4] w) => (float[B,3,S,4] y) {
            s = Shape(q)  b = Slice(s, [0], [1])  n = Slice(s, [2], [3])  p = Mul(b, [3])
            t = Concat <axis = 0> (p, n, [4])  q1 = Reshape(q, t)  a = MatMul(q1, w)  c = Relu(a)
            y = Reshape(c, s) }""",
        after="""g (float[B,3,S,4] q, float[4,4] w) => (float[B,3,S,4] y) {
            a = MatMul(q, w)  y = Relu(a) }""",
        sizes=[{"B": 2, "S": 5}, {"B": 1, "S": 1}, {"B": 0, "S": 5}],
    )


def test_axes_are_counted_anew():
    assert_rewrites(
        PASS,
        before="""g (float[B,3,5,4] q) => (float[B,3,1,2] y) {
            q1 = Reshape(q, [-1,5,4])  a = ReduceMean(q1, [1])  b = Slice(a, [1], [3], [2])
            c, d = Split <axis = 2, num_outputs = 2> (b)  e = Concat <axis = 2> (d, c)
            y = Reshape(e, [-1,3,1,2]) }""",
        after="""g (float[B,3,5,4] q) => (float[B,3,1,2] y) {
            a = ReduceMean(q, [-2])  b = Slice(a, [1], [3], [-1])
            c, d = Split <axis = -1, num_outputs = 2> (b)  y = Concat <axis = -1> (d, c) }""",
        sizes=SIZES,
    )


def test_axes_as_attributes():
    assert_rewrites(
        PASS,
        before="""g (float[B,3,5,4] q) => (float[B,3,1,4] y) {
            q1 = Reshape(q, [-1,5,4])  a = ReduceMean <axes = [1]> (q1)  y = Reshape(a, [-1,3,1,4]) }""",
        after="g (float[B,3,5,4] q) => (float[B,3,1,4] y) { y = ReduceMean <axes = [-2]> (q) }",
        opset=12,
        sizes=SIZES,
    )


def test_a_tile_over_the_batch_is_a_broadcast():
    assert_rewrites(
        PASS,
        before="""g (float[B,3,5,4] q, float[3,2,4] t) => (float[B,3,5,2] y) {
            s = Shape(q)  b = Slice(s, [0], [1])  r = Concat <axis = 0> (b, [1,1])  u = Tile(t, r)
            v = Transpose <perm = [0,2,1]> (u)  q1 = Reshape(q, [-1,5,4])  a = MatMul(q1, v)
            y = Reshape(a, [-1,3,5,2]) }""",
        after="""g (float[B,3,5,4] q, float[3,2,4] t) => (float[B,3,5,2] y) {
            u = Unsqueeze(t, [0])  v = Transpose <perm = [0,1,3,2]> (u)  y = MatMul(q, v) }""",
        sizes=SIZES,
    )


def test_another_consumer_takes_the_merged_tensor():
    assert_rewrites(
        PASS,
        before="""g (float[B,3,5,4] q, float[B,3,5,4] k) => (float[B,3,5,4] y, float[P,5,4] z) {
            q1 = Reshape(q, [-1,5,4])  k1 = Reshape(k, [-1,5,4])  a = Add(q1, k1)  b = Relu(a)
            z = Identity(a)  y = Reshape(b, [-1,3,5,4]) }""",
        after="""g (float[B,3,5,4] q, float[B,3,5,4] k) => (float[B,3,5,4] y, float[P,5,4] z) {
            a = Add(q, k)  y = Relu(a)  i = Identity(a)  z = Reshape(i, [-1,5,4]) }""",
        sizes=SIZES,
    )


def test_other_parts_come_out_than_went_in():
    assert_rewrites(
        PASS,
        before="""g (float[B,6,4] q, float[P,1] w) => (float[B,2,12] y) {
            q1 = Reshape(q, [-1,4])  a = Relu(q1)  s = Shape(q)  b = Slice(s, [0], [1])
            t = Concat <axis = 0> (b, [2,12])  y = Reshape(a, t) }""",
        after="""g (float[B,6,4] q, float[P,1] w) => (float[B,2,12] y) {
            a = Relu(q)  y = Reshape(a, [0,2,12]) }""",
        sizes=SIZES,
    )


def test_a_tensor_that_was_never_parted_is_parted():
    assert_rewrites(
        PASS,
        before="""g (float[2,3,4] q, float[6,1] w) => (float[2,3,4] y) {
            q1 = Reshape(q, [6,4])  a = Mul(q1, w)  y = Reshape(a, [2,3,4]) }""",
        after="""g (float[2,3,4] q, float[6,1] w) => (float[2,3,4] y) {
            v = Reshape(w, [2,3,1])  y = Mul(q, v) }""",
    )


def test_dims_of_one_between_are_left_out():
    assert_rewrites(
        PASS,
        before="""g (float[B,4,1,S,2] q, float[2,2] w) => (float[B,4,S,2,1] y) {
            s = Shape(q)  b = Slice(s, [0], [1])  n = Slice(s, [3], [4])  p = Mul(b, [4])
            t = Concat <axis = 0> (p, n, [2])  q1 = Reshape(q, t)  a = MatMul(q1, w)
            u = Concat <axis = 0> (b, [4], n, [2,1])  y = Reshape(a, u) }""",
        after="""g (float[B,4,1,S,2] q, float[2,2] w) => (float[B,4,S,2,1] y) {
            q1 = Squeeze(q, [2])  a = MatMul(q1, w)  y = Unsqueeze(a, [4]) }""",
        sizes=[{"B": 2, "S": 5}, {"B": 1, "S": 1}, {"B": 0, "S": 5}],
    )


def test_trailing_axes_may_be_relabelled_on_the_way():
    assert_rewrites(
        PASS,
        before="""g (float[B,3,5,4] q) => (float[B,3,5,4] y) {
            q1 = Reshape(q, [-1,5,4])  a = Relu(q1)  b = Reshape(a, [-1,20])
            c = Softmax <axis = 1> (b)  d = Reshape(c, [-1,5,4])  e = Neg(d)  y = Reshape(e, [-1,3,5,4]) }""",
        after="""g (float[B,3,5,4] q) => (float[B,3,5,4] y) {
            a = Relu(q)  b = Reshape(a, [0,3,20])  c = Softmax <axis = -1> (b)
            d = Reshape(c, [0,3,5,4])  y = Neg(d) }""",
        sizes=SIZES,
    )


def test_indices_expanded_to_the_merged_axis_get_another_target():
    assert_rewrites(
        PASS,
        before="""g (float[B,3,7,4] q, float[B,3,7,4] k, int64[1,7,2] i) => (float[B,3,7,2] y) {
            q1 = Reshape(q, [-1,7,4])  k1 = Reshape(k, [-1,7,4])  a = Add(q1, k1)
            s = Shape(q)  b = Slice(s, [0], [1])  p = Mul(b, [3])  t = Concat <axis = 0> (p, [7,2])
            j = Expand(i, t)  h = GatherElements <axis = 2> (a, j)  r = Relu(h)
            y = Reshape(r, [-1,3,7,2]) }""",
        after="""g (float[B,3,7,4] q, float[B,3,7,4] k, int64[1,7,2] i) => (float[B,3,7,2] y) {
            b = Shape <start = 0, end = 1> (q)  t = Concat <axis = 0> (b, [3,7,2])
            a = Add(q, k)  j = Expand(i, t)  h = GatherElements <axis = -1> (a, j)  y = Relu(h) }""",
        sizes=SIZES,
    )


def test_the_axis_may_be_moved():
    assert_rewrites(
        PASS,
        before="""g (float[B,3,4] q) => (float[4,B,3] y) {
            q1 = Reshape(q, [-1,4])  a = Transpose <perm = [1,0]> (q1)  s = Shape(q)
            b = Slice(s, [0], [2])  t = Concat <axis = 0> ([4], b)  y = Reshape(a, t) }""",
        after="g (float[B,3,4] q) => (float[4,B,3] y) { y = Transpose <perm = [2,0,1]> (q) }",
        sizes=SIZES,
    )


def test_in_a_branch():
    assert_rewrites(
        PASS,
        before="""g (float[B,3,5,4] q, bool c) => (float[B,3,5,4] y) {
            y = If (c) <
                then_branch = t () => (float[B,3,5,4] a) {
                    q1 = Reshape(q, [-1,5,4])  r = Relu(q1)  a = Reshape(r, [-1,3,5,4]) },
                else_branch = e () => (float[B,3,5,4] b) { b = Neg(q) }> }""",
        after="""g (float[B,3,5,4] q, bool c) => (float[B,3,5,4] y) {
            y = If (c) <
                then_branch = t () => (float[B,3,5,4] a) { a = Relu(q) },
                else_branch = e () => (float[B,3,5,4] b) { b = Neg(q) }> }""",
        sizes=SIZES,
    )


@pytest.mark.parametrize(
    "graph",
    [
        # Nothing parts it again: as many Reshapes after as before.
        """g (float[B,3,5,4] q) => (float[P,5,4] y) { q1 = Reshape(q, [-1,5,4])  y = Relu(q1) }""",
        # The merged axis is the one worked on.
        """g (float[B,3,4] q) => (float[B,3,4] y) {
            q1 = Reshape(q, [-1,4])  a = Softmax <axis = 0> (q1)  y = Reshape(a, [-1,3,4]) }""",
        # The merged axis is the one summed over.
        """g (float[2,3,4] q, float[5,6] w) => (float[5,4] y) {
            q1 = Reshape(q, [6,4])  y = MatMul(w, q1) }""",
    ],
)
def test_leaves_alone(graph):
    assert_rejects(PASS, graph)
