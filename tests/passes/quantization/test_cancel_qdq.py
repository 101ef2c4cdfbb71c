from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from graphopt.ir.quantization import Quantization
from graphopt.passes.quantization.cancel_qdq import NOT_REVERSIBLE, OTHER_PARAMETERS
from graphopt.rewriting import HAS_OTHER_CONSUMERS
from graphopt.testing import assert_rejects, assert_rewrites

PASS = "cancel-qdq"


def parameters(dtype="uint8", scale=0.02, zero=3, suffix="", wide="float"):
    return (
        f"s{suffix} = Constant <value = {wide} {{{scale}}}> ()  "
        f"z{suffix} = Constant <value = {dtype} {{{zero}}}> ()  "
    )


def pair(middle, *, dtype="uint8", before="[2,3,4]", after="[2,3,4]", first=None, second=None, opset=13):
    """DequantizeLinear, `middle` from d to e, QuantizeLinear; then a Transpose."""
    given = parameters(dtype, suffix="a", **(first or {})) + parameters(
        dtype, suffix="b", **(second or first or {})
    )
    return (
        f"g ({dtype}{before} q) => ({dtype}{after} y) {{ {given} d = DequantizeLinear (q, sa, za)  {middle}  "
        f"r = QuantizeLinear (e, sb, zb)  y = Transpose (r) }}"
    )


def moved(middle, *, dtype="uint8", before="[2,3,4]", after="[2,3,4]"):
    return f"g ({dtype}{before} d) => ({dtype}{after} y) {{ {middle}  y = Transpose (e) }}"


MIDDLES = [
    ("e = Reshape (d, [4,6])", "[6,4]"),
    ("e = Transpose <perm = [0,2,1]> (d)", "[3,4,2]"),
    ("e = Unsqueeze (d, [1])", "[4,3,1,2]"),
    ("e = Flatten <axis = 2> (d)", "[4,6]"),
    ("e = Slice (d, [1], [3], [1])", "[4,2,2]"),
    ("e = Gather <axis = 1> (d, [2,0])", "[4,2,2]"),
    ("e = Expand (d, [5,2,3,4])", "[4,3,2,5]"),
    ("e = Tile (d, [1,2,1])", "[4,6,2]"),
    ("e = MaxPool <kernel_shape = [2], pads = [1,1]> (d)", "[5,3,2]"),
    ("e = ReduceMax <axes = [2], keepdims = 0> (d)", "[3,2]"),
    ('e = Resize <mode = "nearest"> (d, , k)', "[4,3,2]"),
    ("a = Reshape (d, [4,6])  b = Transpose (a)  e = Unsqueeze (b, [0])", "[4,6,1]"),
]


@pytest.mark.parametrize("dtype", ["uint8", "int8"])
@pytest.mark.parametrize(("middle", "after"), MIDDLES)
def test_movement_between_a_pair_is_done_on_the_integers(middle, after, dtype):
    extra = "k = Constant <value = float[3] {1.0, 1.0, 2.0}> ()  " if "Resize" in middle else ""
    after = "[8,3,2]" if "Resize" in middle else after
    assert_rewrites(
        PASS,
        before=pair(extra + middle, dtype=dtype, after=after),
        after=moved(extra + middle, dtype=dtype, after=after),
        opset=13,
        runs="Resize" not in middle,
    )


def test_concat_of_dequantized_values_of_one_map():
    given = parameters()
    assert_rewrites(
        PASS,
        before=f"g (uint8[N,2] p, uint8[N,3] q) => (uint8[5,N] y) {{ {given} a = DequantizeLinear (p, s, z)  "
        "b = DequantizeLinear (q, s, z)  c = Concat <axis = 1> (a, b)  r = QuantizeLinear (c, s, z)  "
        "y = Transpose (r) }",
        after="g (uint8[N,2] p, uint8[N,3] q) => (uint8[5,N] y) { r = Concat <axis = 1> (p, q)  "
        "y = Transpose (r) }",
        sizes=[{"N": 3}, {"N": 0}],
    )


def test_split_whose_parts_are_all_quantized():
    given = parameters()
    assert_rewrites(
        PASS,
        before=f"g (uint8[4,N] q) => (uint8[N,2] x, uint8[N,2] y) {{ {given} d = DequantizeLinear (q, s, z)  "
        "a, b = Split <axis = 0, num_outputs = 2> (d)  r = QuantizeLinear (a, s, z)  "
        "t = QuantizeLinear (b, s, z)  x = Transpose (r)  y = Transpose (t) }",
        after="g (uint8[4,N] q) => (uint8[N,2] x, uint8[N,2] y) { "
        "r, t = Split <axis = 0, num_outputs = 2> (q)  x = Transpose (r)  y = Transpose (t) }",
    )


