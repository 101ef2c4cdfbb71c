from __future__ import annotations

import pytest

from graphopt.passes.algebra.remove_reshapes_around_gemm import OTHER_FORM, OTHER_SHAPE
from graphopt.testing import assert_rejects, assert_rewrites

PASS = "remove-reshapes-around-gemm"
HEAD = "(float[B,S,2] x) => (float[B,S,3] y)"
W, B = "float[2,3] w = {1, 2, 3, 4, 5, 6}", "float[3] b = {1, 2, 3}"
# x[B,S,3] as it comes out, so that the target is the shape of x with another last dim.
TARGET = "s = Shape <start = 0, end = 2> (x)  q = Concat <axis = 0> (s, [3])"


def around(inner):
    return f"a = Reshape (x, p)  {inner}  {TARGET}  y = Reshape (c, q)"


def removes(inner, constants, after_constants, after):
    assert_rewrites(
        PASS,
        before=f"g {HEAD} <int64[2] p = {{-1, 2}}, {constants}> {{ {around(inner)} }}",
        after=f"g {HEAD} <{after_constants}> {{ {after} }}",
        exact=False,
        sizes=[{"B": 2, "S": 3}, {"B": 0, "S": 3}, {"B": 1, "S": 1}],
    )


def test_gemm():
    removes("c = Gemm (a, w, b)", f"{W}, {B}", f"{W}, {B}", "c = MatMul (x, w)  y = Add (c, b)")


def test_gemm_with_flags():
    removes(
        "c = Gemm <transB = 1, alpha = 2.0> (a, w)",
        "float[3,2] w = {1, 2, 3, 4, 5, 6}",
        "float[2,3] w = {2, 6, 10, 4, 8, 12}",
        "y = MatMul (x, w)",
    )


def test_matmul_and_add():
    removes(
        "d = MatMul (a, w)  c = Add (b, d)", f"{W}, {B}", f"{W}, {B}", "c = MatMul (x, w)  y = Add (c, b)"
    )
    removes("c = MatMul (a, w)", W, W, "y = MatMul (x, w)")


def test_matrix_of_several_products():
    head = "(float[B,S,2] x) => (float[B,S,3] y, float[B,S,3] z)"
    assert_rewrites(
        PASS,
        before=f"g {head} <{W}, {B}> {{ a = Reshape (x, [-1, 2])  c = Gemm (a, w, b)  d = Gemm (a, w)  "
        f"{TARGET}  y = Reshape (c, q)  z = Reshape (d, q) }}",
        after=f"g {head} <{W}, {B}> {{ c = MatMul (x, w)  y = Add (c, b)  z = MatMul (x, w) }}",
        exact=False,
    )


def test_columns_that_are_parted_keep_their_reshape():
    head = "(float[B,S,2] x) => (float[B,S,3,1] y)"
    assert_rewrites(
        PASS,
        before=f"g {head} <{W}> {{ a = Reshape (x, [-1,2])  c = Gemm (a, w)  s = Shape <end = 2> (x)  "
        "q = Concat <axis = 0> (s, [3, 1])  y = Reshape (c, q) }",
        after=f"g {head} <{W}> {{ c = MatMul (x, w)  s = Shape <end = 2> (x)  "
        "q = Concat <axis = 0> (s, [3, 1])  y = Reshape (c, q) }",
        exact=False,
        sizes=[{"B": 2, "S": 3}, {"B": 0, "S": 3}],
    )


def gemm_between(first, last):
    return f"a = Reshape (x, {first})  c = Gemm (a, w, b)  y = Reshape (c, {last})"


@pytest.mark.parametrize(
    ("head", "bias", "nodes", "reason"),
    [
        # With a bias there would be as many operators as before.
        ("(float[2,1,2] x) => (float[2,1,3,1] y)", B, gemm_between("[-1,2]", "[2,1,3,1]"), OTHER_SHAPE),
        # The rows are parted in another way.
        (HEAD, B, gemm_between("[-1,2]", "[1,-1,3]"), OTHER_SHAPE),
        # The last axis is joined too.
        ("(float[B,1,2] x) => (float[B,1,3] y)", B, gemm_between("[1,-1]", "[-1,1,3]"), OTHER_SHAPE),
        # Something else is added to each row.
        (
            "(float[2,1,2] x) => (float[2,1,3] y)",
            "float[2,1] b = {1, 2}",
            gemm_between("[2,2]", "[2,1,3]"),
            OTHER_FORM,
        ),
        (HEAD, f"{B}, int64[2] p = {{-1, 2}}", around("c = Gemm <beta = 2.0> (a, w, b)"), OTHER_FORM),
    ],
)
def test_leaves_alone(head, bias, nodes, reason):
    assert_rejects(PASS, f"g {head} <{W}, {bias}> {{ {nodes} }}", reason)
