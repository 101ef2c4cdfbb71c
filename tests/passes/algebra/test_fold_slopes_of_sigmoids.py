from __future__ import annotations

import pytest

from graphopt.passes.algebra.fold_slopes_of_sigmoids import NOT_TAKEN
from graphopt.testing import assert_rejects, assert_rewrites

PASS = "fold-slopes-of-sigmoids"
HEAD = "(float[N,L,2] x) => (float[N,L,2] y)"
CONSTANTS = "float[2,2] v = {1, 2, 3, 4}, float[2] b = {4, 8}, float[2,2] w = {4, 8, 12, 16}"
UP = "m = MatMul (x, v)  a = Add (m, b)"


def test_slope_goes_both_ways():
    assert_rewrites(
        PASS,
        f"g {HEAD} <{CONSTANTS}> {{ {UP}  c = Mul (a, 2.0)  s = Sigmoid (c)  g = Mul (s, a)  y = MatMul (g, w) }}",
        f"g {HEAD} <float[2,2] v = {{2, 4, 6, 8}}, float[2] b = {{8, 16}}, float[2,2] w = {{2, 4, 6, 8}}> "
        f"{{ {UP}  s = Sigmoid (a)  g = Mul (a, s)  y = MatMul (g, w) }}",
        exact=False,
        sizes=[{"N": 2, "L": 3}, {"N": 0, "L": 1}],
    )


@pytest.mark.parametrize(
    "nodes",
    [
        f"{UP}  c = Mul (a, 2.0)  s = Sigmoid (c)  y = Mul (s, a)",
        f"{UP}  c = Mul (a, 2.0)  s = Sigmoid (c)  g = Mul (s, a)  p = MatMul (g, w)  y = Add (p, a)",
        "c = Mul (x, 2.0)  s = Sigmoid (c)  g = Mul (s, x)  y = MatMul (g, w)",
    ],
)
def test_leaves_alone(nodes):
    assert_rejects(PASS, f"g {HEAD} <{CONSTANTS}> {{ {nodes} }}", NOT_TAKEN)


@pytest.mark.parametrize("slope", ["-2.0", "100.0"])
def test_slope_that_is_none(slope):
    nodes = f"{UP}  c = Mul (a, {slope})  s = Sigmoid (c)  g = Mul (s, a)  y = MatMul (g, w)"
    assert_rejects(PASS, f"g {HEAD} <{CONSTANTS}> {{ {nodes} }}")
