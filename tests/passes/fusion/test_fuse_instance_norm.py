from __future__ import annotations

import pytest

from graphopt.passes.fusion.fuse_instance_norm import NOT_SPATIAL, UNKNOWN_CHANNELS, WRONG_SHAPE
from graphopt.rewriting import HAS_OTHER_CONSUMERS
from graphopt.rewriting.normalization import AXES_DIFFER
from graphopt.testing import assert_rejects, assert_rewrites

PASS = "fuse-instance-norm"
CONSTANTS = (
    "eps = Constant <value = float {0.0009765625}> ()  one = Constant <value = float {1.0}> ()  "
    "half = Constant <value = float {-0.5}> ()  ones = Constant <value = float[2] {1.0, 1.0}> ()  "
    "zeros = Constant <value = float[2] {0.0, 0.0}> ()  s2 = Constant <value = float[2] {2.0, 3.0}> ()  "
    "b2 = Constant <value = float[2] {4.0, 5.0}> ()  s = Constant <value = float[2,1,1] {2.0, 3.0}> ()  "
    "b = Constant <value = float[1,2,1,1] {4.0, 5.0}> ()  "
)
MOMENTS = (
    "m = ReduceMean (x, [2,3])  d = Sub (x, m)  q = Mul (d, d)  v = ReduceMean (q, [2,3])  w = Add (v, eps)  "
)
NORM = "n = InstanceNormalization <epsilon = 0.0009765625> (x, {}, {})"
SIZES = [{"N": 2, "H": 3, "W": 4}, {"N": 1, "H": 1, "W": 1}, {"N": 0, "H": 2, "W": 2}]


def graph(body, x="[N,2,H,W]", tail="y = Relu (n)", constants=CONSTANTS):
    return f"g (float{x} x) => (float{x} y) {{ {constants} {body}  {tail} }}"


@pytest.mark.parametrize(
    "quotient",
    [
        "r = Sqrt (w)  n = Div (d, r)",
        "r = Sqrt (w)  i = Reciprocal (r)  n = Mul (i, d)",
        "i = Pow (w, half)  n = Mul (d, i)",
    ],
)
def test_the_bare_norm(quotient):
    assert_rewrites(
        PASS,
        before=graph(MOMENTS + quotient),
        after=graph(NORM.format("ones", "zeros")),
        exact=False,
        sizes=SIZES,
    )


def test_scale_and_bias_that_follow():
    assert_rewrites(
        PASS,
        before=graph(MOMENTS + "r = Sqrt (w)  k = Div (d, r)  l = Mul (k, s)  n = Add (b, l)"),
        after=graph(NORM.format("s2", "b2")),
        exact=False,
        sizes=SIZES,
    )


@pytest.mark.parametrize("scale", ["f = Div (s, r)", "i = Reciprocal (r)  f = Mul (i, s)"])
def test_scale_and_bias_mixed_with_the_moments(scale):
    assert_rewrites(
        PASS,
        before=graph(
            MOMENTS + f"r = Sqrt (w)  {scale}  t = Mul (x, f)  e = Mul (m, f)  o = Sub (b, e)  n = Add (t, o)"
        ),
        after=graph(NORM.format("s2", "b2")),
        exact=False,
        sizes=SIZES,
    )


@pytest.mark.parametrize("opset", [11, 13, 17])
def test_axes_as_an_attribute(opset):
    text = MOMENTS.replace("ReduceMean (x, [2,3])", "ReduceMean <axes = [2,3]> (x)").replace(
        "ReduceMean (q, [2,3])", "ReduceMean <axes = [-2,-1]> (q)"
    )
    assert_rewrites(
        PASS,
        before=graph(text + "r = Sqrt (w)  n = Div (d, r)"),
        after=graph(NORM.format("ones", "zeros")),
        opset=opset,
        exact=False,
    )


BARE = MOMENTS + "r = Sqrt (w)  n = Div (d, r)"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (graph(BARE.replace("[2,3]", "[1,3]")), NOT_SPATIAL),
        (graph(BARE.replace("[2,3]", "[2]"), "[N,2,H]"), NOT_SPATIAL),
        (graph(BARE, "[N,C,H,W]"), UNKNOWN_CHANNELS),
        (graph(BARE.replace("(q, [2,3])", "(q, [2])")), AXES_DIFFER),
        (graph(BARE, tail="y = Add (n, d)"), HAS_OTHER_CONSUMERS),
        (graph(NORM.format("ones", "zeros"), tail="y = Mul (n, ones)", x="[N,2,H,2]"), WRONG_SHAPE),
    ],
)
def test_leaves_alone(text, reason):
    assert_rejects(PASS, text, reason)
