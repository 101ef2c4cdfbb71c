from __future__ import annotations

import pytest

from graphopt.passes.algebra.fuse_transposes_into_matmul import HAS_OTHER_CONSUMERS, NO_KERNEL
from graphopt.testing import assert_rejects, assert_rewrites

PASS = "fuse-transposes-into-matmul"
OPTIONS = {"target": "onnxruntime", "domains": {"com.microsoft": 1}}
HEAD = "(float[B,N,4] x, float[B,M,4] z) => (float[B,N,M] y)"
T = "t = Transpose <perm = [0,2,1]> (z)"


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (f"{T}  y = MatMul (x, t)", "<transB = 1> (x, z)"),
        (f"{T}  p = MatMul (x, t)  y = Div (p, 2.0)", "<alpha = 0.5, transB = 1> (x, z)"),
        (f"s = Mul (x, 4.0)  {T}  p = MatMul (s, t)  y = Mul (0.5, p)", "<alpha = 2.0, transB = 1> (x, z)"),
    ],
)
def test_transposes_and_factors(before, after):
    assert_rewrites(
        PASS,
        f"g {HEAD} {{ {before} }}",
        f"g {HEAD} {{ y = com.microsoft.FusedMatMul {after} }}",
        exact=False,
        sizes=[{"B": 2, "N": 3, "M": 5}, {"B": 1, "N": 0, "M": 1}],
        **OPTIONS,
    )


def test_two_transposes_of_one_operand_cancel():
    assert_rewrites(
        PASS,
        f"g {HEAD} {{ {T}  u = Transpose <perm = [0,2,1]> (t)  v = Transpose <perm = [0,2,1]> (u)  "
        "y = MatMul (x, v) }",
        f"g {HEAD} {{ y = com.microsoft.FusedMatMul <transB = 1> (x, z) }}",
        exact=False,
        **OPTIONS,
    )


@pytest.mark.parametrize(
    ("head", "nodes", "reason"),
    [
        (HEAD, f"{T}  e = Exp (t)  p = MatMul (x, t)  q = MatMul (x, e)  y = Add (p, q)", HAS_OTHER_CONSUMERS),
        (HEAD.replace("float[", "double["), f"{T}  y = MatMul (x, t)", NO_KERNEL),
        (HEAD, "t = Transpose <perm = [2,1,0]> (z)  y = MatMul (x, t)", None),
        (HEAD, "t = Transpose <perm = [0,2,1]> (z)  e = Exp (t)  p = MatMul (x, e)  y = Div (2.0, p)", None),
        ("(float[4] x, float[M,4] z) => (float[M] y)", "t = Transpose (z)  y = MatMul (x, t)", NO_KERNEL),
    ],
)  # fmt: skip
def test_leaves_alone(head, nodes, reason):
    assert_rejects(PASS, f"g {head} {{ {nodes} }}", reason, **OPTIONS)
