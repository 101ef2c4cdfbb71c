from __future__ import annotations

import pytest

from graphopt.passes.algebra.fold_batch_normalization import NOT_CONSTANT, NOT_TAKEN
from graphopt.testing import assert_rejects, assert_rewrites

PASS = "fold-batch-normalization"

# variance 3 and epsilon 1 make the root 2: the weights below are exact.
PARAMETERS = "float[2] s = {2, 4}, float[2] b = {1, 2}, float[2] m = {3, 5}, float[2] v = {3, 3}"
W = "float[2,1,1] w = {1, 2}"


def bn(value, scale="s"):
    return f"BatchNormalization <epsilon = 1.0> ({value}, {scale}, b, m, v)"


def folds(head, before, after_constants, after, **options):
    constants, nodes = before
    assert_rewrites(
        PASS,
        before=f"g {head} <{constants}, {PARAMETERS}> {{ {nodes} }}",
        after=f"g {head} <{after_constants}> {{ {after} }}",
        exact=False,
        **options,
    )


@pytest.mark.parametrize("opset", [9, 11, 14, 18])
def test_into_conv(opset):
    folds(
        "(float[N,1,H] x) => (float[N,2,H] y)",
        (W, f"a = Conv (x, w)  y = {bn('a')}"),
        "float[2,1,1] w = {1, 4}, float[2] c = {-2, -8}",
        "y = Conv (x, w, c)",
        opset=opset,
        sizes=[{"N": 2}, {"N": 0}],
    )


def test_into_conv_with_bias_and_attributes():
    first = "1,2,3,4,5,6,7,8,9"
    folds(
        "(float[1,2,5,5] x) => (float[1,2,5,5] y)",
        (
            f"float[2,1,3,3] w = {{{first},{first}}}, float[2] c = {{1, -1}}",
            f"a = Conv <group = 2, pads = [1,1,1,1]> (x, w, c)  y = {bn('a')}",
        ),
        f"float[2,1,3,3] w = {{{first},2,4,6,8,10,12,14,16,18}}, float[2] c = {{-1, -10}}",
        "y = Conv <group = 2, pads = [1,1,1,1]> (x, w, c)",
    )


def test_into_grouped_transposed_conv():
    folds(
        "(float[1,4,2,2] x) => (float[1,2,2,2] y)",
        ("float[4,1,1,1] w = {1, 2, 3, 4}", f"a = ConvTranspose <group = 2> (x, w)  y = {bn('a')}"),
        "float[4,1,1,1] w = {1, 2, 6, 8}, float[2] c = {-2, -8}",
        "y = ConvTranspose <group = 2> (x, w, c)",
    )


@pytest.mark.parametrize(("transposed", "shape"), [(0, "1,2"), (1, "2,1")])
def test_into_gemm(transposed, shape):
    gemm = f"transB = {transposed}> (x, w, c)"
    folds(
        "(float[N,1] x) => (float[N,2] y)",
        (
            f"float[{shape}] w = {{1, 2}}, float[1,2] c = {{1, -1}}",
            f"a = Gemm <beta = 2.0, {gemm}  y = {bn('a')}",
        ),
        f"float[{shape}] w = {{1, 4}}, float[1,2] c = {{0, -12}}",
        f"y = Gemm <beta = 1.0, {gemm}",
    )


def test_into_matmul_leaves_its_shift():
    folds(
        "(float[N,1] x) => (float[N,2] y)",
        ("float[1,2] w = {1, 2}", f"a = MatMul (x, w)  y = {bn('a')}"),
        "float[1,2] w = {1, 4}, float[2] c = {-2, -8}",
        "a = MatMul (x, w)  y = Add (a, c)",
    )


