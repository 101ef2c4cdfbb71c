from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from graphopt.passes.fusion.fuse_layer_norm import WRONG_SHAPE
from graphopt.rewriting import HAS_OTHER_CONSUMERS, IS_GRAPH_OUTPUT, NEEDS_OPSET
from graphopt.rewriting.normalization import AXES_DIFFER, UNKNOWN_SIZE
from graphopt.testing import assert_rejects, assert_rewrites, model_from_text, operators_of, run_pass

PASS = "fuse-layer-norm"
SQUARES = ["q = Mul (d, d)", "q = Pow (d, two)"]
QUOTIENTS = [
    "r = Sqrt (w)  n = Div (d, r)",
    "r = Sqrt (w)  i = Reciprocal (r)  n = Mul (d, i)",
    "r = Sqrt (w)  i = Div (one, r)  n = Mul (i, d)",
    "i = Pow (w, half)  n = Mul (d, i)",
]


def numbers(wide="float"):
    """The constants of the parts."""
    return (
        f"eps = Constant <value = {wide} {{0.0009765625}}> ()  two = Constant <value = {wide} {{2.0}}> ()  "
        f"one = Constant <value = {wide} {{1.0}}> ()  half = Constant <value = {wide} {{-0.5}}> ()  "
        f"ones = Constant <value = {wide}[4] {{1.0, 1.0, 1.0, 1.0}}> ()  "
    )


def mean(result, source, axes="[-1]", opset=18, keepdims=1):
    if opset >= 18:
        return f"{result} = ReduceMean <keepdims = {keepdims}> ({source}, {axes})  "
    return f"{result} = ReduceMean <axes = {axes}, keepdims = {keepdims}> ({source})  "


def parts(square=SQUARES[0], quotient=QUOTIENTS[0], *, axes="[-1]", other=None, opset=18, keepdims=1):
    """The bare norm of x as n."""
    return (
        f"{mean('m', 'x', axes, opset, keepdims)} d = Sub (x, m)  {square}  "
        f"{mean('v', 'q', other or axes, opset, keepdims)} w = Add (v, eps)  {quotient}"
    )


def graph(body, x="[N,3,4]", y=None, wide="float", tail="y = Relu (n)"):
    return f"g ({wide}{x} x) => ({wide}{y or x} y) {{ {numbers(wide)} {body}  {tail} }}"


NORM = "n = LayerNormalization <axis = -1, epsilon = 0.0009765625> (x, ones)"
SIZES = [{"N": 2}, {"N": 1}, {"N": 0}]


@pytest.mark.parametrize("opset", [11, 13, 17, 18])
@pytest.mark.parametrize("square", SQUARES)
@pytest.mark.parametrize("quotient", QUOTIENTS)
def test_every_spelling_at_every_opset(square, quotient, opset):
    assert_rewrites(
        PASS,
        before=graph(parts(square, quotient, opset=opset)),
        after=graph(NORM),
        opset=opset,
        raised_to=None if opset >= 17 else 23,
        exact=False,
        sizes=SIZES,
    )


def test_doubles_have_moments_of_doubles():
    assert_rewrites(
        PASS,
        before=graph(parts(), wide="double"),
        after=graph(NORM.replace("25>", "25, stash_type = 11>"), wide="double"),
        exact=False,
    )


def test_half_precision():
    model = model_from_text(graph(parts()))
    for node in model.graph:
        attr = node.attributes.get("value")
        if attr is not None and attr.as_tensor().dtype == ir.DataType.FLOAT:
            half = ir.tensor(attr.as_tensor().numpy().astype(np.float16))
            node.attributes["value"] = ir.AttrTensor("value", half)
    for value in (*model.graph.inputs, *model.graph.outputs):
        value.dtype = ir.DataType.FLOAT16
    assert len(run_pass(PASS, model).firings) == 1
    assert operators_of(model) == ["LayerNormalization", "Relu"]
    scale = model.graph[-2].inputs[1]
    assert scale is not None and scale.dtype == ir.DataType.FLOAT16


WEIGHT = "a = Constant <value = float{shape} {{1.0, 2.0, 3.0, 4.0}}> ()  "