def test_split_of_which_a_part_stays_a_float():
    assert_rejects(
        PASS,
        f"g (uint8[4,N] q) => (uint8[N,2] x, float[2,N] b) {{ {parameters()} d = DequantizeLinear (q, s, z)  "
        "a, b = Split <axis = 0, num_outputs = 2> (d)  r = QuantizeLinear (a, s, z)  x = Transpose (r) }",
        HAS_OTHER_CONSUMERS,
    )


@pytest.mark.parametrize("mode", ["constant", "edge"])
def test_padding_becomes_its_integer(mode):
    body = 'e = Pad <mode = "' + mode + '"> ({}, p, {})'
    pads = "p = Constant <value = int64[6] {0,1,0,0,0,2}> ()  "
    v = "v = Constant <value = float {1.05}> ()  "
    w = "w = Constant <value = uint8 {56}> ()  "  # 1.05 / 0.02 = 52.5, to even 52, and 3; but 52.5 rounds up
    before = pair(pads + v + body.format("d", "v"), after="[6,4,2]")
    after = moved(
        pads + (w if mode == "constant" else v) + body.format("d", "w" if mode == "constant" else "v"),
        after="[6,4,2]",
    )
    if mode == "edge":
        before, after = before.replace(", v)", ")"), after.replace(", v)", ")")
    else:
        integer = int(np.rint(np.float32(1.05) / np.float32(0.02))) + 3
        after = after.replace("{56}", f"{{{integer}}}")
    assert_rewrites(PASS, before=before, after=after, opset=13)


def test_a_pair_without_anything_between():
    assert_rewrites(PASS, before=pair("e = Identity (d)"), after=moved("e = Identity (d)"), opset=13)
    assert_rewrites(
        PASS,
        before=pair("").replace("(e, ", "(d, "),
        after="g (uint8[2,3,4] q) => (uint8[2,3,4] y) { y = Transpose (q) }",
        opset=13,
    )


def test_quantizing_twice_by_one_map_is_once():
    given = parameters()
    assert_rewrites(
        PASS,
        before=f"g (float[N] x) => (float[N] y) {{ {given} a = QuantizeLinear (x, s, z)  "
        "b = DequantizeLinear (a, s, z)  c = QuantizeLinear (b, s, z)  y = DequantizeLinear (c, s, z) }",
        after=f"g (float[N] x) => (float[N] y) {{ {given} a = QuantizeLinear (x, s, z)  "
        "y = DequantizeLinear (a, s, z) }",
    )


def test_the_dequantized_value_may_have_other_consumers():
    given = parameters()
    assert_rewrites(
        PASS,
        before=f"g (uint8[N] q) => (uint8[N] y, float[N] w) {{ {given} d = DequantizeLinear (q, s, z)  "
        "w = Relu (d)  r = QuantizeLinear (d, s, z)  y = Add (r, q) }",
        after=f"g (uint8[N] q) => (uint8[N] y, float[N] w) {{ {given} d = DequantizeLinear (q, s, z)  "
        "w = Relu (d)  y = Add (q, q) }",
        runs=False,
    )


PER_AXIS = (
    "s = Constant <value = float[3] {0.1, 0.2, 0.3}> ()  z = Constant <value = int8[3] {0, 1, 2}> ()  "
    "t = Constant <value = float[3] {0.1, 0.2, 0.3}> ()  o = Constant <value = int8[3] {0, 1, 2}> ()  "
)


@pytest.mark.parametrize(
    ("middle", "first", "second", "after"),
    [
        ("e = Transpose <perm = [0,2,1]> (d)", 1, 2, "[3,4,2]"),
        ("e = Unsqueeze (d, [0])", 1, 2, "[4,3,2,1]"),
        ("e = Slice (d, [1], [3], [2])", -2, 1, "[2,3,2]"),
        ("e = Concat <axis = 0> (d)", 1, 1, "[4,3,2]"),
    ],
)
def test_an_axis_is_followed_through_movement(middle, first, second, after):
    assert_rewrites(
        PASS,
        before=f"g (int8[2,3,4] q) => (int8{after} y) {{ {PER_AXIS} "
        f"d = DequantizeLinear <axis = {first}> (q, s, z)  {middle}  "
        f"r = QuantizeLinear <axis = {second}> (e, t, o)  y = Transpose (r) }}",
        after=moved(middle, dtype="int8", after=after),
        opset=13,
    )


@pytest.mark.parametrize(
    ("middle", "first", "second", "after"),
    [
        ("e = Transpose <perm = [0,2,1]> (d)", 1, 1, "[3,4,2]"),
        ("e = Slice (d, [1], [3], [1])", 1, 1, "[4,2,2]"),
        ("e = Reshape (d, [4,3,2])", 1, 1, "[2,3,4]"),
    ],
)
def test_another_axis_is_another_map(middle, first, second, after):
    assert_rejects(
        PASS,
        f"g (int8[2,3,4] q) => (int8{after} y) {{ {PER_AXIS} "
        f"d = DequantizeLinear <axis = {first}> (q, s, z)  {middle}  "
        f"r = QuantizeLinear <axis = {second}> (e, t, o)  y = Transpose (r) }}",
        opset=13,
    )


