from __future__ import annotations

import pytest

from graphopt.passes.quantization.convert_signed_activations import HAS_OTHER_USES
from graphopt.testing import assert_rejects, assert_rewrites

PASS = "convert-signed-activations"


def parameters(dtype, zero, scale=0.02, suffix=""):
    return (
        f"s{suffix} = Constant <value = float {{{scale}}}> ()  "
        f"z{suffix} = Constant <value = {dtype} {{{zero}}}> ()  "
    )


def graph(body, inputs="float[N,4] x", outputs="float[N,4] y"):
    return f"g ({inputs}) => ({outputs}) {{ {body} }}"


@pytest.mark.parametrize("zero", [-128, -3, 0, 127])
def test_integers_and_zero_point_are_128_higher(zero):
    pair = "q = QuantizeLinear (x, s, z)  d = DequantizeLinear (q, s, z)  y = Neg (d)"
    assert_rewrites(
        PASS,
        before=graph(parameters("int8", zero) + pair),
        after=graph(parameters("uint8", zero + 128) + pair),
        sizes=[{"N": 3}, {"N": 0}],
        target="onnxruntime",
    )


def test_every_user_of_the_integers_changes():
    pair = (
        "q = QuantizeLinear (x, s, z)  a = DequantizeLinear (q, s, z)  b = DequantizeLinear (q, s, z)  "
        "n = Neg (a)  y = Mul (n, b)"
    )
    assert_rewrites(
        PASS,
        before=graph(parameters("int8", 5) + pair),
        after=graph(parameters("uint8", 133) + pair),
        sizes=[{"N": 3}],
        target="onnxruntime",
    )


def test_constant_that_is_added():
    rest = "d = DequantizeLinear (w, s, z)  y = Add (x, d)"
    assert_rewrites(
        PASS,
        before=graph("w = Constant <value = int8[4] {-128, 127, 0, -1}> ()  " + parameters("int8", 5) + rest),
        after=graph(
            "w = Constant <value = uint8[4] {0, 255, 128, 127}> ()  " + parameters("uint8", 133) + rest
        ),
        sizes=[{"N": 3}],
        target="onnxruntime",
    )


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (
            graph(
                parameters("int8", 5) + "q = QuantizeLinear (x, s, z)  y = DequantizeLinear (q, s, z)",
                outputs="float[N,4] y, int8[N,4] q",
            ),
            HAS_OTHER_USES,
        ),
        (
            graph(
                parameters("int8", 5)
                + parameters("int8", 5, 0.03, "b")
                + "q = QuantizeLinear (x, s, z)  y = DequantizeLinear (q, sb, zb)"
            ),
            HAS_OTHER_USES,
        ),
        (
            graph(
                parameters("int8", 5)
                + "q = QuantizeLinear (x, s, z)  r = Reshape (q, [-1])  y = DequantizeLinear (r, s, z)",
                outputs="float[M] y",
            ),
            HAS_OTHER_USES,
        ),
        (
            graph(parameters("uint8", 5) + "q = QuantizeLinear (x, s, z)  y = DequantizeLinear (q, s, z)"),
            None,
        ),
        # A weight: products take it signed.
        (
            graph(
                "w = Constant <value = int8[4,1] {1, 2, 3, 4}> ()  "
                + parameters("int8", 5)
                + "d = DequantizeLinear (w, s, z)  y = MatMul (x, d)",
                outputs="float[N,1] y",
            ),
            None,
        ),
        # A scale for each column.
        (
            graph(
                "s = Constant <value = float[4] {0.1, 0.2, 0.3, 0.4}> ()  "
                "z = Constant <value = int8[4] {0, 0, 0, 0}> ()  "
                "q = QuantizeLinear <axis = 1> (x, s, z)  y = DequantizeLinear <axis = 1> (q, s, z)"
            ),
            None,
        ),
    ],
)
def test_leaves_alone(text, reason):
    assert_rejects(PASS, text, reason, target="onnxruntime")