@pytest.mark.parametrize("shape", ["[4]", "[1,4]", "[1,1,4]"])
@pytest.mark.parametrize("body", ["s = Mul (n, a)  y = Add (a, s)", "s = Mul (a, n)  y = Add (s, a)"])
def test_scale_and_bias_of_the_normalized_axes(shape, body):
    weight = WEIGHT.format(shape=shape)
    flat = WEIGHT.format(shape="[4]")
    assert_rewrites(
        PASS,
        before=graph(parts(), tail=weight + body),
        after=graph(flat + "y = LayerNormalization <axis = -1, epsilon = 0.0009765625> (x, a, a)", tail=""),
        exact=False,
    )


def test_a_scale_of_one_number():
    assert_rewrites(
        PASS,
        before=graph(parts(), tail="y = Mul (n, two)"),
        after=graph(
            "t = Constant <value = float[4] {2.0, 2.0, 2.0, 2.0}> ()  "
            "y = LayerNormalization <axis = -1, epsilon = 0.0009765625> (x, t)",
            tail="",
        ),
        exact=False,
    )


@pytest.mark.parametrize(
    ("shape", "values", "y"),
    [
        ("[3,1]", "1.0, 2.0, 3.0", "[N,3,4]"),
        ("[3,4]", ", ".join(["2.0"] * 12), "[N,3,4]"),
        ("[1,1,1,4]", "1.0, 2.0, 3.0, 4.0", "[1,N,3,4]"),
        ("[5,1,1,4]", ", ".join(["2.0"] * 20), "[5,N,3,4]"),
    ],
)
def test_a_scale_that_is_not_over_the_normalized_axes_stays(shape, values, y):
    weight = f"a = Constant <value = float{shape} {{{values}}}> ()  "
    assert_rewrites(
        PASS,
        before=graph(parts(), y=y, tail=weight + "y = Mul (n, a)"),
        after=graph(NORM, y=y, tail=weight + "y = Mul (n, a)"),
        exact=False,
    )
    assert_rejects(PASS, graph(NORM, y=y, tail=weight + "y = Mul (n, a)"), WRONG_SHAPE)


def test_two_axes():
    assert_rewrites(
        PASS,
        before=graph(
            parts(axes="[1,-1]"),
            tail="a = Constant <value = float[4] {1.0, 2.0, 3.0, 4.0}> ()  y = Mul (n, a)",
        ),
        after=graph(
            "t = Constant <value = float[3,4] {1.0, 2.0, 3.0, 4.0, 1.0, 2.0, 3.0, 4.0, 1.0, 2.0, 3.0, 4.0}> () "
            " y = LayerNormalization <axis = -2, epsilon = 0.0009765625> (x, t)",
            tail="",
        ),
        exact=False,
    )


def test_global_pooling_is_a_mean_over_the_last_axes():
    pooled = "m = GlobalAveragePool (x)  d = Sub (x, m)  q = Mul (d, d)  v = GlobalAveragePool (q)  "
    assert_rewrites(
        PASS, before=graph(pooled + "w = Add (v, eps)  " + QUOTIENTS[0]), after=graph(NORM), exact=False
    )


def test_channels_of_an_image_are_moved_last_and_back():
    weight = "a = Constant <value = float[4,1,1] {1.0, 2.0, 3.0, 4.0}> ()  "
    flat = "a = Constant <value = float[4] {1.0, 2.0, 3.0, 4.0}> ()  "
    assert_rewrites(
        PASS,
        before=graph(parts(axes="[1]"), x="[N,4,3,M]", tail=weight + "s = Mul (n, a)  y = Add (s, a)"),
        after=graph(
            flat + "t = Transpose <perm = [0,2,3,1]> (x)  "
            "u = LayerNormalization <axis = -1, epsilon = 0.0009765625> (t, a, a)  "
            "y = Transpose <perm = [0,3,1,2]> (u)",
            x="[N,4,3,M]",
            tail="",
        ),
        exact=False,
        sizes=[{"N": 2, "M": 5}, {"N": 0, "M": 1}],
    )


