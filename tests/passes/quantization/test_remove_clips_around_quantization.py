from __future__ import annotations

import pytest

from graphopt.passes.quantization.remove_clips_around_quantization import NOT_KNOWN, WITHIN
from graphopt.rewriting import HAS_OTHER_CONSUMERS
from graphopt.testing import assert_rejects, assert_rewrites

PASS = "remove-clips-around-quantization"
BOUNDS = "lo = Constant <value = float {0.0}> ()  hi = Constant <value = float {6.0}> ()  "


def parameters(dtype, scale, zero):
    return f"s = Constant <value = float {{{scale}}}> ()  z = Constant <value = {dtype} {{{zero}}}> ()  "


def before_quantization(clip, dtype="uint8", scale="0.02", zero=0):
    """x, clipped to c, quantized."""
    given = BOUNDS + parameters(dtype, scale, zero)
    return f"g (float[N] x) => ({dtype}[N] y) {{ {given} {clip}  y = QuantizeLinear (c, s, z) }}"


def after_dequantization(clip, dtype="uint8", scale="0.02", zero=0):
    """q, dequantized to x, clipped to c."""
    given = BOUNDS + parameters(dtype, scale, zero)
    return (
        f"g ({dtype}[N] q) => (float[N] y) {{ {given} x = DequantizeLinear (q, s, z)  {clip}  y = Neg (c) }}"
    )


CASES = [
    ("c = Relu (x)", "uint8", "0.02", 0),
    ("c = Relu (x)", "int8", "0.02", -128),
    ("c = Clip (x, lo, hi)", "uint8", "0.02", 0),
    ("c = Clip (x, lo)", "uint8", "0.5", 0),
    ("c = Clip (x, , hi)", "int8", "0.04", 3),
]


@pytest.mark.parametrize(("clip", "dtype", "scale", "zero"), CASES)
def test_the_range_of_the_integers_clips_by_itself(clip, dtype, scale, zero):
    text = before_quantization(clip, dtype, scale, zero)
    plain = text.replace(clip, "").replace("(c, s, z)", "(x, s, z)")
    assert_rewrites(PASS, before=text, after=plain, sizes=[{"N": 50}, {"N": 0}])


@pytest.mark.parametrize(("clip", "dtype", "scale", "zero"), CASES)
def test_no_number_beyond_the_range_comes_out(clip, dtype, scale, zero):
    text = after_dequantization(clip, dtype, scale, zero)
    plain = text.replace(clip, "").replace("Neg (c)", "Neg (x)")
    assert_rewrites(PASS, before=text, after=plain, sizes=[{"N": 50}, {"N": 0}])


@pytest.mark.parametrize(
    ("clip", "dtype", "scale", "zero", "reason"),
    [
        ("c = Relu (x)", "uint8", "0.02", 1, WITHIN),
        ("c = Relu (x)", "int8", "0.02", 0, WITHIN),
        ("c = Clip (x, lo, hi)", "uint8", "0.04", 0, WITHIN),
        ("c = Clip (x, lo, y0)", "uint8", "0.02", 0, NOT_KNOWN),
        ("c = Relu (x)", "uint8", "-0.02", 0, NOT_KNOWN),
    ],
)
@pytest.mark.parametrize("place", [before_quantization, after_dequantization])
def test_bounds_within_the_range_stay(clip, dtype, scale, zero, reason, place):
    text = place(clip, dtype, scale, zero).replace("(float[N] x)", "(float[N] x, float y0)")
    assert_rejects(PASS, text.replace("[N] q)", "[N] q, float y0)"), reason)


def test_a_clipped_value_that_someone_else_sees():
    text = before_quantization("c = Relu (x)").replace("(uint8[N] y)", "(uint8[N] y, float[N] w)")
    assert_rejects(PASS, text.replace("y = Q", "w = Neg (c)  y = Q"), HAS_OTHER_CONSUMERS)


def test_a_scale_for_each_channel_is_left_alone():
    text = (
        "g (float[N,2] x) => (uint8[N,2] y) { s = Constant <value = float[2] {0.1, 0.2}> ()  "
        "z = Constant <value = uint8[2] {0, 0}> ()  c = Relu (x)  y = QuantizeLinear <axis = 1> (c, s, z) }"
    )
    assert_rejects(PASS, text, NOT_KNOWN)
