from __future__ import annotations

import pytest

from graphopt.passes.fusion.fuse_rms_norm import NOT_TRAILING, UNKNOWN_SIZE, WRONG_SHAPE
from graphopt.rewriting import HAS_OTHER_CONSUMERS, NEEDS_OPSET
from graphopt.testing import assert_rejects, assert_rewrites

PASS = "fuse-rms-norm"
CONSTANTS = (
    "eps = Constant <value = float {0.0009765625}> ()  two = Constant <value = float {2.0}> ()  "
    "one = Constant <value = float {1.0}> ()  half = Constant <value = float {-0.5}> ()  "
    "ones = Constant <value = float[4] {1.0, 1.0, 1.0, 1.0}> ()  "
    "a = Constant <value = float[4] {1.0, 2.0, 3.0, 4.0}> ()  "
)
QUOTIENTS = [
    "r = Sqrt (w)  n = Div (x, r)",
    "r = Sqrt (w)  i = Reciprocal (r)  n = Mul (x, i)",
    "r = Sqrt (w)  i = Div (one, r)  n = Mul (i, x)",
    "i = Pow (w, half)  n = Mul (x, i)",
]
NORM = "n = RMSNormalization <axis = -1, epsilon = 0.0009765625> (x, ones)"


def mean(axes="[-1]", opset=23, keepdims=1):
    if opset >= 18:
        return f"m = ReduceMean <keepdims = {keepdims}> (q, {axes})"
    return f"m = ReduceMean <axes = {axes}, keepdims = {keepdims}> (q)"


def parts(square="q = Mul (x, x)", quotient=QUOTIENTS[0], **of_mean):
    return f"{square}  {mean(**of_mean)}  w = Add (m, eps)  {quotient}"


def graph(body, x="[N,3,4]", y=None, tail="y = Neg (n)"):
    return f"g (float{x} x) => (float{y or x} y) {{ {CONSTANTS} {body}  {tail} }}"


@pytest.mark.parametrize("square", ["q = Mul (x, x)", "q = Pow (x, two)"])
@pytest.mark.parametrize("quotient", QUOTIENTS)
@pytest.mark.parametrize("opset", [11, 13, 17, 18, 23])
def test_every_spelling_at_every_opset(square, quotient, opset):
    assert_rewrites(
        PASS,
        before=graph(parts(square, quotient, opset=opset)),
        after=graph(NORM),
        opset=opset,
        raised_to=None if opset == 23 else 23,
        exact=False,
        sizes=[{"N": 2}, {"N": 1}],
    )


def test_a_scale_that_follows():
    assert_rewrites(
        PASS,
        before=graph(parts(), tail="y = Mul (a, n)"),
        after=graph("y = RMSNormalization <axis = -1, epsilon = 0.0009765625> (x, a)", tail=""),
        opset=23,
        exact=False,
    )


def test_simplified_layer_norm_fusion_takes_no_incompatible_multiplication():
    """A product with another activation, or with a constant along another axis, is no scale."""
    wide = "c = Constant <value = float[3,1] {1.0, 2.0, 3.0}> ()  y = Mul (n, c)"
    assert_rejects(PASS, graph(NORM, tail=wide), WRONG_SHAPE, opset=23)
    assert_rejects(PASS, graph(NORM, tail="y = Mul (n, x)"), WRONG_SHAPE, opset=23)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (graph(parts(axes="[1]")), NOT_TRAILING),
        (graph(parts(keepdims=0), "[4,4]"), NOT_TRAILING),
        (graph(parts(), "[N,3,M]"), UNKNOWN_SIZE),
        (graph(parts(), tail="y = Add (n, q)"), HAS_OTHER_CONSUMERS),
        (graph(parts().replace("Add (m, eps)", "Add (m, two)")), None),
        (graph(parts(quotient="r = Sqrt (w)  n = Div (q, r)")), None),
    ],
)
def test_leaves_alone(text, reason):
    assert_rejects(PASS, text, reason, opset=23)


def test_keeping_the_opset_keeps_the_parts():
    assert_rejects(PASS, graph(parts(opset=18)), NEEDS_OPSET, opset=18)
