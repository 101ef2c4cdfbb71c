from __future__ import annotations

import pytest

from graphopt.passes.algebra.convert_einsum import MAY_BROADCAST, NOT_FLOAT, NOT_ONE_OPERATOR
from graphopt.testing import assert_rejects, assert_rewrites

PASS = "convert-einsum"


def einsum(equation, inputs="x, z"):
    return f'y = Einsum <equation = "{equation}"> ({inputs})'


@pytest.mark.parametrize(
    ("inputs", "equation", "after"),
    [
        ("float[B,2,3] x, float[B,3,4] z) => (float[B,2,4] y)", "bij,bjk->bik", "y = MatMul (x, z)"),
        ("float[B,2,3] x, float[B,3,4] z) => (float[B,2,4] y)", "...ij,...jk->...ik", "y = MatMul (x, z)"),
        ("float[B,2,3] x, float[B,3,4] z) => (float[B,2,4] y)", "bij, bjk", None),
        ("float[3,4] x, float[B,2,3] z) => (float[B,2,4] y)", "jk,bij->bik", "y = MatMul (z, x)"),
        ("float[B,2,3] x, float[B,2,3] z) => (float[B,2,3] y)", "bij,bij->bij", "y = Mul (x, z)"),
    ],
)  # fmt: skip
def test_two_operands(inputs, equation, after):
    head = f"g ({inputs}"
    if after is None:
        # Without an arrow the result's letters are in the order of the alphabet: i, then k, b is summed.
        assert_rejects(
            PASS, f"{head.replace('[B,2,4] y', '[2,4] y')} {{ {einsum(equation)} }}", NOT_ONE_OPERATOR
        )
        return
    sizes = [{"B": 2}, {"B": 1}]
    assert_rewrites(
        PASS, f"{head} {{ {einsum(equation)} }}", f"{head} {{ {after} }}", exact=False, sizes=sizes
    )


@pytest.mark.parametrize(
    ("heads", "equation", "after"),
    [
        ("(float[B,2,3] x) => (float[3,B,2] y)", "bij->jbi", "y = Transpose <perm = [2,0,1]> (x)"),
        ("(float[B,2,3] x) => (float[B,3] y)", "bij->bj", "y = ReduceSum <keepdims = 0> (x, [1])"),
        ("(float[B,2,3] x) => (float[B] y)", "bij->b", None),
    ],
)
def test_one_operand(heads, equation, after):
    after = after or "y = ReduceSum <keepdims = 0> (x, [1,2])"
    assert_rewrites(PASS, f"g {heads} {{ {einsum(equation, 'x')} }}", f"g {heads} {{ {after} }}", exact=False)


def test_constant_is_put_in_order():
    head = "(float[B,S,2] x) => (float[B,S,3] y)"
    assert_rewrites(
        PASS,
        f"g {head} <float[3,2] w = {{1,2,3,4,5,6}}> {{ {einsum('bsd,hd->bsh', 'x, w')} }}",
        f"g {head} <float[2,3] w = {{1,3,5,2,4,6}}> {{ y = MatMul (x, w) }}",
        exact=False,
        sizes=[{"B": 2, "S": 3}, {"B": 0, "S": 3}],
    )


def test_keys_by_rows_for_onnxruntime():
    head = "(float[B,H,N,2] x, float[B,H,M,2] z) => (float[B,H,N,M] y)"
    options = {"target": "onnxruntime", "domains": {"com.microsoft": 1}}
    assert_rewrites(
        PASS,
        f"g {head} {{ {einsum('bhid,bhjd->bhij')} }}",
        f"g {head} {{ y = com.microsoft.FusedMatMul <transB = 1> (x, z) }}",
        exact=False,
        **options,
    )
    assert_rejects(PASS, f"g {head} {{ {einsum('bhid,bhjd->bhij')} }}", NOT_ONE_OPERATOR)


@pytest.mark.parametrize(
    ("head", "equation", "reason"),
    [
        ("(float[B,2,J] x, float[B,K,4] z) => (float[B,2,4] y)", "bij,bjk->bik", MAY_BROADCAST),
        ("(float[2,3] x, float[4,3] z) => (float[4,2] y)", "ij,kj->ki", NOT_ONE_OPERATOR),
        ("(float[2] x, float[3] z) => (float[2,3] y)", "i,j->ij", NOT_ONE_OPERATOR),
        ("(float[2,3,4] x, float[3,4,5] z) => (float[2,5] y)", "ijk,jkl->il", NOT_ONE_OPERATOR),
        ("(float[3,3] x, float[3,4] z) => (float[3,4] y)", "ii,ij->ij", NOT_ONE_OPERATOR),
        ("(int32[2,3] x, int32[3,4] z) => (int32[2,4] y)", "ij,jk->ik", NOT_FLOAT),
    ],
)
def test_leaves_alone(head, equation, reason):
    assert_rejects(PASS, f"g {head} {{ {einsum(equation)} }}", reason)
