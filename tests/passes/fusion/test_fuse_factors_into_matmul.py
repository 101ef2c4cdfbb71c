from __future__ import annotations

import pytest

from graphopt.passes.fusion.fuse_factors_into_matmul import NO_KERNEL, OTHER_AXES, WIDENS
from graphopt.rewriting import HAS_OTHER_CONSUMERS
from graphopt.testing import assert_rejects, assert_rewrites

PASS = "fuse-factors-into-matmul"
TARGET = {"target": "onnxruntime", "domains": {"com.microsoft": 1}, "exact": False}


def graph(body, inputs="float[N,2,3] x, float[N,4,3] z", outputs="float[N,2,4] y"):
    return f"g ({inputs}) => ({outputs}) {{ {body} }}"


def test_transposed_second_factor():
    assert_rewrites(
        PASS,
        before=graph("t = Transpose <perm = [0,2,1]> (z)  y = MatMul (x, t)"),
        after=graph("y = com.microsoft.FusedMatMul <transB = 1> (x, z)"),
        sizes=[{"N": 2}, {"N": 0}],
        **TARGET,
    )


def test_both_transposed_and_scaled():
    inputs = "float[N,3,2] x, float[N,4,3] z"
    assert_rewrites(
        PASS,
        before=graph(
            "s = Transpose <perm = [0,2,1]> (x)  t = Transpose <perm = [0,2,1]> (z)  "
            "p = MatMul (s, t)  y = Mul (p, 0.25)",
            inputs,
        ),
        after=graph("y = com.microsoft.FusedMatMul <transA = 1, transB = 1, alpha = 0.25> (x, z)", inputs),
        sizes=[{"N": 2}],
        **TARGET,
    )


def test_transposed_images_times_a_matrix():
    inputs, outputs = "float[N,3,L] x, float[3,4] w", "float[N,L,4] y"
    assert_rewrites(
        PASS,
        before=graph("t = Transpose <perm = [0,2,1]> (x)  y = MatMul (t, w)", inputs, outputs),
        after=graph("y = com.microsoft.FusedMatMul <transA = 1> (x, w)", inputs, outputs),
        sizes=[{"N": 2, "L": 5}, {"N": 1, "L": 0}],
        **TARGET,
    )


@pytest.mark.parametrize(
    ("scaled", "alpha"),
    [("Mul (p, 0.5)", 0.5), ("Mul (0.5, p)", 0.5), ("Div (p, 4.0)", 0.25), ("Mul (p, [0.5])", 0.5)],
)
def test_scale_after_the_product(scaled, alpha):
    inputs = "float[N,2,3] x, float[N,3,4] z"
    assert_rewrites(
        PASS,
        before=graph(f"p = MatMul (x, z)  y = {scaled}", inputs),
        after=graph(f"y = com.microsoft.FusedMatMul <alpha = {alpha}> (x, z)", inputs),
        sizes=[{"N": 2}],
        **TARGET,
    )


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (
            graph("t = Transpose <perm = [0,2,1]> (z)  p = MatMul (x, t)  q = MatMul (t, p)  y = Mul (p, q)"),
            None,
        ),
        (
            graph("t = Transpose <perm = [1,0,2]> (z)  y = MatMul (x, t)", "float[N,2,3] x, float[3,N,4] z"),
            OTHER_AXES,
        ),
        (
            graph(
                "t = Transpose <perm = [0,2,1]> (z)  y = MatMul (x, t)",
                "float16[N,2,3] x, float16[N,4,3] z",
                "float16[N,2,4] y",
            ),
            NO_KERNEL,
        ),
        (
            graph("p = MatMul (x, z)  q = Mul (p, 0.5)  y = Add (p, q)", "float[N,2,3] x, float[N,3,4] z"),
            HAS_OTHER_CONSUMERS,
        ),
        (graph("p = MatMul (x, z)  y = Div (p, 0.0)", "float[N,2,3] x, float[N,3,4] z"), WIDENS),
        (
            "g (float[2,3] x, float[3,4] z) => (float[1,2,4] y) "
            "{ k = Constant <value = float[1,1,1] {0.5}> ()  p = MatMul (x, z)  y = Mul (p, k) }",
            WIDENS,
        ),
        # A quotient by the product is no scale.
        (graph("p = MatMul (x, z)  y = Div (2.0, p)", "float[N,2,3] x, float[N,3,4] z"), None),
    ],
)
def test_leaves_alone(text, reason):
    assert_rejects(PASS, text, reason, target="onnxruntime")