@pytest.mark.parametrize(
    "second", [{"scale": 0.020000001}, {"scale": 0.04}, {"zero": 4}, {"scale": 0.02, "zero": 0}]
)
def test_pairs_with_different_scales_are_not_merged(second):
    assert_rejects(
        PASS,
        pair("e = Reshape (d, [4,6])", after="[6,4]", first={"zero": 3}, second=second),
        OTHER_PARAMETERS,
        opset=13,
    )


def test_other_types_are_other_maps():
    assert_rejects(
        PASS,
        "g (int8[N] q) => (uint8[N] y) { s = Constant <value = float {0.5}> ()  "
        "a = Constant <value = int8 {0}> ()  b = Constant <value = uint8 {0}> ()  "
        "d = DequantizeLinear (q, s, a)  y = QuantizeLinear (d, s, b) }",
        OTHER_PARAMETERS,
    )


def test_a_scale_that_is_not_constant_may_be_anything():
    assert_rejects(
        PASS,
        "g (uint8[N] q, float s) => (uint8[N] y) { z = Constant <value = uint8 {0}> ()  "
        "d = DequantizeLinear (q, s, z)  r = QuantizeLinear (d, s, z)  y = Transpose (r) }",
        OTHER_PARAMETERS,
    )


@pytest.mark.parametrize("scale", ["3e36", "1e-42", "0.0", "-0.5"])
def test_scales_that_overflow_or_vanish(scale):
    assert_rejects(
        PASS, pair("e = Reshape (d, [4,6])", after="[6,4]", first={"scale": scale}), NOT_REVERSIBLE, opset=13
    )


def test_an_inner_value_that_someone_else_sees_stays_a_float():
    text = (
        f"g (uint8[2,6] q) => (uint8[3,4] y, float[4,3] w) {{ {parameters()} d = DequantizeLinear (q, s, z)  "
        "e = Reshape (d, [4,3])  r = QuantizeLinear (e, s, z)  y = Transpose (r)  w = Relu (e) }"
    )
    assert_rejects(PASS, text, HAS_OTHER_CONSUMERS)
    assert_rejects(
        PASS, text.replace("float[4,3] w", "float[4,3] e").replace("w = Relu (e)", ""), HAS_OTHER_CONSUMERS
    )


def test_arithmetic_between_stays():
    assert_rejects(PASS, pair("e = Neg (d)"), opset=13)


def test_linear_resize_between_is_arithmetic():
    assert_rejects(
        PASS,
        pair('k = Constant <value = float[3] {1.0, 1.0, 2.0}> ()  e = Resize <mode = "linear"> (d, , k)'),
        opset=13,
    )


def test_in_a_body_and_with_captured_values():
    given = parameters()
    text = (
        "g (uint8[N,2] q, bool c) => (uint8[2,N] y) {{ {out} y = If (c) <"
        "then_branch = t () => (uint8[2,N] u) {{ {inner} }}, else_branch = f () => (uint8[2,N] v) "
        "{{ v = Transpose (q) }}> }}"
    )
    assert_rewrites(
        PASS,
        before=text.format(
            out=given,
            inner="d = DequantizeLinear (q, s, z)  a = Transpose (d)  b = QuantizeLinear (a, s, z)  "
            "u = Identity (b)",
        ),
        after=text.format(out="", inner="b = Transpose (q)  u = Identity (b)"),
    )


@pytest.mark.parametrize(
    ("dtype", "wide"),
    [
        (ir.DataType.UINT8, ir.DataType.FLOAT),
        (ir.DataType.INT8, ir.DataType.FLOAT16),
        (ir.DataType.UINT16, ir.DataType.FLOAT),
        (ir.DataType.INT4, ir.DataType.FLOAT16),
    ],
)
def test_every_integer_comes_back_where_it_is_said_so(dtype, wide):
    rng = np.random.default_rng(0)
    scales = np.exp2(rng.uniform(-13.5, 6.5, 300)).astype(wide.numpy())
    for scale in scales:
        q = Quantization(np.asarray(scale), np.asarray(0), dtype, wide, None)
        if not q.is_reversible:
            continue
        integers = np.arange(q.lowest - q.highest, q.highest - q.lowest + 1)
        number = (integers.astype(wide.numpy()) * scale).astype(wide.numpy())
        back = np.rint(number.astype(np.float32) / np.float32(scale))
        assert np.array_equal(back, integers), float(scale)
        narrow = np.rint((number * (wide.numpy().type(1) / scale)).astype(np.float32))
        assert np.array_equal(narrow, integers), float(scale)


def test_types_too_narrow_for_their_integers_are_not_reversible():
    one = np.asarray(1.0)
    for dtype, wide in (
        (ir.DataType.UINT8, ir.DataType.BFLOAT16),
        (ir.DataType.INT16, ir.DataType.FLOAT16),
    ):
        assert not Quantization(one.astype(wide.numpy()), np.asarray(0), dtype, wide, None).is_reversible
