from __future__ import annotations

import pytest

from graphopt.passes.algebra.move_biases_above_reshapes import NOT_OVER_COLUMNS
from graphopt.testing import assert_rejects, assert_rewrites

PASS = "move-biases-above-reshapes"
HEAD = "(float[B,S,2] x) => (float[B,S,2,2] y)"
W = "float[2,4] w = {1, 2, 3, 4, 5, 6, 7, 8}"
PARTED = "a = MatMul (x, w)  r = Reshape (a, [0, 0, 2, 2])"


@pytest.mark.parametrize(
    ("shape", "values", "vector"),
    [
        ("2,2", "1,2,3,4", "1,2,3,4"),
        ("1,1,2,2", "1,2,3,4", "1,2,3,4"),
        ("2", "1,2", "1,2,1,2"),
        ("2,1", "1,2", "1,1,2,2"),
    ],
)
@pytest.mark.parametrize("operator", ["Add", "Mul"])
def test_bias_of_heads(shape, values, vector, operator):
    assert_rewrites(
        PASS,
        f"g {HEAD} <{W}, float[{shape}] b = {{{values}}}> {{ {PARTED}  y = {operator} (b, r) }}",
        f"g {HEAD} <{W}, float[4] b = {{{vector}}}> "
        f"{{ a = MatMul (x, w)  c = {operator} (a, b)  y = Reshape (c, [0, 0, 2, 2]) }}",
        sizes=[{"B": 2, "S": 3}, {"B": 0, "S": 3}],
    )


@pytest.mark.parametrize(
    "bias",
    [
        # A value a row, a number, a constant that makes the value larger.
        "float[3,1,1] b = {1, 2, 3}",
        "float b = {1}",
        "float[1,1,1,2,2] b = {1, 2, 3, 4}",
    ],
)
def test_leaves_alone(bias):
    head = "(float[B,3,2] x) => (float[B,3,2,2] y)"
    if "1,1,1,2,2" in bias:
        head = head.replace("=> (float[", "=> (float[1,")
    assert_rejects(PASS, f"g {head} <{W}, {bias}> {{ {PARTED}  y = Add (r, b) }}", NOT_OVER_COLUMNS)


def test_columns_parted_among_the_rows():
    head = "(float[B,S,2] x) => (float[B,R,2] y)"
    nodes = "a = MatMul (x, w)  r = Reshape (a, [0, -1, 2])  y = Add (r, b)"
    assert_rejects(PASS, f"g {head} <{W}, float[2] b = {{1, 2}}> {{ {nodes} }}", NOT_OVER_COLUMNS)
