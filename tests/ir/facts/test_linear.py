"""Facts of matrix products against runs."""

from __future__ import annotations

import numpy as np
import pytest

from tests.ir.facts.checking import check, facts_of, flops, one_node

SIZES = ({"B": 2, "M": 3, "K": 4, "N": 5}, {"B": 0, "M": 3, "K": 4, "N": 5}, {"B": 1, "M": 0, "K": 2, "N": 1})


@pytest.mark.parametrize(
    ("left", "right", "dims"),
    [
        ("float[M,K]", "float[K,N]", "M, N"),
        ("float[K]", "float[K,N]", "N"),
        ("float[M,K]", "float[K]", "M"),
        ("float[K]", "float[K]", ""),
        ("float[B,M,K]", "float[K,N]", "B, M, N"),
        ("float[M,K]", "float[B,K,N]", "B, M, N"),
        ("float[B,1,M,K]", "float[B,K,N]", None),
        ("float[B,3,M,K]", "float[1,3,K,N]", "B, 3, M, N"),
        ("float[K]", "float[B,K,N]", "B, N"),
        ("double[B,M,K]", "double[B,K]", None),
    ],
)
def test_matmul_is_numpys(left, right, dims):
    sizes = SIZES if dims is not None else ({"B": 1, "M": 3, "K": 1, "N": 2},)
    check("MatMul", [left, right], *sizes, dims=(dims,))


def test_matmul_counts_two_a_multiply_add():
    facts, node = facts_of(
        one_node("MatMul", ["float[B,8,16]", "float[16,4]"], opset=13, domain="", outputs=1)
    )
    assert str(flops(facts, node, 13)) == "1024*B"


@pytest.mark.parametrize("bias", [None, "float[N]", "float[1,N]", "float[M,1]", "float[]"])
@pytest.mark.parametrize(("turn_a", "turn_b"), [(0, 0), (0, 1), (1, 0), (1, 1)])
def test_gemm_transposes_either_side(bias, turn_a, turn_b):
    left = "float[K,M]" if turn_a else "float[M,K]"
    right = "float[N,K]" if turn_b else "float[K,N]"
    inputs = [left, right] if bias is None else [left, right, bias]
    check("Gemm", inputs, *SIZES, dims=("M, N",), transA=turn_a, transB=turn_b)


def test_gemm_of_unknown_ranks_still_has_rank_two():
    model = one_node("Gemm", ["float[A,B]", "float[C,D]"], opset=13, domain="", outputs=1)
    model.graph.input[1].type.tensor_type.ClearField("shape")
    facts, node = facts_of(model)
    dims = facts.dims(node.outputs[0])
    assert dims is not None and len(dims) == 2 and str(dims[0]) == "A"


def test_integer_products():
    check("MatMulInteger", ["uint8[B,M,K]", "int8[K,N]"], *SIZES[:2], dims=("B, M, N",))
    scale, zero = np.array(0.5, np.float32), np.array(1, np.uint8)
    signed = np.array(1, np.int8)
    inputs = ["uint8[B,M,K]", scale, zero, "int8[K,N]", scale, signed, scale, zero]
    check("QLinearMatMul", inputs, SIZES[0], dims=("B, M, N",))


@pytest.mark.parametrize(
    ("equation", "inputs", "dims"),
    [
        ("bij,bjk->bik", ["float[B,M,K]", "float[B,K,N]"], "B, M, N"),
        ("ij,jk", ["float[M,K]", "float[K,N]"], "M, N"),
        ("ki,jk", ["float[K,M]", "float[N,K]"], "M, N"),
        ("...ij,...jk->...ik", ["float[B,7,M,K]", "float[1,7,K,N]"], "B, 7, M, N"),
        ("...ij->...ji", ["float[B,7,M,K]"], "B, 7, K, M"),
        ("ij->", ["float[M,K]"], ""),
        ("i,j->ij", ["float[M]", "float[N]"], "M, N"),
        ("ii->i", ["float[M,M]"], "M"),
        ("b i j , b j k -> i b k", ["float[B,M,K]", "float[B,K,N]"], "M, B, N"),
        ("bij,bjk,bkl->bil", ["float[B,M,K]", "float[B,K,N]", "float[B,N,2]"], "B, M, 2"),
        ("ij,ij->ij", ["float[1,M]", "float[N,M]"], "N, M"),
    ],
)
def test_einsum(equation, inputs, dims):
    check("Einsum", inputs, SIZES[0], {"B": 1, "M": 2, "K": 2, "N": 3}, dims=(dims,), equation=equation)


def test_einsum_of_zero_sized_operands():
    check("Einsum", ["float[B,M,K]", "float[B,K,N]"], *SIZES, equation="bij,bjk->bik", judge="reference")


def test_det_drops_the_matrix():
    check("Det", ["float[B,3,3]"], SIZES[0], dims=("B",))
    check("Det", ["float[3,3]"], dims=("",))
