from __future__ import annotations

import pytest

from graphopt.passes.algebra.fuse_matmul_add import HAS_ADDEND, MAY_BE_EMPTY, NO_BIAS, NO_MATRICES
from graphopt.testing import assert_rejects, assert_rewrites

PASS = "fuse-matmul-add"
NODES = "a = MatMul (x, w)  y = Add (a, b)"
W = "float[2,3] w = {1, 2, 3, 4, 5, 6}"


@pytest.mark.parametrize(("shape", "values"), [("3", "1,2,3"), ("1,3", "1,2,3"), ("1", "1"), ("1,1", "1")])
def test_matrices_become_gemm(shape, values):
    assert_rewrites(
        PASS,
        before=f"g (float[N,2] x) => (float[N,3] y) <{W}, float[{shape}] b = {{{values}}}> "
        "{ a = MatMul (x, w)  y = Add (b, a) }",
        after=f"g (float[N,2] x) => (float[N,3] y) <{W}, float[{shape}] b = {{{values}}}> "
        "{ y = Gemm (x, w, b) }",
        exact=False,
        sizes=[{"N": 2}, {"N": 1}, {"N": 0}],
    )


def test_runtime_weight_and_bias():
    head = "(float[N,2] x, float[2,K] w, float[K] b) => (float[N,K] y)"
    assert_rewrites(
        PASS,
        before=f"g {head} {{ {NODES} }}",
        after=f"g {head} {{ y = Gemm (x, w, b) }}",
        exact=False,
    )


def test_gemm_takes_a_bias_later():
    assert_rewrites(
        PASS,
        before=f"g (float[2,N] x) => (float[N,3] y) <{W}, float[3] b = {{1,2,3}}> "
        "{ a = Gemm <alpha = 2.0, transA = 1> (x, w)  y = Add (a, b) }",
        after=f"g (float[2,N] x) => (float[N,3] y) <{W}, float[3] b = {{1,2,3}}> "
        "{ y = Gemm <alpha = 2.0, transA = 1> (x, w, b) }",
        exact=False,
    )


@pytest.mark.parametrize(
    ("head", "reason"),
    [
        ("(float[B,N,2] x, float[3] b) => (float[B,N,3] y)", NO_MATRICES),
        ("(float[2] x, float[3] b) => (float[3] y)", NO_MATRICES),
        ("(float[N,2] x, float[1,1,3] b) => (float[1,N,3] y)", NO_BIAS),
        ("(float[N,2] x, float[M,3] b) => (float[P,3] y)", NO_BIAS),
    ],
)
def test_leaves_alone(head, reason):
    assert_rejects(PASS, f"g {head} <{W}> {{ {NODES} }}", reason)


def test_bias_that_makes_more_columns():
    head = "(float[N,2] x, float[K] b) => (float[N,K] y) <float[2,1] w = {1, 2}>"
    assert_rejects(PASS, f"g {head} {{ {NODES} }}", NO_BIAS)


def test_sum_over_nothing():
    head = "(float[N,K] x, float[K,3] w, float[3] b) => (float[N,3] y)"
    assert_rejects(PASS, f"g {head} {{ {NODES} }}", MAY_BE_EMPTY)


def test_gemm_that_has_a_bias():
    head = "(float[N,2] x, float[3] b) => (float[N,3] y)"
    assert_rejects(PASS, f"g {head} <{W}> {{ a = Gemm (x, w, b)  y = Add (a, b) }}", HAS_ADDEND)


def test_other_consumer():
    head = "(float[N,2] x, float[3] b) => (float[N,3] y, float[N,3] z)"
    assert_rejects(PASS, f"g {head} <{W}> {{ {NODES}  z = Relu (a) }}")


def test_integers():
    head = "(int32[N,2] x, int32[3] b) => (int32[N,3] y) <int32[2,3] w = {1,2,3,4,5,6}>"
    assert_rejects(PASS, f"g {head} {{ {NODES} }}", NO_MATRICES)
