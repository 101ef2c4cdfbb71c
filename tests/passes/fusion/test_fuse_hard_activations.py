from __future__ import annotations

import pytest

from graphopt.rewriting import HAS_OTHER_CONSUMERS, NEEDS_OPSET
from graphopt.testing import assert_rejects, assert_rewrites

PASS = "fuse-hard-activations"


def graph(body):
    constants = "".join(
        f"{name} = Constant <value = float {{{value}}}> ()  "
        for name, value in (
            ("zero", "0.0"),
            ("three", "3.0"),
            ("six", "6.0"),
            ("sixth", "0.16666667"),
            ("one", "1.0"),
        )
    )
    return f"g (float[N,3] x) => (float[N,3] y) {{ {constants} {body} }}"


CLIP = "c = Add (x, three)  d = Clip (c, zero, six)  "
SIGMOID = "HardSigmoid <alpha = 0.16666666666666666, beta = 0.5>"


@pytest.mark.parametrize("last", ["y = Div (d, six)", "y = Mul (sixth, d)"])
def test_hard_sigmoid(last):
    assert_rewrites(PASS, before=graph(CLIP + last), after=graph(f"y = {SIGMOID} (x)"), exact=False, opset=13)


@pytest.mark.parametrize(
    "parts",
    [
        CLIP + "e = Mul (x, d)  y = Div (e, six)",
        CLIP + "e = Mul (d, x)  y = Mul (e, sixth)",
        CLIP + "e = Mul (x, sixth)  y = Mul (e, d)",
        CLIP + "e = Div (d, six)  y = Mul (x, e)",
        f"e = {SIGMOID} (x)  y = Mul (e, x)",
    ],
)
@pytest.mark.parametrize("opset", [13, 14, 18])
def test_hard_swish(parts, opset):
    assert_rewrites(
        PASS,
        before=graph(parts),
        after=graph("y = HardSwish (x)"),
        opset=opset,
        raised_to=None if opset >= 14 else 23,
        exact=False,
        sizes=[{"N": 2}, {"N": 0}],
    )


def test_mish():
    parts = "s = Softplus (x)  t = Tanh (s)  y = Mul (t, x)"
    assert_rewrites(PASS, before=graph(parts), after=graph("y = Mish (x)"), opset=18, exact=False)
    assert_rejects(PASS, graph(parts), NEEDS_OPSET, opset=17)


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (CLIP.replace("three", "one") + "y = Div (d, six)", None),
        (CLIP.replace("six", "one") + "y = Div (d, six)", None),
        (CLIP + "y = Div (d, three)", None),
        (CLIP + "e = Div (d, six)  y = Mul (e, d)", None),
        (CLIP + "e = Div (d, six)  y = Add (e, d)", HAS_OTHER_CONSUMERS),
        ("s = Softplus (x)  t = Tanh (s)  y = Mul (t, s)", None),
    ],
)
def test_leaves_alone(body, reason):
    assert_rejects(PASS, graph(body), reason)
