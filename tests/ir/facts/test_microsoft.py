"""Facts of onnxruntime's other operators against runs."""

from __future__ import annotations

import numpy as np
import pytest

from tests.ir.facts.checking import check, facts_of, flops, one_node

SIZES = ({"B": 2, "M": 3, "K": 4, "N": 5}, {"B": 0, "M": 3, "K": 4, "N": 5}, {"B": 1, "M": 1, "K": 2, "N": 1})
MICROSOFT = {"domain": "com.microsoft"}


@pytest.mark.parametrize("turn_a", [0, 1])
@pytest.mark.parametrize("turn_b", [0, 1])
def test_fused_matmul(turn_a, turn_b):
    left = "float[B,7,K,M]" if turn_a else "float[B,7,M,K]"
    right = "float[B,7,N,K]" if turn_b else "float[B,7,K,N]"
    turned = {"transA": turn_a, "transB": turn_b}
    check("FusedMatMul", [left, right], *SIZES, **MICROSOFT, dims=("B, 7, M, N",), **turned)


@pytest.mark.parametrize("turn_a", [0, 1])
@pytest.mark.parametrize("turn_b", [0, 1])
def test_fused_matmul_with_the_batch_inside(turn_a, turn_b):
    left = "float[K,B,7,M]" if turn_a else "float[M,B,7,K]"
    right = "float[N,B,7,K]" if turn_b else "float[K,B,7,N]"
    turned = {"transA": turn_a, "transB": turn_b, "transBatchA": 1, "transBatchB": 1}
    check("FusedMatMul", [left, right], SIZES[0], SIZES[2], **MICROSOFT, dims=("B, 7, M, N",), **turned)


def test_fused_products():
    check(
        "FusedGemm",
        ["float[M,K]", "float[N,K]", "float[N]"],
        SIZES[0],
        **MICROSOFT,
        dims=("M, N",),
        transB=1,
        activation="Relu",
    )
    check(
        "FusedConv",
        ["float[B,2,M,M]", np.ones((4, 2, 2, 2), np.float32)],
        SIZES[0],
        **MICROSOFT,
        dims=("B, 4, M - 1, M - 1",),
        activation="Relu",
    )


def test_quantized_products():
    scale, zero = np.array(0.1, np.float32), np.array(3, np.uint8)
    check(
        "DynamicQuantizeMatMul",
        ["float[B,M,K]", "uint8[K,N]", scale, zero],
        SIZES[0],
        **MICROSOFT,
        dims=("B, M, N",),
    )
    inputs = ["uint8[B,M,K]", "uint8[K,N]", scale, scale, zero, zero]
    check("MatMulIntegerToFloat", inputs, SIZES[0], **MICROSOFT, dims=("B, M, N",))
    check("MatMulInteger16", ["int16[M,K]", "int16[K,N]"], SIZES[0], **MICROSOFT, dims=("M, N",))
    gemm = ["uint8[M,K]", scale, zero, "uint8[N,K]", scale, zero, None]
    check("QGemm", [*gemm, scale, zero], SIZES[0], **MICROSOFT, dims=("M, N",), transB=1)
    check("QGemm", gemm, SIZES[0], **MICROSOFT, dims=("M, N",), transB=1)


def test_packed_weights():
    weight, scales = np.zeros((6, 1, 16), np.uint8), np.ones(6, np.float32)
    attributes = {"K": 32, "N": 6, "bits": 4, "block_size": 32}
    check(
        "MatMulNBits",
        ["float[B,M,32]", weight, scales],
        SIZES[0],
        **MICROSOFT,
        dims=("B, M, 6",),
        **attributes,
    )


@pytest.mark.parametrize("op", ["Gelu", "QuickGelu", "FastGelu"])
def test_activations(op):
    check(op, ["float[B,M,N]"], *SIZES, **MICROSOFT, dims=("B, M, N",))


def test_activations_with_a_bias():
    check("BiasGelu", ["float[B,M,N]", "float[N]"], SIZES[0], **MICROSOFT, dims=("B, M, N",))
    check("FastGelu", ["float[B,M,N]", "float[N]"], SIZES[0], **MICROSOFT, dims=("B, M, N",))


@pytest.mark.parametrize("op", ["SkipLayerNormalization", "SkipSimplifiedLayerNormalization"])
def test_skip_normalizations(op):
    dims = ("B, M, N", "B, M, 1", "B, M, 1", "B, M, N")
    inputs = ["float[B,M,N]", "float[B,M,N]", "float[N]"]
    check(op, inputs, SIZES[0], **MICROSOFT, dims=dims[:1])
    names = 4 if op == "SkipLayerNormalization" else 1
    check(op, inputs, SIZES[0], **MICROSOFT, outputs=names, dims=dims[:names])


def test_pairs():
    check("CDist", ["float[M,K]", "float[N,K]"], SIZES[0], **MICROSOFT, dims=("M, N",), metric="euclidean")
    check("Inverse", ["float[B,1,1]"], SIZES[0], **MICROSOFT, dims=("B, 1, 1",))


@pytest.mark.parametrize(
    ("op", "inputs", "described"),
    [
        ("BiasSplitGelu", ["half[B,M,64]", "half[64]"], "float16[B, M, 32]"),
        ("SwiGLU", ["float[B,64]"], "float32[B, 32]"),
        ("SwiGLU", ["float[B,64]", "float[B,64]"], "float32[B, 64]"),
        ("ComplexMul", ["float[B,M,2]", "float[1,M,2]"], "float32[B, M, 2]"),
        ("NhwcConv", ["float[B,M,N,3]", "float[8,3,2,2]"], "float32[B, M - 1, N - 1, 8]"),
        ("MoE", ["float[B,M]", "float[B,4]"], "float32[B, M]"),
        ("GroupNorm", ["half[B,M,M,8]", "float[8]", "float[8]"], "float16[B, M, M, 8]"),
    ],
)
def test_operators_without_a_kernel_for_cpus(op, inputs, described):
    attributes = {"kernel_shape": [2, 2]} if op == "NhwcConv" else {}
    facts, node = facts_of(one_node(op, inputs, opset=17, outputs=1, **MICROSOFT, **attributes))
    assert facts.describe(node.outputs[0]) == described


@pytest.mark.parametrize(
    ("op", "inputs", "attributes", "counted"),
    [
        ("FusedMatMul", ["float[B,8,16]", "float[4,16]"], {"transB": 1}, 2 * 8 * 16 * 4),
        ("MatMulNBits", ["float[B,32]", "uint8[6,1,16]", "float[6]"], {"K": 32, "N": 6}, 2 * 32 * 6),
        ("QGemm", ["uint8[B,4]", "float[]", "uint8[]", "uint8[4,5]", "float[]", "uint8[]"], {}, 2 * 4 * 5),
        ("Gelu", ["float[B,7]"], {}, 7),
        ("QLinearGlobalAveragePool", ["uint8[B,3,4,5]"] + ["float[]", "uint8[]"] * 2, {}, 60),
    ],
)
def test_flops(op, inputs, attributes, counted):
    facts, node = facts_of(one_node(op, inputs, opset=17, outputs=1, **MICROSOFT, **attributes))
    assert str(flops(facts, node, 17)) == f"{counted}*B"
