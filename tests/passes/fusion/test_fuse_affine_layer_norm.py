from __future__ import annotations

import pytest

from graphopt.passes.fusion.fuse_affine_layer_norm import WRONG_SHAPE
from graphopt.rewriting import HAS_OTHER_CONSUMERS, IS_GRAPH_OUTPUT
from graphopt.rewriting.normalization import AXES_DIFFER, UNKNOWN_SIZE
from graphopt.testing import assert_rejects, assert_rewrites

PASS = "fuse-affine-layer-norm"
CONSTANTS = (
    "eps = Constant <value = float {0.0009765625}> ()  one = Constant <value = float {1.0}> ()  "
    "half = Constant <value = float {-0.5}> ()  "
)
GAMMA = "a = Constant <value = float[4] {1.0, 2.0, 3.0, 4.0}> ()  "
BETA = "b = Constant <value = float[4] {4.0, 3.0, 2.0, 1.0}> ()  "
MOMENTS = (
    "m = ReduceMean (x, [-1])  d = Sub (x, m)  q = Mul (d, d)  v = ReduceMean (q, [-1])  w = Add (v, eps)  "
)
SCALES = [
    "r = Sqrt (w)  s = Div (a, r)",
    "r = Sqrt (w)  i = Reciprocal (r)  s = Mul (i, a)",
    "r = Sqrt (w)  i = Div (one, r)  s = Mul (a, i)",
    "i = Pow (w, half)  s = Mul (i, a)",
]
SHIFTS = [
    "e = Mul (m, s)  f = Sub (b, e)  n = Add (t, f)",
    "k = Neg (m)  e = Mul (k, s)  f = Add (e, b)  n = Add (f, t)",
    "e = Mul (s, m)  k = Neg (e)  f = Add (b, k)  n = Add (t, f)",
    "e = Mul (m, s)  f = Sub (e, b)  n = Sub (t, f)",
]


def graph(body, x="[N,3,4]", y=None, tail="y = Relu (n)", constants=CONSTANTS + GAMMA + BETA):
    return f"g (float{x} x) => (float{y or x} y) {{ {constants} {body}  {tail} }}"


def affine(scale=SCALES[0], shift=SHIFTS[0], moments=MOMENTS):
    return f"{moments} {scale}  t = Mul (x, s)  {shift}"


NORM = "n = LayerNormalization <axis = -1, epsilon = 0.0009765625> (x, a, b)"
SIZES = [{"N": 2}, {"N": 1}, {"N": 0}]


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("shift", SHIFTS)
def test_the_form_of_tensorflow(scale, shift):
    assert_rewrites(PASS, before=graph(affine(scale, shift)), after=graph(NORM), exact=False, sizes=SIZES)


@pytest.mark.parametrize("opset", [11, 13, 17])
def test_older_opsets(opset):
    moments = MOMENTS.replace("ReduceMean (x, [-1])", "ReduceMean <axes = [-1]> (x)").replace(
        "ReduceMean (q, [-1])", "ReduceMean <axes = [-1]> (q)"
    )
    assert_rewrites(
        PASS,
        before=graph(affine(moments=moments)),
        after=graph(NORM),
        opset=opset,
        raised_to=23 if opset < 17 else None,
        exact=False,
    )


@pytest.mark.parametrize("inverse", ["r = Sqrt (w)  s = Reciprocal (r)", "s = Pow (w, half)"])
def test_without_scale_or_bias(inverse):
    ones = "o = Constant <value = float[4] {1.0, 1.0, 1.0, 1.0}> ()  "
    assert_rewrites(
        PASS,
        before=graph(affine(inverse, "e = Mul (m, s)  n = Sub (t, e)")),
        after=graph(ones + NORM.replace("a, b", "o")),
        exact=False,
    )
    assert_rewrites(
        PASS, before=graph(affine(inverse)), after=graph(ones + NORM.replace("a, b", "o, b")), exact=False
    )


