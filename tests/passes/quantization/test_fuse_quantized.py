from __future__ import annotations

import numpy as np
import pytest

from graphopt.passes.quantization.fuse_quantized import (
    BIAS_SCALE,
    HAS_PARAMETERS,
    NOT_CONSTANT,
    NOT_QUANTIZED,
    TYPES_DIFFER,
)
from graphopt.rewriting import HAS_OTHER_CONSUMERS
from graphopt.testing import (
    assert_rejects,
    canonical,
    model_from_text,
    random_feeds,
    run,
    run_pass,
)

PASS = "fuse-quantized"
DOMAINS = {"com.microsoft": 1}


def parameters(suffix, scale, zero, dtype="uint8"):
    return (
        f"s{suffix} = Constant <value = float {{{scale}}}> ()  "
        f"z{suffix} = Constant <value = {dtype} {{{zero}}}> ()  "
    )


def pair(middle, given="", dtype="uint8", inputs="", dims="[2,2,3,3]", out="[2,2,3,3]"):
    """Dequantized a (and what `middle` makes of it, e) quantized as y."""
    return (
        f"g ({dtype}{dims} q{inputs}) => ({dtype}{out} y) {{ "
        + parameters("a", 0.05, 7, dtype)
        + parameters("y", 0.25, 100 if dtype == "uint8" else 3, dtype)
        + given
        + f"a = DequantizeLinear (q, sa, za)  {middle}  y = QuantizeLinear (e, sy, zy) }}"
    )


def fused(body, given="", dtype="uint8", inputs="", dims="[2,2,3,3]", out="[2,2,3,3]"):
    return (
        f"g ({dtype}{dims} q{inputs}) => ({dtype}{out} y) {{ "
        + parameters("a", 0.05, 7, dtype)
        + parameters("y", 0.25, 100 if dtype == "uint8" else 3, dtype)
        + given
        + body
        + " }"
    )


def assert_fuses(before, after, opset=13, target="onnxruntime"):
    """The pass makes `after`; no integer is off by more than one."""
    model = model_from_text(before, opset=opset, domains=DOMAINS)
    original = model.clone()
    run_pass(PASS, model, target=target)
    assert canonical(model) == canonical(model_from_text(after, opset=opset, domains=DOMAINS))
    rng = np.random.default_rng(0)
    feeds = {
        name: rng.integers(np.iinfo(x.dtype).min, np.iinfo(x.dtype).max + 1, x.shape).astype(x.dtype)
        for name, x in random_feeds(original).items()
    }
    for x, y in zip(run(original, feeds), run(model, feeds), strict=True):
        apart = np.abs(x.astype(np.int64) - y.astype(np.int64))
        assert apart.max(initial=0) <= 1 and (apart == 0).mean() > 0.9


WEIGHT = (
    "w = Constant <value = int8[2,2,1,1] {-100, 50, 3, 127}> ()  "
    "sw = Constant <value = float[2] {0.5, 0.25}> ()  zw = Constant <value = int8[2] {0, 0}> ()  "
)
BIAS = (
    "b = Constant <value = int32[2] {400, -300}> ()  "
    "sb = Constant <value = float[2] {0.025, 0.0125}> ()  zb = Constant <value = int32[2] {0, 0}> ()  "
)
DEQUANTIZED = "d = DequantizeLinear <axis = 0> (w, sw, zw)  "


def test_convolution_with_a_scale_for_each_channel():
    assert_fuses(
        pair(DEQUANTIZED + "e = Conv <strides = [1,1]> (a, d)", WEIGHT),
        fused("y = QLinearConv <strides = [1,1]> (q, sa, za, w, sw, zw, sy, zy)", WEIGHT),
    )


def test_bias_of_a_convolution():
    assert_fuses(
        pair(DEQUANTIZED + "c = DequantizeLinear <axis = 0> (b, sb, zb)  e = Conv (a, d, c)", WEIGHT + BIAS),
        fused("y = QLinearConv (q, sa, za, w, sw, zw, sy, zy, b)", WEIGHT + BIAS),
    )


def test_bias_with_another_scale_is_rounded_to_the_steps_of_the_products():
    other = BIAS.replace("{0.025, 0.0125}", "{0.05, 0.005}")
    rounded = BIAS.replace("{400, -300}", "{800, -120}")
    assert_fuses(
        pair(DEQUANTIZED + "c = DequantizeLinear <axis = 0> (b, sb, zb)  e = Conv (a, d, c)", WEIGHT + other),
        fused("y = QLinearConv (q, sa, za, w, sw, zw, sy, zy, b)", WEIGHT + rounded),
    )


