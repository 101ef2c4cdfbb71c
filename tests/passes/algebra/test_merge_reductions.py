from __future__ import annotations

import pytest

from graphopt.passes.algebra.merge_reductions import AXES_DIFFER, HAS_OTHER_CONSUMERS, OTHER_SHAPE
from graphopt.testing import assert_rejects, assert_rewrites

PASS = "merge-reductions"


def merges(head, before, after, **options):
    assert_rewrites(PASS, f"g {head} {{ {before} }}", f"g {head} {{ {after} }}", exact=False, **options)


@pytest.mark.parametrize("opset", [13, 18])
@pytest.mark.parametrize("reshape", ["Flatten (a)", "Reshape (a, [-1, 4])", "Squeeze (a, [2,3])"])
def test_pooling_whose_axes_are_dropped(reshape, opset):
    mean = (
        "ReduceMean <keepdims = 0> (x, [2,3])"
        if opset == 18
        else "ReduceMean <keepdims = 0, axes = [2,3]> (x)"
    )
    merges(
        "(float[N,4,H,W] x) => (float[N,4] y)",
        f"a = GlobalAveragePool (x)  y = {reshape}",
        f"y = {mean}",
        opset=opset,
        sizes=[{"N": 2}, {"N": 0}],
    )


def test_axes_are_dropped_or_kept_as_the_reshape_wants():
    merges(
        "(float[N,4,3] x) => (float[N,3] y)",
        "a = ReduceMax (x, [1])  y = Squeeze (a, [1])",
        "y = ReduceMax <keepdims = 0> (x, [1])",
    )
    merges(
        "(float[N,4,3] x) => (float[N,1,3] y)",
        "a = ReduceSum <keepdims = 0> (x, [-2])  y = Reshape (a, [-1,1,3])",
        "y = ReduceSum <keepdims = 1> (x, [1])",
    )


def test_reductions_of_reductions():
    merges(
        "(float[N,4,3] x) => (float[N,1,1] y)",
        "a = ReduceMean (x, [1])  y = ReduceMean (a, [2])",
        "y = ReduceMean <keepdims = 1> (x, [1,2])",
    )
    merges(
        "(float[N,4,3,2] x) => (float[N,2] y)",
        "a = ReduceMax <keepdims = 0> (x, [1])  y = ReduceMax <keepdims = 0> (a, [1])",
        "y = ReduceMax <keepdims = 0> (x, [1,2])",
    )


@pytest.mark.parametrize(
    ("head", "before", "after"),
    [
        ("(float[N,1,T] x) => (float[N,1] y)", "a = Squeeze (x, [1])  y = ReduceMean (a, [1])",
         "y = ReduceMean <keepdims = 0> (x, [2])"),
        ("(float[N,1,T] x) => (float[N] y)", "a = Squeeze (x, [1])  y = ReduceMean <keepdims = 0> (a, [1])",
         "y = ReduceMean <keepdims = 0> (x, [1,2])"),
        ("(float[N,T] x) => (float[N,1] y)", "a = Unsqueeze (x, [1])  y = ReduceMax <keepdims = 0> (a, [2])",
         "y = ReduceMax <keepdims = 1> (x, [1])"),
    ],
)  # fmt: skip
def test_reshape_before(head, before, after):
    merges(head, before, after)


@pytest.mark.parametrize("scale", ["Div (a, 12.0)", "Mul (0.083333336, a)"])
def test_sum_over_its_count(scale):
    merges(
        "(float[N,4,3] x) => (float[N,1,1] y)",
        f"a = ReduceSum (x, [1,2])  y = {scale}",
        "y = ReduceMean <keepdims = 1> (x, [1,2])",
    )


@pytest.mark.parametrize(("keeps", "shape", "made"), [(0, "3", "N,4"), (1, "3,1", "N,4,1")])
def test_sum_of_weighted_elements(keeps, shape, made):
    assert_rewrites(
        PASS,
        f"g (float[N,4,3] x) => (float[{made}] y) <float[1,3] w = {{1,2,3}}> "
        f"{{ a = Mul (w, x)  y = ReduceSum <keepdims = {keeps}> (a, [-1]) }}",
        f"g (float[N,4,3] x) => (float[{made}] y) <float[{shape}] w = {{1,2,3}}> {{ y = MatMul (x, w) }}",
        exact=False,
        sizes=[{"N": 2}, {"N": 0}],
    )


@pytest.mark.parametrize(
    ("head", "nodes", "reason"),
    [
        ("(float[N,4,H] x) => (float[M] y)", "a = GlobalAveragePool (x)  y = Reshape (a, [-1])", OTHER_SHAPE),
        ("(float[N,4,H,W] x) => (float[N,4] y, float[N,4,1,1] z)",
         "a = GlobalAveragePool (x)  y = Flatten (a)  z = Exp (a)", HAS_OTHER_CONSUMERS),
        ("(float[N,1,T] x) => (float[N,1,1,1] y)", "a = Unsqueeze (x, [1])  y = ReduceMean (a, [3])", OTHER_SHAPE),
        ("(float[N,4,3] x) => (float[N,1] y)",
         "a = ReduceMax (x, [1])  y = ReduceMax <keepdims = 0> (a, [2])", AXES_DIFFER),
        ("(float[N,4,3] x) => (float[N,1] y)",
         "a = ReduceMax <keepdims = 0> (x, [1])  y = ReduceMax (a, [1])", AXES_DIFFER),
        ("(float[N,4,3] x) => (float[N,1,1] y)",
         "a = ReduceSumSquare (x, [1])  y = ReduceSumSquare (a, [2])", None),
        ("(float[N,4,3] x) => (float[N,1,1] y)", "a = ReduceMin (x, [1])  y = ReduceMax (a, [2])", None),
        ("(float[N,4,3] x) => (float[N,1,3] y)", "a = ReduceSum (x, [1])  y = Div (a, 3.0)", None),
        ("(float[N,H,3] x) => (float[N,1,3] y)", "a = ReduceSum (x, [1])  y = Div (a, 4.0)", None),
        ("(float[N,4,3] x) => (float[N,1,3] y)", "a = ReduceSum (x, [1])  y = Div (4.0, a)", None),
        ("(float[N,4,3] x) => (float[N,1,3] y)", "a = Mul (x, [1.0, 2.0, 3.0])  y = ReduceSum (a, [1])", None),
        ("(float[N,4,3] x) => (float[N,4,1] y)", "a = Mul (x, [2.0])  y = ReduceSum (a, [2])", None),
    ],
)  # fmt: skip
def test_leaves_alone(head, nodes, reason):
    assert_rejects(PASS, f"g {head} {{ {nodes} }}", reason)