def test_a_bias_that_is_added_last_is_left_to_the_next_pass():
    assert_rewrites(
        f"({PASS},fuse-layer-norm)",
        before=graph(affine(shift="e = Mul (m, s)  f = Sub (t, e)  n = Add (f, b)")),
        after=graph(NORM),
        exact=False,
    )


@pytest.mark.parametrize("scale", SCALES)
def test_the_form_of_flax(scale):
    assert_rewrites(
        PASS,
        before=graph(f"{MOMENTS} {scale}  n = Mul (d, s)"),
        after=graph(NORM.replace("a, b", "a")),
        exact=False,
    )


def test_the_channels_of_an_image():
    moments = MOMENTS.replace("[-1]", "[1]")
    wide = (GAMMA + BETA).replace("float[4]", "float[1,4,1,1]")
    assert_rewrites(
        PASS,
        before=graph(affine(moments=moments), x="[N,4,3,M]", constants=CONSTANTS + wide),
        after=graph(
            "t = Transpose <perm = [0,2,3,1]> (x)  u = LayerNormalization <axis = -1, epsilon = 0.0009765625> "
            "(t, a, b)  n = Transpose <perm = [0,3,1,2]> (u)",
            x="[N,4,3,M]",
        ),
        exact=False,
        sizes=[{"N": 2, "M": 5}, {"N": 0, "M": 1}],
    )


@pytest.mark.parametrize("name", ["a", "b"])
@pytest.mark.parametrize("shape", ["[3,1]", "[3,4]", "[2,1,1,4]"])
def test_a_scale_or_bias_of_another_shape(name, shape):
    size = {"[3,1]": 3, "[3,4]": 12, "[2,1,1,4]": 8}[shape]
    values = ", ".join(["2.0"] * size)
    constants = CONSTANTS + (BETA if name == "a" else GAMMA)
    constants += f"{name} = Constant <value = float{shape} {{{values}}}> ()  "
    y = "[2,N,3,4]" if shape == "[2,1,1,4]" else None
    assert_rejects(PASS, graph(affine(), y=y, constants=constants), WRONG_SHAPE)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (graph(affine(moments=MOMENTS.replace("(q, [-1])", "(q, [1])"))), AXES_DIFFER),
        (graph(affine(moments=MOMENTS.replace("Mean (", "Mean <keepdims = 0> (")), x="[4,4]"), AXES_DIFFER),
        (graph(affine(), x="[N,3,M]", y="[N,3,4]"), UNKNOWN_SIZE),
        (graph(affine(), tail="z = Relu (n)  y = Add (z, s)"), HAS_OTHER_CONSUMERS),
        (
            graph(affine(), y="[N,3,4] y0, float[N,3,1] m", tail="y0 = Relu (n)").replace(" y) {", ") {"),
            IS_GRAPH_OUTPUT,
        ),
        (graph(affine(shift=SHIFTS[0].replace("Mul (m, s)", "Mul (v, s)"))), None),
        (graph(affine(shift=SHIFTS[0].replace("Add (t, f)", "Sub (t, f)"))), None),
        (graph(affine(), constants=CONSTANTS.replace("0.0009765625", "2.0") + GAMMA + BETA), None),
    ],
)
def test_leaves_alone(text, reason):
    assert_rejects(PASS, text, reason)


def test_in_a_branch_with_a_captured_scale():
    text = (
        "g (float[N,4] x0, bool c) => (float[N,4] y) {{ {constants} y = If (c) <then_branch = t () => "
        "(float[N,4] u) {{ x = Neg (x0)  {body}  u = Relu (n) }}, else_branch = f () => (float[N,4] z) "
        "{{ z = Abs (x0) }}> }}"
    )
    kept = CONSTANTS.partition("()")[2]
    assert_rewrites(
        PASS,
        before=text.format(constants=CONSTANTS + GAMMA + BETA, body=affine()),
        after=text.format(constants=kept, body=GAMMA + BETA + NORM),
        exact=False,
    )