def test_into_matmul_with_bias_behind_a_transpose():
    transpose = "Transpose <perm = [0,2,1]> (d)"
    folds(
        "(float[N,L,1] x) => (float[N,2,L] y)",
        (
            "float[1,2] w = {1, 2}, float[2] c = {3, 1}",
            f"a = MatMul (x, w)  d = Add (a, c)  t = {transpose}  y = {bn('t')}",
        ),
        "float[1,2] w = {1, 4}, float[2] c = {1, -6}",
        f"a = MatMul (x, w)  d = Add (a, c)  y = {transpose}",
    )


def test_into_another_one():
    folds(
        "(float[N,2,L] x) => (float[N,2,L] y)",
        ("float[1] unused = {0}", f"a = {bn('x')}  y = {bn('a')}"),
        "float[2] s = {2, 8}, float[2] b = {-1, -4}, float[2] m = {3, 5}, float[2] v = {3, 3}",
        f"y = {bn('x')}",
    )


def test_in_a_body_with_a_small_weight_that_another_one_uses():
    other = "else_branch = e () => (float[N,2,H] q) { q = Conv (x, w) }>"
    folds(
        "(bool k, float[N,1,H] x) => (float[N,2,H] y)",
        (
            W,
            "y = If (k) <then_branch = t () => (float[N,2,H] p) "
            f"{{ a = Conv (x, w)  p = {bn('a')} }}, {other}",
        ),
        f"{W}, float[2,1,1] w2 = {{1, 4}}, float[2] c = {{-2, -8}}",
        f"y = If (k) <then_branch = t () => (float[N,2,H] p) {{ p = Conv (x, w2, c) }}, {other}",
    )


@pytest.mark.parametrize(
    ("head", "nodes", "reason"),
    [
        (
            "(float[N,1,H] x, float[2,1,1] w) => (float[N,2,H] y) <",
            f"a = Conv (x, w)  y = {bn('a')}",
            NOT_TAKEN,
        ),
        (
            f"(float[N,1,H] x) => (float[N,2,H] y, float[N,2,H] a) <{W},",
            f"a = Conv (x, w)  y = {bn('a')}",
            NOT_TAKEN,
        ),
        (
            f"(float[N,1,H] x) => (float[N,2,H] y, float[N,2,H] z) <{W},",
            f"a = Conv (x, w)  y = {bn('a')}  z = Relu (a)",
            NOT_TAKEN,
        ),
        (
            f"(float[N,1,H] x, float[2] u) => (float[N,2,H] y) <{W},",
            f"a = Conv (x, w)  y = {bn('a', 'u')}",
            NOT_CONSTANT,
        ),
        (
            f"(float[N,1,H] x) => (float[N,2,H] y, float[2] p, float[2] q) <{W},",
            "a = Conv (x, w)  y, p, q = BatchNormalization <training_mode = 1> (a, s, b, m, v)",
            NOT_CONSTANT,
        ),
        ("(float[N,2,H] x) => (float[N,2,H] y) <", f"a = Sigmoid (x)  y = {bn('a')}", NOT_TAKEN),
        (
            f"(float[N,1,H] x) => (float[N,2,H] y) <float[2] huge = {{1e38, 1e38}}, {W},",
            f"a = Conv (x, w)  y = {bn('a', 'huge')}",
            NOT_TAKEN,
        ),
    ],
)
def test_leaves_alone(head, nodes, reason):
    assert_rejects(PASS, f"g {head}{PARAMETERS}> {{ {nodes} }}", reason)


def test_large_weight_of_two_is_not_written_twice():
    big = "float[64,32,1] w"
    values = ",".join(["1"] * 2048)
    parameters = ", ".join(f"float[64] {n} = {{{','.join(['2'] * 64)}}}" for n in "sbmv")
    assert_rejects(
        PASS,
        f"g (float[N,32,H] x) => (float[N,64,H] y, float[N,64,H] z) <{big} = {{{values}}}, {parameters}> "
        f"{{ a = Conv (x, w)  y = {bn('a')}  z = Conv (x, w) }}",
        NOT_TAKEN,
    )
