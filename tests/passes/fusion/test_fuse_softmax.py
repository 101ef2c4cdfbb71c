from __future__ import annotations

import pytest

from graphopt.passes.fusion.fuse_softmax import NOT_ONE_AXIS
from graphopt.rewriting import HAS_OTHER_CONSUMERS
from graphopt.testing import assert_rejects, assert_rewrites

PASS = "fuse-softmax"
SIZES = [{"N": 2}, {"N": 0}, {"N": 1}]


def graph(body, x="[N,3,4]"):
    return f"g (float{x} x) => (float{x} y) {{ {body} }}"


def parts(axis, end="y = Div (e, s)", tops="[{0}]", sums="[{0}]"):
    return (
        f"m = ReduceMax (x, {tops.format(axis)})  d = Sub (x, m)  e = Exp (d)  "
        f"s = ReduceSum (e, {sums.format(axis)})  {end}"
    )


@pytest.mark.parametrize(("axis", "written"), [(-1, -1), (2, -1), (1, 1), (0, 0)])
@pytest.mark.parametrize(
    ("end", "operator"),
    [
        ("y = Div (e, s)", "Softmax"),
        ("r = Reciprocal (s)  y = Mul (r, e)", "Softmax"),
        ("l = Log (s)  y = Sub (d, l)", "LogSoftmax"),
    ],
)
def test_parts_become_one(axis, written, end, operator):
    x = "[3,N,4]" if axis == 0 else "[N,3,4]"
    assert_rewrites(
        PASS,
        before=graph(parts(axis, end), x),
        after=graph(f"y = {operator} <axis = {written}> (x)", x),
        exact=False,
        sizes=SIZES,
    )


@pytest.mark.parametrize("opset", [11, 13, 17])
def test_axes_as_an_attribute(opset):
    sums = "s = ReduceSum <axes = [2]> (e)" if opset < 13 else "s = ReduceSum (e, [2])"
    assert_rewrites(
        PASS,
        before=graph(f"m = ReduceMax <axes = [2]> (x)  d = Sub (x, m)  e = Exp (d)  {sums}  y = Div (e, s)"),
        after=graph("y = Softmax <axis = -1> (x)"),
        opset=opset,
        raised_to=23 if opset < 13 else None,
        exact=False,
    )


def test_axes_dropped_and_put_back():
    assert_rewrites(
        PASS,
        before=graph(
            "m = ReduceMax <keepdims = 0> (x, [2])  t = Unsqueeze (m, [2])  d = Sub (x, t)  e = Exp (d)  "
            "s = ReduceSum <keepdims = 0> (e, [2])  u = Reshape (s, [0,3,1])  y = Div (e, u)"
        ),
        after=graph("y = Softmax <axis = -1> (x)"),
        exact=False,
    )


def test_less_the_logarithm_of_the_sum_of_exponentials():
    assert_rewrites(
        PASS,
        before=graph("l = ReduceLogSumExp (x, [1])  y = Sub (x, l)"),
        after=graph("y = LogSoftmax <axis = 1> (x)"),
        exact=False,
    )


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (graph(parts(2, sums="[1]")), NOT_ONE_AXIS),
        (graph(parts(2, tops="[1,2]")), NOT_ONE_AXIS),
        (graph(parts("1,2")), NOT_ONE_AXIS),
        (
            graph(parts(1).replace("(x, [1])", "<keepdims = 0> (x, [1])").replace("Max (", "Max ("), "[4,4]"),
            None,
        ),
        (graph(parts(2, end="y = Div (d, s)")), None),
        (graph("e = Exp (x)  s = ReduceSum (e, [2])  y = Div (e, s)"), None),
        (graph("l = ReduceLogSumExp <keepdims = 0> (x, [1])  y = Sub (x, l)", "[4,4]"), NOT_ONE_AXIS),
        (graph(parts(2, end="z = Div (e, s)  y = Add (z, e)")), HAS_OTHER_CONSUMERS),
    ],
)
def test_leaves_alone(text, reason):
    assert_rejects(PASS, text.replace("ReduceMax (x, <keep", "ReduceMax <keep"), reason)


def test_in_a_branch():
    text = (
        "g (float[N,4] x, bool c) => (float[N,4] y) {{ y = If (c) <then_branch = t () => (float[N,4] u) "
        "{{ {body} }}, else_branch = f () => (float[N,4] z) {{ z = Abs (x) }}> }}"
    )
    assert_rewrites(
        PASS,
        before=text.format(body=parts(-1, "u = Div (e, s)")),
        after=text.format(body="u = Softmax <axis = -1> (x)"),
        exact=False,
    )