def test_axes_dropped_and_put_back():
    text = (
        "m = ReduceMean <keepdims = 0> (x, [-1])  c = Unsqueeze (m, [2])  d = Sub (x, c)  q = Mul (d, d)  "
        "v = ReduceMean <keepdims = 0> (q, [-1])  u = Reshape (v, [0,3,1])  w = Add (u, eps)  " + QUOTIENTS[0]
    )
    assert_rewrites(PASS, before=graph(text), after=graph(NORM), exact=False)


@pytest.mark.parametrize("clamp", ["k = Relu (h)", "z = Constant <value = float {0.0}> ()  k = Max (h, z)"])
def test_variance_as_the_mean_of_squares_less_the_squared_mean(clamp):
    text = (
        f"{mean('m', 'x')} d = Sub (x, m)  e = Mul (x, x)  {mean('v', 'e')} f = Mul (m, m)  h = Sub (v, f)  "
        f"{clamp}  w = Add (k, eps)  {QUOTIENTS[0]}"
    )
    assert_rewrites(PASS, before=graph(text), after=graph(NORM), exact=False)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (graph(parts(axes="[1]", other="[-1]")), AXES_DIFFER),
        (graph(parts(), x="[N,3,M]"), UNKNOWN_SIZE),
        (graph(parts(), x="[N,3,0]"), UNKNOWN_SIZE),
        (graph(parts(), tail="y = Add (n, d)"), HAS_OTHER_CONSUMERS),
        (graph(parts(), y="[N,3,4] d, float[N,3,4]"), IS_GRAPH_OUTPUT),
        (graph(parts().replace("Add (v, eps)", "Add (v, x)")), None),
        (graph(parts(), x="[N,3,4]").replace("{0.0009765625}", "{0.5}"), None),
    ],
)
def test_leaves_alone(text, reason):
    assert_rejects(PASS, text, reason)


def test_layer_norm_fusion_with_keepdims_0():
    """The mean of a square matrix, broadcast along the wrong axis."""
    assert_rejects(PASS, graph(parts(keepdims=0), x="[4,4]"), AXES_DIFFER)


def test_mean_of_another_value():
    assert_rejects(
        PASS,
        "g (float[N,4] x, float[N,4] z) => (float[N,4] y) { "
        + numbers()
        + parts().replace("Mul (d, d)", "Mul (z, z)")
        + "  y = Relu (n) }",
    )


def test_eps_of_each_channel():
    text = graph(parts()).replace(
        "eps = Constant <value = float {0.0009765625}>",
        "eps = Constant <value = float[4] {0.1, 0.2, 0.3, 0.4}>",
    )
    assert_rejects(PASS, text)


def test_layer_norm_fusion_must_reject_expanding_scale_and_bias():
    """A bias of rank 4 gives the result a fourth axis: the norm can't have it."""
    weight = "a = Constant <value = float[5,1,1,4] {" + ", ".join(["2.0"] * 20) + "}> ()  "
    assert_rejects(PASS, graph(NORM, y="[5,N,3,4]", tail=weight + "y = Add (n, a)"), WRONG_SHAPE)


def test_keeping_the_opset_keeps_the_parts():
    assert_rejects(PASS, graph(parts(opset=13)), NEEDS_OPSET, opset=13)


def test_in_the_body_of_a_loop_with_captured_constants():
    text = (
        "g (int64 k, bool c, float[2,4] x0) => (float[2,4] y) {{ {numbers} y = Loop (k, c, x0) <body = b "
        "(int64 i, bool on, float[2,4] x) => (bool go, float[2,4] z) {{ go = Identity (on)  {body}  "
        "z = Relu (n) }}> }}"
    )
    # The body's declared shape is a hint: nothing is known of the carried value's last axis.
    assert_rejects(
        PASS,
        text.format(numbers=numbers(), body=parts()).replace("z = Relu (n)", "z = Concat <axis = 1> (n, n)"),
    )
    assert_rewrites(
        PASS,
        before=text.format(numbers=numbers(), body=parts()),
        after=text.format(numbers=numbers().partition("()")[2], body=NORM),
        runs=False,
    )
