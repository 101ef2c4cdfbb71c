from __future__ import annotations

import pytest

from graphopt.passes.fusion.fuse_activations import ROUNDED
from graphopt.rewriting import HAS_OTHER_CONSUMERS
from graphopt.testing import assert_rejects, assert_rewrites

PASS = "fuse-activations"


def graph(body, wide="float"):
    constants = "".join(
        f"{name} = Constant <value = {wide} {{{value}}}> ()  "
        for name, value in (
            ("zero", "0.0"),
            ("one", "1.0"),
            ("minus", "-1.0"),
            ("a", "0.25"),
            ("b", "0.5"),
            ("third", "0.3"),
        )
    )
    return f"g ({wide}[N,3] x) => ({wide}[N,3] y) {{ {constants} {body} }}"


@pytest.mark.parametrize(
    ("parts", "after"),
    [
        (
            "c = Greater (x, zero)  e = Exp (x)  s = Sub (e, one)  y = Where (c, x, s)",
            "y = Elu <alpha = 1.0> (x)",
        ),
        (
            "c = GreaterOrEqual (x, zero)  e = Exp (x)  s = Add (minus, e)  t = Mul (a, s)  y = Where (c, x, t)",
            "y = Elu <alpha = 0.25> (x)",
        ),
        ("c = Greater (x, a)  y = Where (c, x, zero)", "y = ThresholdedRelu <alpha = 0.25> (x)"),
        ("c = Abs (x)  d = Add (one, c)  y = Div (x, d)", "y = Softsign (x)"),
        (
            "c = Mul (x, a)  d = Add (c, b)  y = Clip (d, zero, one)",
            "y = HardSigmoid <alpha = 0.25, beta = 0.5> (x)",
        ),
        ("d = Add (b, x)  y = Clip (d, zero, one)", "y = HardSigmoid <alpha = 1.0, beta = 0.5> (x)"),
    ],
)
def test_parts_become_one(parts, after):
    assert_rewrites(PASS, before=graph(parts), after=graph(after), exact=False, sizes=[{"N": 4}, {"N": 0}])


def test_bounds_as_attributes():
    assert_rewrites(
        PASS,
        before=graph("c = Mul (x, a)  d = Add (c, b)  y = Clip <min = 0.0, max = 1.0> (d)"),
        after=graph("y = HardSigmoid <alpha = 0.25, beta = 0.5> (x)"),
        opset=10,
        exact=False,
    )


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (graph("d = Add (third, x)  y = Clip (d, zero, one)", "double"), ROUNDED),
        (graph("c = Greater (x, third)  y = Where (c, x, zero)", "double"), ROUNDED),
        (graph("c = Less (x, zero)  e = Exp (x)  s = Sub (e, one)  y = Where (c, x, s)"), None),
        (graph("c = Greater (x, a)  y = Where (c, x, one)"), None),
        (graph("d = Add (b, x)  y = Clip (d, zero, a)"), None),
        (graph("d = Add (b, x)  y = Clip (d, zero)"), None),
        (graph("c = Abs (x)  d = Add (one, c)  e = Div (x, d)  y = Add (e, c)"), HAS_OTHER_CONSUMERS),
        (graph("e = Exp (x)  d = Add (e, one)  y = Log (d)"), None),
    ],
)
def test_leaves_alone(text, reason):
    assert_rejects(PASS, text, reason)
