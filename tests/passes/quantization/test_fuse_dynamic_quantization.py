from __future__ import annotations

import pytest

from graphopt.passes.quantization.fuse_dynamic_quantization import NO_BIAS, NO_WEIGHT, NOT_DYNAMIC
from graphopt.rewriting import HAS_OTHER_CONSUMERS
from graphopt.testing import assert_rejects, assert_rewrites

PASS = "fuse-dynamic-quantization"
TARGET = {"target": "onnxruntime", "domains": {"com.microsoft": 1}, "exact": False}

GIVEN = (
    "w = Constant <value = int8[3,2] {-100, 50, 3, 127, 5, 6}> ()  ws = Constant <value = float {0.5}> ()  "
    "wz = Constant <value = int8 {0}> ()  "
)
QUANTIZED = "q, s, z = DynamicQuantizeLinear (x)  "
PRODUCT = "i = MatMulInteger (q, w, z, wz)  f = Cast <to = 1> (i)  "


def graph(body, given=GIVEN, inputs="float[N,L,3] x", outputs="float[N,L,2] y"):
    return f"g ({inputs}) => ({outputs}) {{ {given}{body} }}"


@pytest.mark.parametrize("scales", ["Mul (s, ws)", "Mul (ws, s)"])
def test_one_product_quantizes_by_itself(scales):
    assert_rewrites(
        PASS,
        before=graph(QUANTIZED + PRODUCT + f"m = {scales}  y = Mul (f, m)"),
        after=graph("y = com.microsoft.DynamicQuantizeMatMul (x, w, ws, wz)"),
        sizes=[{"N": 2, "L": 3}],
        **TARGET,
    )


def test_bias_is_added():
    assert_rewrites(
        PASS,
        before=graph(QUANTIZED + PRODUCT + "m = Mul (s, ws)  p = Mul (f, m)  y = Add (p, [0.5,-1.0])"),
        after=graph("y = com.microsoft.DynamicQuantizeMatMul (x, w, ws, wz, [0.5,-1.0])"),
        sizes=[{"N": 2, "L": 3}],
        **TARGET,
    )


def test_products_that_share_the_integers():
    second = "j = MatMulInteger (q, w, z, wz)  h = Cast <to = 1> (j)  n = Mul (s, ws)  r = Mul (h, n)  "
    fused = "com.microsoft.MatMulIntegerToFloat (q, w, s, ws, z, wz"
    assert_rewrites(
        PASS,
        before=graph(
            QUANTIZED
            + PRODUCT
            + second
            + "m = Mul (s, ws)  p = Mul (f, m)  t = Add (p, [0.5,-1.0])  y = Mul (r, t)"
        ),
        after=graph(QUANTIZED + f"p = {fused}, [0.5,-1.0])  r = {fused})  y = Mul (r, p)"),
        sizes=[{"N": 2, "L": 3}],
        **TARGET,
    )


def test_a_scale_for_each_column():
    given = GIVEN.replace("float {0.5}", "float[2] {0.5, 0.25}").replace("int8 {0}", "int8[2] {0, 0}")
    assert_rewrites(
        PASS,
        before=graph(QUANTIZED + PRODUCT + "m = Mul (s, ws)  y = Mul (f, m)", given),
        after=graph("y = com.microsoft.DynamicQuantizeMatMul (x, w, ws, wz)", given),
        sizes=[{"N": 2, "L": 3}],
        **TARGET,
    )


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (
            graph(
                "i = MatMulInteger (x, w, z, wz)  f = Cast <to = 1> (i)  m = Mul (s, ws)  y = Mul (f, m)",
                inputs="uint8[N,L,3] x, float s, uint8 z",
            ),
            NOT_DYNAMIC,
        ),
        (
            graph(QUANTIZED + PRODUCT + "m = Mul (t, ws)  y = Mul (f, m)", inputs="float[N,L,3] x, float t"),
            NOT_DYNAMIC,
        ),
        (
            graph(
                QUANTIZED + PRODUCT + "m = Mul (s, ws)  y = Mul (f, m)",
                GIVEN.replace("ws = Constant <value = float {0.5}> ()", "ws = Identity (k)"),
                inputs="float[N,L,3] x, float k",
            ),
            NO_WEIGHT,
        ),
        (
            graph(QUANTIZED + PRODUCT + "m = Mul (s, ws)  p = Mul (f, m)  y = Add (p, f)"),
            HAS_OTHER_CONSUMERS,
        ),
        (
            graph(
                QUANTIZED + "p = com.microsoft.MatMulIntegerToFloat (q, w, s, ws, z, wz)  n = Neg (s)  "
                "t = Add (p, n)  y = Add (t, 0.5)"
            ),
            NO_BIAS,
        ),
    ],
)
def test_leaves_alone(text, reason):
    assert_rejects(PASS, text, reason, target="onnxruntime", domains={"com.microsoft": 1})