def test_matrix_product():
    given = "w = Constant <value = int8[3,2] {-100, 50, 3, 127, 5, 6}> ()  " + parameters("w", 0.5, 0, "int8")
    sizes = {"dims": "[4,3]", "out": "[4,2]"}
    assert_fuses(
        pair("d = DequantizeLinear (w, sw, zw)  e = MatMul (a, d)", given, **sizes),
        fused("y = QLinearMatMul (q, sa, za, w, sw, zw, sy, zy)", given, **sizes),
    )


def test_product_of_two_activations():
    more = {
        "dims": "[2,4,3]",
        "out": "[2,4,4]",
        "inputs": ", uint8[2,3,4] r",
        "given": parameters("b", 0.1, 9),
    }
    assert_fuses(
        pair("b = DequantizeLinear (r, sb, zb)  e = MatMul (a, b)", **more),
        fused("y = QLinearMatMul (q, sa, za, r, sb, zb, sy, zy)", **more),
    )


def test_gemm():
    given = WEIGHT.replace("[2,2,1,1]", "[2,2]") + BIAS
    sizes = {"dims": "[4,2]", "out": "[4,2]"}
    assert_fuses(
        pair(
            DEQUANTIZED + "c = DequantizeLinear <axis = 0> (b, sb, zb)  e = Gemm <transB = 1> (a, d, c)",
            given,
            **sizes,
        ),
        fused("y = com.microsoft.QGemm <transB = 1> (q, sa, za, w, sw, zw, b, sy, zy)", given, **sizes),
    )


@pytest.mark.parametrize("dtype", ["uint8", "int8"])
@pytest.mark.parametrize("op_type", ["Add", "Mul"])
def test_two_operands(op_type, dtype):
    more = {"inputs": f", {dtype}[3,1] r", "given": parameters("b", 0.1, 9, dtype), "dtype": dtype}
    assert_fuses(
        pair(f"b = DequantizeLinear (r, sb, zb)  e = {op_type} (a, b)", **more),
        fused(f"y = com.microsoft.QLinear{op_type} (q, sa, za, r, sb, zb, sy, zy)", **more),
    )


def test_one_operand():
    assert_fuses(
        pair("e = GlobalAveragePool (a)", out="[2,2,1,1]"),
        fused(
            "y = com.microsoft.QLinearGlobalAveragePool <channels_last = 0> (q, sa, za, sy, zy)",
            out="[2,2,1,1]",
        ),
    )
    assert_fuses(pair("e = Sigmoid (a)"), fused("y = com.microsoft.QLinearSigmoid (q, sa, za, sy, zy)"))
    assert_fuses(
        pair("e = LeakyRelu <alpha = 0.5> (a)"),
        fused("y = com.microsoft.QLinearLeakyRelu <alpha = 0.5> (q, sa, za, sy, zy)"),
    )


def test_values_that_are_joined():
    other = "c = DequantizeLinear (p, sa, za)  "
    assert_fuses(
        pair(other + "e = Concat <axis = 1> (a, c, a)", inputs=", uint8[2,2,3,3] p", out="[2,6,3,3]"),
        fused(
            "y = com.microsoft.QLinearConcat <axis = 1> (sy, zy, q, sa, za, p, sa, za, q, sa, za)",
            inputs=", uint8[2,2,3,3] p",
            out="[2,6,3,3]",
        ),
    )


def test_a_choice_between_two():
    other = "c = DequantizeLinear (p, sa, za)  k = Constant <value = bool[3] {1, 0, 1}> ()  "
    assert_fuses(
        pair(other + "e = Where (k, a, c)", inputs=", uint8[2,2,3,3] p"),
        fused(
            "k = Constant <value = bool[3] {1, 0, 1}> ()  "
            "y = com.microsoft.QLinearWhere (k, q, sa, za, p, sa, za, sy, zy)",
            inputs=", uint8[2,2,3,3] p",
        ),
    )


def test_average_pool():
    attributes = "<kernel_shape = [2,2], pads = [0,0,1,1], count_include_pad = 1>"
    assert_fuses(
        pair(f"e = AveragePool {attributes} (a)"),
        fused(f"y = com.microsoft.QLinearAveragePool {attributes} (q, sa, za, sy, zy)"),
    )


def test_a_dilated_pool_stays():
    text = pair("e = AveragePool <kernel_shape = [2,2], dilations = [2,2]> (a)", out="[2,2,1,1]")
    assert_rejects(PASS, text, HAS_PARAMETERS, opset=19, target="onnxruntime", domains=DOMAINS)


