from __future__ import annotations

import pytest

from graphopt.passes.algebra.cancel_signs import MAY_BE_NAN
from graphopt.testing import assert_rejects, assert_rewrites

PASS = "cancel-signs"
HEAD = "g (float[N] x, float[N] z) => (float[N] y)"


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("a = Neg (x)  b = Neg (a)  y = Exp (b)", "y = Exp (x)"),
        ("a = Neg (x)  b = Neg (a)  c = Exp (b)  y = Div (a, c)", "a = Neg (x)  c = Exp (x)  y = Div (a, c)"),
        ("a = Neg (z)  y = Add (a, x)", "y = Sub (x, z)"),
        ("a = Neg (z)  y = Sub (x, a)", "y = Add (x, z)"),
        ("a = Neg (x)  b = Neg (z)  y = Mul (a, b)", "y = Mul (x, z)"),
        ("a = Neg (x)  y = Abs (a)", "y = Abs (x)"),
        ("a = Sigmoid (x)  b = Abs (a)  y = Exp (b)", "a = Sigmoid (x)  y = Exp (a)"),
        ("a = Floor (x)  b = Round (a)  y = Exp (b)", "a = Floor (x)  y = Exp (a)"),
        ("a = Abs (x)  b = Abs (a)  y = Exp (b)", "a = Abs (x)  y = Exp (a)"),
        ("c = Less (x, z)  d = Not (c)  y = Where (d, x, z)", "c = Less (x, z)  y = Where (c, z, x)"),
    ],
)
def test_signs_cancel(before, after):
    assert_rewrites(PASS, f"{HEAD} {{ {before} }}", f"{HEAD} {{ {after} }}", sizes=[{"N": 3}, {"N": 0}])


@pytest.mark.parametrize(("one", "other"), [("Less", "GreaterOrEqual"), ("GreaterOrEqual", "Less")])
def test_opposite_of_integers(one, other):
    head = "g (int64[N] x, int64[N] z) => (bool[N] y)"
    assert_rewrites(PASS, f"{head} {{ a = {one} (x, z)  y = Not (a) }}", f"{head} {{ y = {other} (x, z) }}")


def test_opposite_of_floats_is_not_that_with_nan():
    head = "g (float[N] x, float[N] z) => (bool[N] y)"
    assert_rejects(PASS, f"{head} {{ a = Less (x, z)  y = Not (a) }}", MAY_BE_NAN)


@pytest.mark.parametrize(
    "nodes",
    [
        "a = Neg (z)  b = Exp (a)  c = Add (x, a)  y = Mul (b, c)",
        "a = Tanh (x)  y = Abs (a)",
        # Both hand -0.0 through, and Abs does not.
        "a = Relu (x)  y = Abs (a)",
        "a = Sqrt (x)  y = Abs (a)",
        "a = Neg (x)  b = Exp (a)  y = Neg (b)",
    ],
)
def test_leaves_alone(nodes):
    assert_rejects(PASS, f"{HEAD} {{ {nodes} }}")
