from __future__ import annotations

import pytest

from graphopt.passes.algebra.fold_maps_into_consumers import NOT_TAKEN
from graphopt.testing import assert_rejects, assert_rewrites

PASS = "fold-maps-into-consumers"
HEAD = "(float[N,2,L] x) => (float[N,1,M] y)"
W = "float[1,2,1] w = {1, 10}"
MAP = "float[2,1] s = {2, 4}, float[2,1] t = {6, 8}"


def folds(constants, nodes, after_constants, after, head=HEAD, **options):
    assert_rewrites(
        PASS,
        f"g {head} <{constants}> {{ {nodes} }}",
        f"g {head} <{after_constants}> {{ {after} }}",
        exact=False,
        **options,
    )


def test_scale_and_shift_before_conv():
    folds(
        f"{W}, {MAP}, float[1] b = {{1}}",
        "a = Mul (x, s)  c = Add (a, t)  y = Conv (c, w, b)",
        "float[1,2,1] w = {2, 40}, float[1] b = {87}",
        "y = Conv (x, w, b)",
        sizes=[{"N": 2}, {"N": 0}],
    )


def test_padding_is_not_shifted():
    folds(
        f"{W}, {MAP}",
        "a = Mul (x, s)  c = Add (a, t)  y = Conv <pads = [1,0]> (c, w)",
        "float[1,2,1] w = {2, 40}, float[2,1] t = {3, 2}",
        "a = Add (x, t)  y = Conv <pads = [1,0]> (a, w)",
    )


def test_batch_normalization_before_grouped_conv():
    parameters = "float[2] s = {4, 8}, float[2] t = {1, 2}, float[2] m = {3, 5}, float[2] v = {3, 3}"
    folds(
        f"float[2,1,1] w = {{1, 10}}, {parameters}",
        "a = BatchNormalization <epsilon = 1.0> (x, s, t, m, v)  y = Conv <group = 2> (a, w)",
        "float[2,1,1] w = {2, 40}, float[2] b = {-5, -180}",
        "y = Conv <group = 2> (x, w, b)",
        head="(float[N,2,L] x) => (float[N,2,L] y)",
    )


def test_scale_before_transposed_conv():
    folds(
        f"float[2,1,1] w = {{1, 10}}, {MAP}",
        "a = Mul (x, s)  y = ConvTranspose (a, w)",
        "float[2,1,1] w = {2, 40}",
        "y = ConvTranspose (x, w)",
    )


def test_every_consumer_takes_it():
    folds(
        "float[2,2] v = {1,2,3,4}, float[2,1] w = {5,6}, float[1] b = {1}, float[2] s = {2,3}, "
        "float[2] t = {1,1}",
        "a = Mul (x, s)  c = Add (a, t)  p = MatMul (c, v)  y = Gemm (c, w, b)",
        "float[2,2] v = {2,4,9,12}, float[2] u = {4,6}, float[2,1] w = {10,18}, float[1] b = {12}",
        "p = Gemm (x, v, u)  y = Gemm <beta = 1.0> (x, w, b)",
        head="(float[N,2] x) => (float[N,2] p, float[N,1] y)",
    )


def test_shift_goes_into_the_bias_of_a_matmul():
    folds(
        "float[2,2] v = {1,2,3,4}, float[2] b = {1,1}, float[2] t = {1,2}",
        "a = Add (x, t)  c = MatMul (a, v)  y = Add (b, c)",
        "float[2,2] v = {1,2,3,4}, float[2] b = {8, 11}",
        "c = MatMul (x, v)  y = Add (c, b)",
        head="(float[N,L,2] x) => (float[N,L,2] y)",
    )


def test_positive_scale_crosses_relu_and_a_transpose():
    folds(
        "float[2,2] v = {1,2,3,4}, float[2,1] s = {2,3}",
        "a = Mul (x, s)  r = Relu (a)  t = Transpose <perm = [0,2,1]> (r)  y = MatMul (t, v)",
        "float[2,2] v = {2,4,9,12}",
        "r = Relu (x)  t = Transpose <perm = [0,2,1]> (r)  y = MatMul (t, v)",
        head="(float[N,2,L] x) => (float[N,L,2] y)",
    )