def test_softmax_says_which_opset_it_is_of():
    assert_fuses(
        pair("e = Softmax <axis = 3> (a)").replace("float {0.25}", "float {0.00390625}"),
        fused("y = com.microsoft.QLinearSoftmax <axis = 3, opset = 13> (q, sa, za, sy, zy)").replace(
            "float {0.25}", "float {0.00390625}"
        ),
    )


def test_dequantized_values_that_others_use_stay():
    text = (
        "g (uint8[2,3] q) => (uint8[2,3] y, float[2,3] n) { "
        + parameters("a", 0.05, 7)
        + "a = DequantizeLinear (q, sa, za)  n = Neg (a)  e = Add (a, a)  y = QuantizeLinear (e, sa, za) }"
    )
    model = model_from_text(text, opset=13, domains=DOMAINS)
    run_pass(PASS, model, target="onnxruntime")
    assert [n.op_type for n in model.graph if n.op_type != "Constant"] == [
        "DequantizeLinear",
        "Neg",
        "QLinearAdd",
    ]


MATRIX = "w = Constant <value = int8[3,2] {-100, 50, 3, 127, 5, 6}> ()  " + parameters("w", 0.5, 0, "int8")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        # The float result is needed too.
        (
            pair("e = Sigmoid (a)  n = Neg (e)").replace(
                "uint8[2,2,3,3] y)", "uint8[2,2,3,3] y, float[2,2,3,3] n)"
            ),
            HAS_OTHER_CONSUMERS,
        ),
        (pair("e = Add (a, f)", inputs=", float[3] f"), NOT_QUANTIZED),
        (
            pair(
                "b = DequantizeLinear (r, sb, zb)  e = Add (a, b)",
                parameters("b", 0.1, 9, "int8"),
                inputs=", int8[3] r",
            ),
            TYPES_DIFFER,
        ),
        # Signed activations are multiplied faster in float.
        (
            pair(
                "d = DequantizeLinear (w, sw, zw)  e = MatMul (a, d)",
                MATRIX,
                "int8",
                dims="[4,3]",
                out="[4,2]",
            ),
            TYPES_DIFFER,
        ),
        (
            pair(
                DEQUANTIZED + "c = DequantizeLinear <axis = 0> (b, sb, zb)  e = Conv (a, d, c)",
                WEIGHT + BIAS.replace("{0.025, 0.0125}", "{25000000.0, 1250000.0}"),
            ),
            BIAS_SCALE,
        ),
        (pair(DEQUANTIZED + "e = Conv (a, d, f)", WEIGHT, inputs=", float[2] f"), NOT_QUANTIZED),
        (
            pair(DEQUANTIZED + "e = Conv (a, d)", WEIGHT.replace("int8[2] {0, 0}", "int8[2] {0, 1}")),
            NOT_QUANTIZED,
        ),
        (
            pair(
                "d = DequantizeLinear (w, sw, zw)  e = Gemm <alpha = 0.5> (a, d)",
                MATRIX,
                dims="[4,3]",
                out="[4,2]",
            ),
            HAS_PARAMETERS,
        ),
        # A scale that is an input is not known.
        (
            "g (uint8[2,3] q, float s, uint8 z) => (uint8[2,3] y) "
            "{ a = DequantizeLinear (q, s, z)  e = Sigmoid (a)  y = QuantizeLinear (e, s, z) }",
            NOT_QUANTIZED,
        ),
    ],
)
def test_leaves_alone(text, reason):
    assert_rejects(PASS, text, reason, opset=13, target="onnxruntime")


def test_our_engine_takes_the_standard_operators():
    assert_fuses(
        pair("e = Conv (a, d)", WEIGHT + DEQUANTIZED),
        fused("y = QLinearConv (q, sa, za, w, sw, zw, sy, zy)", WEIGHT),
        target="graphopt",
    )


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        # No kernel for two run-time operands is as fast as that for floats.
        (
            pair(
                "d = DequantizeLinear (w, sa, za)  e = MatMul (a, d)",
                inputs=", uint8[2,2,3,3] w",
            ),
            NOT_CONSTANT,
        ),
        (pair("e = Sigmoid (a)"), None),
    ],
)
def test_our_engine_leaves_alone(text, reason):
    model = model_from_text(text, opset=13)
    before = canonical(model)
    run_pass(PASS, model, target="graphopt")
    assert canonical(model) == before
    if reason is not None:
        assert_rejects(PASS, text, reason, opset=13, target="graphopt")
