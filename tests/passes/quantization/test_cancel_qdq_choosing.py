"""What chooses among numbers, or bounds them, between DequantizeLinear and QuantizeLinear of one map."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graphopt.passes.quantization.cancel_qdq import NOT_REVERSIBLE, OTHER_PARAMETERS
from graphopt.rewriting import HAS_OTHER_CONSUMERS
from graphopt.testing import assert_rejects, assert_rewrites, model_from_text, operators_of, run, run_pass

PASS = "cancel-qdq"
PARAMETERS = "s = Constant <value = float {0.02}> ()  z = Constant <value = uint8 {3}> ()  "
OTHERS = "s2 = Constant <value = float {0.03}> ()  z2 = Constant <value = uint8 {3}> ()  "
DEQUANTIZED = "d = DequantizeLinear (q, s, z)  "
QUANTIZED = "r = QuantizeLinear (e, s, z)  y = Transpose (r)"


def graph(middle, inputs="", dims="[2,3]", out="[P,Q]"):
    return (
        f"g (uint8{dims} q{inputs}) => (uint8{out} y) {{ {PARAMETERS} {DEQUANTIZED} {middle}  {QUANTIZED} }}"
    )


def on_integers(middle, inputs="", dims="[2,3]", out="[P,Q]"):
    return f"g (uint8{dims} q{inputs}) => (uint8{out} y) {{ {middle}  y = Transpose (e) }}"


@pytest.mark.parametrize(
    ("middle", "after"),
    [
        ("e = Relu (d)", "m = Constant <value = uint8 {3}> ()  e = Clip (q, m)"),
        (
            "e = Clip (d, 0.5, 2.0)",
            "m = Constant <value = uint8 {28}> ()  n = Constant <value = uint8 {103}> ()  e = Clip (q, m, n)",
        ),
        ("e = Clip (d, , 2.0)", "n = Constant <value = uint8 {103}> ()  e = Clip (q, , n)"),
        ("e = Max (d, 1.0)", "n = Constant <value = uint8 {53}> ()  e = Max (q, n)"),
        ("e = Min (d, d)", "e = Min (q, q)"),
        (
            "k = Constant <value = int64[1,3] {1, 0, 0}> ()  e = GatherElements <axis = 0> (d, k)",
            "k = Constant <value = int64[1,3] {1, 0, 0}> ()  e = GatherElements <axis = 0> (q, k)",
        ),
        (
            "k = Constant <value = int64[1,1] {1}> ()  e = GatherND (d, k)",
            "k = Constant <value = int64[1,1] {1}> ()  e = GatherND (q, k)",
        ),
        (
            "k = Constant <value = int64[3] {1, 2, 1}> ()  e = ReverseSequence (d, k)",
            "k = Constant <value = int64[3] {1, 2, 1}> ()  e = ReverseSequence (q, k)",
        ),
        (
            "k = Constant <value = bool[3] {1, 0, 1}> ()  e = Where (k, d, 1.0)",
            "k = Constant <value = bool[3] {1, 0, 1}> ()  n = Constant <value = uint8 {53}> ()  e = Where (k, q, n)",
        ),
        (
            "k = Constant <value = int64[1,3] {1, 0, 0}> ()  u = Constant <value = float[1,3] {0.0, 1.0, 2.0}> ()  "
            "e = ScatterElements (d, k, u)",
            "k = Constant <value = int64[1,3] {1, 0, 0}> ()  u = Constant <value = uint8[1,3] {3, 53, 103}> ()  "
            "e = ScatterElements (q, k, u)",
        ),
        (
            "u = Constant <value = float[1,3] {0.0, 1.0, 2.0}> ()  e = Concat <axis = 0> (d, u)",
            "u = Constant <value = uint8[1,3] {3, 53, 103}> ()  e = Concat <axis = 0> (q, u)",
        ),
    ],
)
def test_is_done_on_the_integers(middle, after):
    assert_rewrites(PASS, before=graph(middle), after=on_integers(after), opset=13)


@pytest.mark.parametrize("operator", ["DepthToSpace", "SpaceToDepth"])
def test_blocks_are_moved_on_the_integers(operator):
    middle = f"e = {operator} <blocksize = 2> ({{}})"
    dims = "[1,4,2,2]"
    assert_rewrites(
        PASS,
        before=graph(middle.format("d"), dims=dims, out="[A,B,C,D]"),
        after=on_integers(middle.format("q"), dims=dims, out="[A,B,C,D]"),
        opset=13,
    )


def test_a_bound_at_the_end_of_the_integers_is_nothing():
    assert_rewrites(
        PASS,
        before=graph("e = Clip (d, -1.0, 50.0)"),
        after="g (uint8[2,3] q) => (uint8[P,Q] y) { y = Transpose (q) }",
        opset=13,
    )


def test_both_sides_dequantized_by_one_map():
    middle = "d2 = DequantizeLinear (p, s, z)  e = Where (c, d, d2)"
    inputs = ", uint8[2,3] p, bool[2,3] c"
    assert_rewrites(
        PASS, before=graph(middle, inputs), after=on_integers("e = Where (c, q, p)", inputs), opset=13
    )


@pytest.mark.parametrize(
    ("middle", "reason"),
    [
        (OTHERS + "d2 = DequantizeLinear (p, s2, z2)  e = Where (c, d, d2)", OTHER_PARAMETERS),
        (OTHERS + "d2 = DequantizeLinear (p, s2, z2)  e = Max (d, d2)", OTHER_PARAMETERS),
        ("e = Max (d, f)", None),
        ("e = Clip (d, b)", OTHER_PARAMETERS),
        ("r0 = Relu (d)  x = Neg (r0)  e = Identity (r0)", HAS_OTHER_CONSUMERS),
        ('e = ScatterElements <reduction = "add"> (d, k, d)', None),
        ("e = Sqrt (d)", None),
    ],
)
def test_leaves_alone(middle, reason):
    inputs = ", uint8[2,3] p, bool[2,3] c, float[2,3] f, float b, int64[2,3] k"
    assert_rejects(PASS, graph(middle, inputs), reason, opset=18)


def test_bounds_of_scales_for_each_channel_stay():
    assert_rejects(
        PASS,
        """g (uint8[2,3] q) => (uint8[2,3] y) { s = Constant <value = float[3] {0.1, 0.2, 0.3}> ()
        z = Constant <value = uint8[3] {1, 2, 3}> ()  d = DequantizeLinear <axis = 1> (q, s, z)  e = Relu (d)
        y = QuantizeLinear <axis = 1> (e, s, z) }""",
        opset=13,
    )


@pytest.mark.parametrize("operator", ["ArgMax <axis = 1, keepdims = 0>", "ArgMin <axis = 1, keepdims = 0>"])
def test_the_largest_is_asked_of_the_integers(operator):
    text = "g (uint8[N,5] q) => (int64[N] y) {{ {} y = {} ({}) }}"
    assert_rewrites(
        PASS,
        before=text.format(PARAMETERS + DEQUANTIZED, operator, "d"),
        after=text.format("", operator, "q"),
        opset=13,
        sizes=[{"N": 3}, {"N": 0}],
    )


def test_the_shape_is_asked_of_the_integers():
    text = "g (uint8[N,5] q) => (int64[2] y) {{ {} y = Shape ({}) }}"
    assert_rewrites(
        PASS, before=text.format(PARAMETERS + DEQUANTIZED, "d"), after=text.format("", "q"), opset=13
    )


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (
            f"g (uint8[N,5] q) => (int64[N] y, float[N,5] d) {{ {PARAMETERS} {DEQUANTIZED} "
            "y = ArgMax <axis = 1, keepdims = 0> (d) }",
            HAS_OTHER_CONSUMERS,
        ),
        (
            "g (uint8[N,2] q) => (int64[N] y) { s = Constant <value = float[2] {0.1, 0.2}> ()  z = Constant <value = "
            "uint8[2] {1, 2}> ()  d = DequantizeLinear <axis = 1> (q, s, z)  y = ArgMax <axis = 1, keepdims = 0> (d) }",
            OTHER_PARAMETERS,
        ),
        (
            "g (uint8[N,2] q) => (int64[N] y) { s = Constant <value = float {1e-45}> ()  z = Constant <value = "
            "uint8 {1}> ()  d = DequantizeLinear (q, s, z)  y = ArgMax <axis = 1, keepdims = 0> (d) }",
            NOT_REVERSIBLE,
        ),
    ],
)
def test_the_numbers_are_asked(text, reason):
    assert_rejects(PASS, text, reason, opset=13)


def test_in_a_branch_that_captures_the_integers():
    model = model_from_text(
        f"""g (uint8[2,3] q, bool c) => (uint8[2,3] y) {{ {PARAMETERS}
        y = If (c) <then_branch = a () => (uint8[2,3] r) {{ {DEQUANTIZED} e = Relu (d)  r = QuantizeLinear (e, s, z) }},
          else_branch = b () => (uint8[2,3] t) {{ t = Identity (q) }}> }}""",
        opset=13,
    )
    original = model.clone()
    run_pass(PASS, model)
    assert "DequantizeLinear" not in operators_of(model) and "Clip" in operators_of(model)
    feeds = {"q": np.arange(6, dtype=np.uint8).reshape(2, 3), "c": np.asarray(True)}
    assert np.array_equal(run(model, feeds)[0], run(original, feeds)[0])


@settings(deadline=None, max_examples=30)
@given(
    scale=st.floats(1e-3, 10.0),
    zero=st.integers(0, 255),
    low=st.floats(-600, 600),
    high=st.floats(-600, 600),
)
def test_bounds_give_every_integer_as_before(scale, zero, low, high):
    low, high = min(low, high), max(low, high)
    model = model_from_text(
        f"""g (uint8[256] q) => (uint8[256] y) {{ s = Constant <value = float {{{scale:.6f}}}> ()
        z = Constant <value = uint8 {{{zero}}}> ()  d = DequantizeLinear (q, s, z)
        e = Clip (d, {low:.6f}, {high:.6f})  y = QuantizeLinear (e, s, z) }}""",
        opset=13,
    )
    original = model.clone()
    run_pass(PASS, model)
    feeds = {"q": np.arange(256, dtype=np.uint8)}
    assert np.array_equal(run(model, feeds)[0], run(original, feeds)[0])
