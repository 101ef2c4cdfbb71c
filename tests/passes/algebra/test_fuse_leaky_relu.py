from __future__ import annotations

import pytest

from graphopt.passes.algebra.fuse_leaky_relu import NO_SLOPE, NOT_BETWEEN
from graphopt.testing import assert_rejects, assert_rewrites

PASS = "fuse-leaky-relu"
HEAD = "(float[N,2,L] x) => (float[N,2,L] y)"
S = "float[2,1] s = {0.25, 3}"
PARTS = "p = Relu (x)  n = Neg (x)  q = Relu (n)  r = Mul (q, s)"
PRELU = "y = PRelu (x, s)"


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (f"{PARTS}  y = Sub (p, r)", PRELU),
        (f"{PARTS.replace('s)', 't)')}  y = Add (r, p)", PRELU),
        ("c = Greater (x, 0.0)  r = Mul (s, x)  y = Where (c, x, r)", PRELU),
        ("c = GreaterOrEqual (x, 0.0)  r = Mul (x, -2.0)  y = Where (c, x, r)",
         "y = LeakyRelu <alpha = -2.0> (x)"),
        ("r = Mul (x, 0.5)  y = Max (x, r)", "y = LeakyRelu <alpha = 0.5> (x)"),
        ("r = Mul (x, 0.5)  y = Max (r, x)", "y = LeakyRelu <alpha = 0.5> (x)"),
    ],
)  # fmt: skip
def test_parts_become_one(before, after):
    constants = f"{S}, float[2,1] t = {{-0.25, -3}}"
    assert_rewrites(
        PASS,
        f"g {HEAD} <{constants}> {{ {before} }}",
        f"g {HEAD} <{S}> {{ {after} }}",
        sizes=[{"N": 2}, {"N": 0}],
    )


@pytest.mark.parametrize(
    ("nodes", "reason"),
    [
        ("r = Mul (x, 1.5)  y = Max (x, r)", NOT_BETWEEN),
        ("r = Mul (x, 0.0)  y = Max (x, r)", NOT_BETWEEN),
        ("c = Greater (x, 0.0)  r = Mul (x, u)  y = Where (c, x, r)", NO_SLOPE),
        ("c = Greater (x, 1.0)  r = Mul (x, s)  y = Where (c, x, r)", None),
        ("c = Less (x, 0.0)  r = Mul (x, s)  y = Where (c, x, r)", None),
        ("p = Relu (x)  n = Neg (p)  q = Relu (n)  r = Mul (q, s)  y = Sub (p, r)", None),
    ],
)
def test_leaves_alone(nodes, reason):
    head = HEAD.replace(") =>", ", float[2,1] u) =>")
    assert_rejects(PASS, f"g {head} <{S}> {{ {nodes} }}", reason)


def test_slope_that_makes_the_value_larger():
    head = "(float[N,1,L] x) => (float[N,2,L] y)"
    nodes = "c = Greater (x, 0.0)  r = Mul (x, s)  y = Where (c, x, r)"
    assert_rejects(PASS, f"g {head} <{S}> {{ {nodes} }}", NO_SLOPE)
