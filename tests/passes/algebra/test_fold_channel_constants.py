from __future__ import annotations

import pytest

from graphopt.passes.algebra.fold_channel_constants import NOT_TAKEN
from graphopt.testing import assert_rejects, assert_rewrites

PASS = "fold-channel-constants"
HEAD = "(float[N,1,H] x) => (float[N,2,H] y)"
W = "float[2,1,1] w = {1, 2}"


def folds(head, before_constants, before, after_constants, after, **options):
    assert_rewrites(
        PASS,
        before=f"g {head} <{before_constants}> {{ {before} }}",
        after=f"g {head} <{after_constants}> {{ {after} }}",
        exact=False,
        **options,
    )


@pytest.mark.parametrize("shape", ["2,1", "1,2,1"])
def test_scale_and_shift_after_conv(shape):
    folds(
        HEAD,
        f"{W}, float[{shape}] s = {{2, 3}}, float[{shape}] t = {{5, 7}}",
        "a = Conv (x, w)  b = Mul (s, a)  y = Add (b, t)",
        "float[2,1,1] w = {2, 6}, float[2] c = {5, 7}",
        "y = Conv (x, w, c)",
        sizes=[{"N": 2, "H": 3}, {"N": 2, "H": 1}, {"N": 0, "H": 3}],
    )


def test_division_and_subtraction_both_ways():
    folds(
        HEAD,
        f"{W}, float[2] c = {{1, 1}}, float[2,1] s = {{2, 4}}, float[2,1] t = {{5, 7}}",
        "a = Conv (x, w, c)  b = Div (a, s)  y = Sub (t, b)",
        "float[2,1,1] w = {-0.5, -0.5}, float[2] c = {4.5, 6.75}",
        "y = Conv (x, w, c)",
    )


def test_bias_of_a_matmul_is_one_add():
    folds(
        "(float[N,L,2] x) => (float[N,L,2] y)",
        "float[2,2] w = {1, 2, 3, 4}, float[2] b = {1, 2}, float[2] t = {10, 20}",
        "a = MatMul (x, w)  c = Add (a, b)  y = Sub (c, t)",
        "float[2,2] w = {1, 2, 3, 4}, float[2] b = {-9, -18}",
        "a = MatMul (x, w)  y = Add (a, b)",
    )


def test_layer_scale_crosses_a_bias_and_a_reshape():
    folds(
        "(float[N,L,2] x, int64[2] k) => (float[N,L,2] y)",
        "float[2,2] w = {1, 2, 3, 4}, float[2] b = {1, 2}, float[2] s = {10, 20}, int64[2] u = {-1, 2}, "
        "int64[3] z = {0, -1, 2}",
        "a = MatMul (x, w)  c = Add (b, a)  d = Reshape (c, u)  y = Mul (d, s)",
        "float[2,2] w = {10, 40, 30, 80}, float[2] b = {10, 40}, int64[2] u = {-1, 2}",
        "a = MatMul (x, w)  c = Add (a, b)  y = Reshape (c, u)",
    )


def test_into_layer_normalization():
    folds(
        "(float[N,2] x) => (float[N,2] y)",
        "float[2] w = {1, 2}, float[2] s = {3, 4}, float[1,2] t = {5, 6}",
        "a = LayerNormalization (x, w)  b = Mul (a, s)  y = Add (b, t)",
        "float[2] w = {3, 8}, float[2] t = {5, 6}",
        "y = LayerNormalization (x, w, t)",
    )


def test_through_relu_when_positive():
    folds(
        HEAD,
        f"{W}, float[2,1] s = {{2, 3}}",
        "a = Conv (x, w)  b = Relu (a)  y = Mul (b, s)",
        "float[2,1,1] w = {2, 6}",
        "a = Conv (x, w)  y = Relu (a)",
    )


def test_consecutive_scales():
    folds(
        "(float[N,2] x) => (float[N,2] y)",
        "float[2] s = {2, 3}, float[2] t = {5, 7}",
        "a = Mul (x, s)  y = Mul (a, t)",
        "float[2] s = {10, 21}",
        "y = Mul (x, s)",
    )


@pytest.mark.parametrize(
    ("head", "constants", "nodes"),
    [
        # A negative scale does not commute with Relu.
        (HEAD, f"{W}, float[2,1] s = {{2, -3}}", "a = Conv (x, w)  b = Relu (a)  y = Mul (b, s)"),
        # The channels of the constant are on another axis.
        (
            "(float[N,1,2] x) => (float[N,2,2] y)",
            f"{W}, float[2] s = {{2, 3}}",
            "a = Conv (x, w)  y = Mul (a, s)",
        ),
        (
            "(float[N,L,2] x) => (float[N,L,2] y)",
            "float[2,2] w = {1,2,3,4}, float[2] t = {1,2}",
            "a = MatMul (x, w)  y = Add (a, t)",
        ),
    ],
)
def test_leaves_alone(head, constants, nodes):
    assert_rejects(PASS, f"g {head} <{constants}> {{ {nodes} }}", NOT_TAKEN)


@pytest.mark.parametrize(
    ("head", "constants", "nodes"),
    [
        # A dim that may be 1 is made larger by the constant.
        (
            "(float[N,1,H] x) => (float[N,2,H] y)",
            "float[1,1,1] w = {1}, float[2,1] s = {2, 3}",
            "a = Conv (x, w)  y = Mul (a, s)",
        ),
        # A constant of a higher rank.
        (
            HEAD.replace("[N,2,H] y", "[1,N,2,H] y"),
            f"{W}, float[1,1,2,1] s = {{2, 3}}",
            "a = Conv (x, w)  y = Mul (a, s)",
        ),
        (
            "(int32[N,2] x) => (int32[N,2] y)",
            "int32[2,2] w = {1,2,3,4}, int32[2] s = {2, 3}",
            "a = MatMul (x, w)  y = Mul (a, s)",
        ),
        # A scale that is not finite.
        (HEAD, f"{W}, float[2,1] s = {{2, 0}}", "a = Conv (x, w)  y = Div (a, s)"),
    ],
)
def test_is_no_map_of_channels(head, constants, nodes):
    assert_rejects(PASS, f"g {head} <{constants}> {{ {nodes} }}")
