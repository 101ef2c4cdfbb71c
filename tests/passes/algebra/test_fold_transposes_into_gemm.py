from __future__ import annotations

import pytest

from graphopt.passes.algebra.fold_transposes_into_gemm import HAS_OTHER_CONSUMERS, NO_MATRICES
from graphopt.testing import assert_rejects, assert_rewrites

PASS = "fold-transposes-into-gemm"


@pytest.mark.parametrize(
    ("inputs", "before", "after", "opset"),
    [
        ("[2,N] x, float[2,3] w", "t = Transpose (x)  y = MatMul (t, w)", "<transA = 1> (x, w)", 18),
        ("[N,2] x, float[3,2] w", "t = Transpose (w)  y = MatMul (x, t)", "<transB = 1> (x, w)", 11),
        # Before opset 11 there must be something to add.
        ("[N,2] x, float[3,2] w", "t = Transpose (w)  y = MatMul (x, t)", "<transB = 1> (x, w, 0.0)", 9),
        (
            "[2,N] x, float[3,2] w, float[3] b",
            "s = Transpose (x)  t = Transpose <perm = [1,0]> (w)  y = Gemm <alpha = 0.5> (s, t, b)",
            "<alpha = 0.5, transA = 1, transB = 1> (x, w, b)",
            18,
        ),
        ("[N,2] x, float[2,3] w", "t = Transpose (x)  y = Gemm <transA = 1> (t, w)", "(x, w)", 18),
    ],
)
def test_transposes_become_flags(inputs, before, after, opset):
    head = f"g (float{inputs}) => (float[N,3] y)"
    sizes = [{"N": 2}, {"N": 1}]
    after = f"{head} {{ y = Gemm {after} }}"
    assert_rewrites(PASS, f"{head} {{ {before} }}", after, opset=opset, exact=False, sizes=sizes)


PRODUCT = "t = Transpose (x)  y = MatMul (t, w)"


@pytest.mark.parametrize(
    ("head", "nodes", "reason"),
    [
        ("(float[2,N] x, float[2,3] w) => (float[N,3] y, float[N,2] t)", PRODUCT, HAS_OTHER_CONSUMERS),
        ("(float[2,N] x, float[B,2,3] w) => (float[B,N,3] y)", PRODUCT, NO_MATRICES),
        ("(int32[2,N] x, int32[2,3] w) => (int32[N,3] y)", PRODUCT, NO_MATRICES),
        (
            "(float[N,2] x, float[2,3] w) => (float[N,3] y)",
            PRODUCT.replace("Transpose", "Transpose <perm = [0,1]>"),
            None,
        ),
    ],
)
def test_leaves_alone(head, nodes, reason):
    assert_rejects(PASS, f"g {head} {{ {nodes} }}", reason)