def test_number_before_hard_sigmoid():
    folds(
        "float[1] unused = {0}",
        "a = Mul (x, 2.0)  c = Add (a, 3.0)  y = HardSigmoid <alpha = 0.25, beta = 0.5> (c)",
        "float[1] unused = {0}",
        "y = HardSigmoid <alpha = 0.5, beta = 1.25> (x)",
        head="(float[N,2] x) => (float[N,2] y)",
    )


@pytest.mark.parametrize(
    "nodes",
    [
        "a = Add (x, t)  y = Conv <pads = [1,0]> (a, w)",
        "a = Mul (x, s)  b = Conv (a, w)  c = Sigmoid (a)  d = Conv (c, w)  y = Add (b, d)",
        "a = Mul (x, s)  b = Neg (a)  c = Relu (b)  y = Conv (c, w)",
        "a = Mul (x, s)  y = Conv (a, u)",
    ],
)
def test_leaves_alone(nodes):
    head = HEAD.replace(") =>", ", float[1,2,1] u) =>")
    assert_rejects(PASS, f"g {head} <{W}, {MAP}> {{ {nodes} }}", NOT_TAKEN)


def test_result_of_the_map_is_an_output():
    head = HEAD.replace(" y)", " y, float[N,2,L] a)")
    assert_rejects(PASS, f"g {head} <{W}, {MAP}> {{ a = Mul (x, s)  y = Conv (a, w) }}", NOT_TAKEN)


def test_consumer_in_a_body():
    graph = f"""g (bool k, float[N,2,L] x) => (float[N,1,L] y) <{W}, {MAP}> {{
        a = Mul (x, s)
        y = If (k) <then_branch = t () => (float[N,1,L] p) {{ p = Conv (a, w) }},
                    else_branch = e () => (float[N,1,L] q) {{ q = Conv (a, w) }}>
    }}"""
    assert_rejects(PASS, graph, NOT_TAKEN)


BLOCK = "p = MatMul (m, v)  q = Add (p, b)  r = Relu (q)  u = MatMul (r, w)  k = Add (u, b)  z = Add (k, m)"
SQUARE = "float[2,2] v = {1,2,3,4}, float[2,2] w = {4,8,12,16}, float[2] b = {1,1}"


def test_scale_and_shift_of_a_residual():
    head = "(float[N,L,2] x) => (float[N,L,2] y)"
    folds(
        f"{SQUARE}, float[2] s = {{2, 4}}, float[2] t = {{6, 8}}",
        f"a = Mul (x, s)  m = Add (a, t)  {BLOCK}  y = MatMul (z, v)",
        # v takes s by rows and t in its bias; w takes 1 / s by columns, its bias (1 + t) / s.
        "float[2,2] v = {2,4,12,16}, float[2,2] w = {2,2,6,4}, float[2] b = {31,45}, float[2] c = {3.5,2.25}",
        "p = MatMul (x, v)  q = Add (p, b)  r = Relu (q)  u = MatMul (r, w)  k = Add (u, c)  z = Add (x, k)  "
        "y = MatMul (z, v)",
        head=head,
        sizes=[{"N": 2, "L": 3}, {"N": 0, "L": 1}],
    )


def test_shift_of_a_residual_that_is_the_result():
    folds(
        f"{SQUARE}, float[2] t = {{6, 8}}",
        f"m = Add (x, t)  {BLOCK.replace('z =', 'y =')}",
        "float[2,2] v = {1,2,3,4}, float[2,2] w = {4,8,12,16}, float[2] b = {31,45}, float[2] c = {7,9}",
        "p = MatMul (x, v)  q = Add (p, b)  r = Relu (q)  u = MatMul (r, w)  k = Add (u, c)  y = Add (x, k)",
        head="(float[N,L,2] x) => (float[N,L,2] y)",
    )


def test_one_weight_can_not_take_two_changes():
    # The product would have to be scaled by rows for its input, and by columns for the sum.
    nodes = "m = Mul (x, s)  p = MatMul (m, v)  z = Add (p, m)  y = MatMul (z, v)"
    head = "(float[N,L,2] x) => (float[N,L,2] y)"
    assert_rejects(
        PASS, f"g {head} <{SQUARE}, float[2] s = {{2, 4}}> {{ {nodes} }}", "two changes meet at one MatMul"
    )
