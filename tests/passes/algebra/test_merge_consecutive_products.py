from __future__ import annotations

import pytest

from graphopt.passes.algebra.merge_consecutive_products import COSTS_MORE, NOT_CONSTANT, OTHER_BIAS
from graphopt.testing import assert_rejects, assert_rewrites

PASS = "merge-consecutive-products"
HEAD = "(float[B,N,2] x) => (float[B,N,2] y)"
A = "float[2,3] a = {1, 2, 3, 4, 5, 6}, float[3,2] b = {1, 0, 0, 1, 1, 1}"
AB = "float[2,2] ab = {4, 5, 10, 11}"


def test_two_products():
    assert_rewrites(
        PASS,
        f"g {HEAD} <{A}> {{ p = MatMul (x, a)  y = MatMul (p, b) }}",
        f"g {HEAD} <{AB}> {{ y = MatMul (x, ab) }}",
        exact=False,
        sizes=[{"B": 2, "N": 3}, {"B": 0, "N": 1}],
    )


@pytest.mark.parametrize(("bias", "vector"), [("float[3] c = {1,2,3}", "4, 5"), ("float c = {2}", "4, 4")])
def test_bias_between(bias, vector):
    assert_rewrites(
        PASS,
        f"g {HEAD} <{A}, {bias}> {{ p = MatMul (x, a)  q = Add (c, p)  y = MatMul (q, b) }}",
        f"g {HEAD} <{AB}, float[2] d = {{{vector}}}> {{ p = MatMul (x, ab)  y = Add (p, d) }}",
        exact=False,
    )


@pytest.mark.parametrize(
    ("head", "constants", "nodes", "reason"),
    [
        (HEAD, "float[2,1] a = {1, 2}, float[1,2] b = {1, 2}", "p = MatMul (x, a)  y = MatMul (p, b)", COSTS_MORE),
        (HEAD.replace(") =>", ", float[3,2] u) =>"), A, "p = MatMul (x, a)  y = MatMul (p, u)", NOT_CONSTANT),
        (HEAD.replace(") =>", ", float[3] c) =>"), A, "p = MatMul (x, a)  q = Add (p, c)  y = MatMul (q, b)", OTHER_BIAS),
        ("(float[B,3,2] x) => (float[B,3,2] y)", f"{A}, float[3,1] c = {{1,2,3}}",
         "p = MatMul (x, a)  q = Add (p, c)  y = MatMul (q, b)", OTHER_BIAS),
        (HEAD, A, "p = MatMul (x, a)  q = MatMul (p, b)  r = ReduceSum (p)  y = Add (q, r)", None),
    ],
)  # fmt: skip
def test_leaves_alone(head, constants, nodes, reason):
    assert_rejects(PASS, f"g {head} <{constants}> {{ {nodes} }}", reason)
