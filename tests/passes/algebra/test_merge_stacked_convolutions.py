from __future__ import annotations

import pytest

from graphopt.passes.algebra.merge_stacked_convolutions import NOT_ALIKE, NOT_CONSTANT
from graphopt.testing import assert_rejects, assert_rewrites

PASS = "merge-stacked-convolutions"
HEAD = "(float[N,1,L] x) => (float[N,C,M] y)"
W = "float[1,1,2] v = {1,2}, float[2,1,2] w = {3,4,5,6}, float[1,1,3] u = {1,2,3}"


@pytest.mark.parametrize(
    ("inputs", "bias"),
    [(("x, v", "x, w"), ""), (("x, v", "x, w, b"), ", float[3] c = {0,7,8}")],
)
def test_results_are_stacked(inputs, bias):
    first, second = (f"Conv <pads = [1,0]> ({given})" for given in inputs)
    assert_rewrites(
        PASS,
        f"g {HEAD} <{W}, float[2] b = {{7,8}}> {{ a = {first}  d = {second}  y = Concat <axis = 1> (a, d) }}",
        f"g {HEAD} <float[3,1,2] s = {{1,2,3,4,5,6}}{bias}> "
        f"{{ y = Conv <pads = [1,0]> (x, s{', c' if bias else ''}) }}",
        exact=False,
        sizes=[{"N": 2, "L": 4}, {"N": 0, "L": 4}],
    )


@pytest.mark.parametrize(
    ("nodes", "reason"),
    [
        ("a = Conv (x, v)  d = Conv <pads = [1,0]> (x, u)  y = Concat <axis = 1> (a, d)", NOT_ALIKE),
        ("r = Relu (x)  a = Conv (x, v)  d = Conv (r, w)  y = Concat <axis = 1> (a, d)", NOT_ALIKE),
        (
            "a = Conv (x, v)  d = Conv (x, w)  e = Concat <axis = 1> (a, d)  f = Exp (a)  y = Add (e, f)",
            NOT_ALIKE,
        ),
        ("a = Conv (x, v)  d = Conv (x, z)  y = Concat <axis = 1> (a, d)", NOT_ALIKE),
        ("a = Conv (x, v, t)  d = Conv (x, w)  y = Concat <axis = 1> (a, d)", NOT_CONSTANT),
        ("a = Conv (x, v)  d = Conv (x, v)  y = Concat <axis = 2> (a, d)", None),
    ],
)
def test_leaves_alone(nodes, reason):
    head = HEAD.replace(") =>", ", float[2,1,2] z, float[1] t) =>")
    assert_rejects(PASS, f"g {head} <{W}> {{ {nodes} }}", reason)
