from __future__ import annotations

import pytest

from graphopt.passes.algebra.merge_clips import HAS_OTHER_CONSUMERS, NEEDS_OPSET
from graphopt.testing import assert_rejects, assert_rewrites

PASS = "merge-clips"
HEAD = "g (float[N,2] x) => (float[N,2] y)"


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("a = Clip (x, 0.0, 6.0)  y = Clip (a, 1.0, 9.0)", "y = Clip (x, 1.0, 6.0)"),
        ("a = Relu (x)  y = Clip (a, -1.0, 6.0)", "y = Clip (x, 0.0, 6.0)"),
        ("a = Min (x, 6.0)  y = Max (0.0, a)", "y = Clip (x, 0.0, 6.0)"),
        ("a = Min ([6.0], x)  y = Relu (a)", "y = Clip (x, 0.0, 6.0)"),
        ("a = Clip (x, -1.0, 6.0)  y = Clip (a, 7.0, 9.0)", "y = Clip (x, 7.0, 7.0)"),
        # A bound that changes nothing goes, and the inner one takes the output's name.
        ("a = Clip (x, 3.0, 1.0)  y = Clip (a, 0.0, 9.0)", "y = Clip (x, 3.0, 1.0)"),
        ("y = Max (x, 0.0)", "y = Relu (x)"),
        ("y = Clip (x, 0.0)", "y = Relu (x)"),
        ("a = Relu (x)  y = Relu (a)", "y = Relu (x)"),
        ("a = Sigmoid (x)  b = Relu (a)  y = Neg (b)", "a = Sigmoid (x)  y = Neg (a)"),
        ("b = Clip (x)  y = Neg (b)", "y = Neg (x)"),
    ],
)
def test_bounds_become_one(before, after):
    assert_rewrites(PASS, f"{HEAD} {{ {before} }}", f"{HEAD} {{ {after} }}", sizes=[{"N": 3}, {"N": 0}])


def test_outer_bound_that_changes_nothing_goes_though_the_inner_one_is_shared():
    head = "g (float[N] x) => (float[N] y, float[N] z)"
    assert_rewrites(
        PASS,
        f"{head} {{ a = Clip (x, 0.0, 6.0)  b = Relu (a)  y = Neg (b)  z = Exp (a) }}",
        f"{head} {{ a = Clip (x, 0.0, 6.0)  y = Neg (a)  z = Exp (a) }}",
    )


def test_attributes_of_old_clips():
    before = "a = Clip <min = 0.0, max = 6.0> (x)  y = Clip <min = 1.0, max = 9.0> (a)"
    after = "y = Clip <min = 1.0, max = 6.0> (x)"
    assert_rewrites(PASS, f"{HEAD} {{ {before} }}", f"{HEAD} {{ {after} }}", opset=10)


def test_integers():
    head = "g (int32[N] x) => (int32[N] y) <int32 a = {1}, int32 b = {5}"
    assert_rewrites(
        PASS,
        f"{head}> {{ c = Max (x, a)  y = Min (c, b) }}",
        f"{head}> {{ y = Clip (x, a, b) }}",
    )


@pytest.mark.parametrize(
    ("nodes", "reason"),
    [
        ("a = Clip (x, 0.0, 6.0)  b = Clip (a, 1.0, 5.0)  y = Add (a, b)", HAS_OTHER_CONSUMERS),
        ("y = Max (x, 1.0)", None),
        ("y = Clip (x, 0.0, 3.4028235e38)", None),
        ("a = Tanh (x)  y = Relu (a)", None),
        ("a = Max (x, [-1.0, 2.0])  y = Relu (a)", None),
        # N may be 0, and the largest of no elements is -infinity.
        ("a = Sigmoid (x)  m = ReduceMax <keepdims = 1> (a, [0])  y = Relu (m)", None),
    ],
)
def test_leaves_alone(nodes, reason):
    assert_rejects(PASS, f"{HEAD} {{ {nodes} }}", reason)


def test_number_that_raises_the_rank():
    head = "g (float[N] x) => (float[1,N] y) <float[1,1] a = {0}>"
    assert_rejects(PASS, f"{head} {{ y = Max (x, a) }}")


def test_bound_that_an_old_clip_can_not_leave_out():
    assert_rejects(PASS, f"{HEAD} {{ a = Relu (x)  y = Max (a, [1.0]) }}", NEEDS_OPSET, opset=10)
