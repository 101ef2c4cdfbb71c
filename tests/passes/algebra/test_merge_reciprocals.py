from __future__ import annotations

import pytest

from graphopt.passes.algebra.merge_reciprocals import MAY_BE_NEGATIVE, NOT_FLOAT
from graphopt.testing import assert_rejects, assert_rewrites

PASS = "merge-reciprocals"
HEAD = "g (float[N] x, float[N] z) => (float[N] y)"


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("a = Reciprocal (z)  y = Mul (x, a)", "y = Div (x, z)"),
        ("a = Div (1.0, z)  y = Mul (a, x)", "y = Div (x, z)"),
        ("a = Reciprocal (z)  y = Div (x, a)", "y = Mul (x, z)"),
        ("a = Sub (x, z)  y = Neg (a)", "y = Sub (z, x)"),
        ("a = Relu (x)  y = Pow (a, 0.5)", "a = Relu (x)  y = Sqrt (a)"),
        ("a = Mul (x, x)  y = Pow (a, 0.5)", "a = Mul (x, x)  y = Sqrt (a)"),
        ("y = Pow (x, -1.0)", "y = Reciprocal (x)"),
    ],
)  # fmt: skip
def test_one_operator(before, after):
    assert_rewrites(PASS, f"{HEAD} {{ {before} }}", f"{HEAD} {{ {after} }}", exact=False)


@pytest.mark.parametrize(
    ("nodes", "reason"),
    [
        ("y = Pow (x, 0.5)", MAY_BE_NEGATIVE),
        ("a = Add (x, 1.0)  y = Pow (a, 0.5)", MAY_BE_NEGATIVE),
        ("a = Reciprocal (z)  b = Exp (a)  c = Mul (x, a)  y = Add (b, c)", None),
        ("a = Div (2.0, z)  y = Mul (x, a)", None),
    ],
)
def test_leaves_alone(nodes, reason):
    assert_rejects(PASS, f"{HEAD} {{ {nodes} }}", reason)


def test_integers_divide_in_another_way():
    head = "g (int32[N] x, int32[N] z) => (int32[N] y) <int32 one = {1}>"
    assert_rejects(PASS, f"{head} {{ a = Div (one, z)  y = Mul (x, a) }}", NOT_FLOAT)
