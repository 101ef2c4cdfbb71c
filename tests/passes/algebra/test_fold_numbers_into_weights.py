from __future__ import annotations

import pytest

from graphopt.passes.algebra.fold_numbers_into_weights import NOT_TAKEN
from graphopt.testing import assert_rejects, assert_rewrites

PASS = "fold-numbers-into-weights"
HEAD = "(float[N,L,2] x) => (float[N,L,2] y)"
KEYS = "t = Transpose <perm = [0,2,1]> (k)"
W = "float[2,2] w = {1, 2, 3, 4}"


def folds(head, before_constants, before, after_constants, after, **options):
    assert_rewrites(
        PASS,
        before=f"g {head} <{before_constants}> {{ {before} }}",
        after=f"g {head} <{after_constants}> {{ {after} }}",
        exact=False,
        **options,
    )


def test_scale_of_scores_goes_into_the_query():
    folds(
        "(float[N,L,2] x, float[N,L,2] k) => (float[N,L,L] y)",
        f"{W}, float[2] b = {{6, 8}}",
        f"q = MatMul (x, w)  r = Add (q, b)  {KEYS}  s = MatMul (r, t)  y = Div (s, 2.0)",
        "float[2,2] w = {0.5, 1, 1.5, 2}, float[2] b = {3, 4}",
        f"q = MatMul (x, w)  r = Add (q, b)  {KEYS}  y = MatMul (r, t)",
        sizes=[{"N": 2, "L": 3}, {"N": 1, "L": 0}],
    )


def test_crosses_heads():
    reshape = "h = Reshape (q, [0, -1, 2, 1])  t = Transpose <perm = [0,2,1,3]> (h)"
    folds(
        "(float[N,L,2] x) => (float[N,2,L,1] y)",
        W,
        f"q = MatMul (x, w)  {reshape}  y = Mul (t, 0.5)",
        "float[2,2] w = {0.5, 1, 1.5, 2}",
        f"q = MatMul (x, w)  {reshape.replace('t =', 'y =')}",
    )


def test_negation_after_gemm():
    folds(
        "(float[N,2] x) => (float[N,2] y)",
        f"{W}, float[2] c = {{5, 6}}",
        "a = Gemm (x, w, c)  y = Neg (a)",
        "float[2,2] w = {-1, -2, -3, -4}, float[2] c = {-5, -6}",
        "y = Gemm <beta = 1.0> (x, w, c)",
    )


def test_gemm_of_two_values_takes_it_as_alpha():
    folds(
        "(float[N,2] x, float[2,3] w) => (float[N,3] y)",
        "float[1] s = {4}",
        "a = Gemm <alpha = 0.5> (x, w)  y = Mul (s, a)",
        "float[1] unused = {0}",
        "y = Gemm <alpha = 2.0, beta = 4.0> (x, w)",
    )


def test_hard_sigmoid_of_paddle_is_a_clip():
    folds(
        "(float[N,1,H] x) => (float[N,1,H] y)",
        "float[1,1,1] w = {2}, float[1] c = {1}",
        "a = Conv (x, w, c)  b = Add (a, 3.0)  d = Clip (b, 0.0, 6.0)  y = Div (d, 4.0)",
        "float[1,1,1] w = {0.5}, float[1] c = {1}",
        "a = Conv (x, w, c)  y = Clip (a, 0.0, 1.5)",
    )


def test_consecutive_numbers():
    folds(HEAD, "float[1] unused = {0}", "a = Mul (x, 2.0)  b = Div (a, 8.0)  y = Mul (b, 3.0)",
          "float[1] unused = {0}", "y = Mul (x, 0.75)")  # fmt: skip
    folds(HEAD, "float[1] unused = {0}", "a = Add (x, 2.0)  b = Sub (a, 8.0)  y = Add (3.0, b)",
          "float[1] unused = {0}", "y = Add (x, -3.0)")  # fmt: skip
    folds(HEAD, "float[1] unused = {0}", "a = Div (6.0, x)  y = Mul (a, 0.5)",
          "float[1] unused = {0}", "y = Div (3.0, x)")  # fmt: skip


@pytest.mark.parametrize(
    ("head", "constants", "nodes"),
    [
        (HEAD, W, "a = MatMul (x, w)  b = Sigmoid (a)  y = Mul (b, 2.0)"),
        (HEAD, W, "a = MatMul (x, w)  y = Add (a, 2.0)"),
        (
            HEAD.replace(") =>", ", float[2,2] w) =>"),
            "float[1] unused = {0}",
            "a = MatMul (x, w)  y = Mul (a, 2.0)",
        ),
        (HEAD, W, "a = MatMul (x, w)  b = Relu (a)  y = Neg (b)"),
        (HEAD.replace(" y)", " y, float[N,L,2] a)"), W, "a = MatMul (x, w)  y = Neg (a)"),
        (HEAD.replace(" y)", " y, float[N,L,2] z)"), W, "a = MatMul (x, w)  z = Abs (a)  y = Neg (a)"),
        # Such a factor could make ordinary numbers overflow.
        (HEAD, W, "a = Mul (x, 0.0)  y = Mul (a, 1e38)"),
    ],
)
def test_leaves_alone(head, constants, nodes):
    assert_rejects(PASS, f"g {head} <{constants}> {{ {nodes} }}", None if "1e38" in nodes else NOT_TAKEN)


def test_pad_value_is_not_scaled_away():
    nodes = "a = MatMul (x, w)  b = Pad (a, [1,0,0,0])  y = Mul (b, 2.0)"
    assert_rejects(PASS, f"g (float[2,2] x) => (float[3,2] y) <{W}> {{ {nodes} }}", NOT_TAKEN)


BIG = "float[64,32,1] w"
ONES, MINUS = ",".join(["1"] * 2048), ",".join(["-1"] * 2048)
TWO_HEAD = "(float[N,32,L] x, float[N,32,L] u) => (float[N,64,L] y, float[N,64,L] z)"


def test_large_weight_whose_users_all_take_the_same_map():
    folds(
        TWO_HEAD,
        f"{BIG} = {{{ONES}}}",
        "a = Conv (x, w)  b = Conv (u, w)  y = Neg (a)  z = Neg (b)",
        f"{BIG} = {{{MINUS}}}",
        "y = Conv (x, w)  z = Conv (u, w)",
    )


@pytest.mark.parametrize("other", ["z = Conv (u, w)", "b = Conv (u, w)  z = Mul (b, 2.0)"])
def test_large_weight_that_another_one_needs(other):
    graph = f"g {TWO_HEAD} <{BIG} = {{{ONES}}}> {{ a = Conv (x, w)  y = Neg (a)  {other} }}"
    assert_rejects(PASS, graph, NOT_TAKEN)
