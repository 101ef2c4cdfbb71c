"""Facts of attention, standard and onnxruntime's, against runs."""

from __future__ import annotations

import numpy as np
import pytest

from tests.ir.facts.checking import Runtime, check, facts_of, flops, one_node

SIZES = ({"B": 2, "S": 3, "K": 5, "P": 4}, {"B": 1, "S": 1, "K": 2, "P": 0})


def test_attention_of_separate_heads():
    inputs = ["float[B,6,S,8]", "float[B,2,K,8]", "float[B,2,K,10]"]
    check("Attention", inputs, *SIZES, opset=23, judge="reference", dims=("B, 6, S, 10",))
    caches = [None, "float[B,2,P,8]", "float[B,2,P,10]"]
    dims = ("B, 6, S, 10", "B, 2, P + K, 8", "B, 2, P + K, 10", "B, 6, S, P + K")
    dims = tuple(text.replace("P + K", "K + P") for text in dims)
    check("Attention", [*inputs, *caches], *SIZES, opset=23, outputs=4, judge="reference", dims=dims)


def test_attention_of_packed_heads():
    inputs = ["float[B,S,48]", "float[B,K,16]", "float[B,K,20]"]
    heads = {"q_num_heads": 6, "kv_num_heads": 2}
    check("Attention", inputs, *SIZES, opset=23, judge="reference", dims=("B, S, 60",), **heads)
    caches = [None, "float[B,2,P,8]", "float[B,2,P,10]"]
    dims = ("B, S, 60", "B, 2, K + P, 8", "B, 2, K + P, 10", "B, 6, S, K + P")
    check("Attention", [*inputs, *caches], *SIZES, opset=23, outputs=4, judge="reference", dims=dims, **heads)


def test_attention_in_onnxruntime():
    inputs = ["float[B,4,S,8]", "float[B,4,K,8]", "float[B,4,K,8]", None, "float[B,4,P,8]", "float[B,4,P,8]"]
    check("Attention", inputs, SIZES[0], opset=23, outputs=3)


def test_attention_flops():
    inputs = ["float[B,6,S,8]", "float[B,2,K,8]", "float[B,2,K,10]"]
    facts, node = facts_of(one_node("Attention", inputs, opset=23, domain="", outputs=1))
    assert str(flops(facts, node, 23)) == f"{6 * (16 + 20 + 5)}*B*K*S"


def test_rotary_embedding():
    cache = "float[B,S,4]"
    check("RotaryEmbedding", ["float[B,2,S,8]", cache, cache], *SIZES, opset=23, dims=("B, 2, S, 8",))
    check(
        "RotaryEmbedding", ["float[B,S,16]", cache, cache], *SIZES, opset=23, dims=("B, S, 16",), num_heads=2
    )
    position = Runtime(np.zeros((2, 3), np.int64))
    inputs = ["float[B,S,16]", position, "float[7,4]", "float[7,4]"]
    check("RotaryEmbedding", inputs, SIZES[0], domain="com.microsoft", dims=("B, S, 16",))


def test_multi_head_attention_flops():
    inputs = ["float[B,S,16]", "float[B,K,16]", "float[B,K,16]", None, None, None]
    inputs += ["float[B,2,P,8]", "float[B,2,P,8]"]
    facts, node = facts_of(one_node("MultiHeadAttention", inputs, opset=17, num_heads=2, **MICROSOFT))
    assert str(flops(facts, node, 17)) == "64*B*K*S + 64*B*P*S"


MICROSOFT = {"domain": "com.microsoft"}


def test_self_attention():
    inputs = ["float[B,S,12]", "float[12,48]", "float[48]"]
    check("Attention", inputs, *SIZES, **MICROSOFT, dims=("B, S, 16",), num_heads=2)
    check(
        "Attention", inputs, *SIZES, **MICROSOFT, outputs=2, dims=("B, S, 16", "2, B, 2, S, 8"), num_heads=2
    )
    past = [*inputs, None, "float[2,B,2,P,8]"]
    dims = ("B, S, 16", "2, B, 2, P + S, 8")
    check("Attention", past, *SIZES, **MICROSOFT, outputs=2, dims=dims, num_heads=2, unidirectional=1)
    uneven = ["float[B,S,12]", "float[12,56]", "float[56]"]
    sizes = [16, 16, 24]
    check("Attention", uneven, *SIZES, **MICROSOFT, dims=("B, S, 24",), num_heads=2, qkv_hidden_sizes=sizes)


def test_quantized_self_attention():
    scale = np.array(0.1, np.float32)
    zero = np.array(0, np.uint8)
    inputs = ["uint8[B,S,12]", "uint8[12,48]", "float[48]", scale, scale, None, zero, zero]
    check("QAttention", inputs, *SIZES, **MICROSOFT, dims=("B, S, 16",), num_heads=2)


def test_multi_head_attention():
    inputs = ["float[B,S,16]", "float[B,K,16]", "float[B,K,24]"]
    check("MultiHeadAttention", inputs, *SIZES, **MICROSOFT, dims=("B, S, 24",), num_heads=2)
    inputs = [
        "float[B,S,16]",
        "float[B,K,16]",
        "float[B,K,16]",
        None,
        None,
        None,
        "float[B,2,P,8]",
        "float[B,2,P,8]",
    ]
    dims = ("B, S, 16", "B, 2, K + P, 8", "B, 2, K + P, 8")
    check("MultiHeadAttention", inputs, *SIZES, **MICROSOFT, outputs=3, dims=dims, num_heads=2)
    crossed = ["float[B,S,16]", "float[B,2,K,8]", "float[B,2,K,8]"]
    check("MultiHeadAttention", crossed, *SIZES, **MICROSOFT, dims=("B, S, 16",), num_heads=2)


@pytest.mark.parametrize("inputs", [["float[B,S,2,3,8]"], ["float[B,S,16]", "float[B,K,2,2,8]"]])
def test_multi_head_attention_of_packed_inputs(inputs):
    """Which no kernel for CPUs takes."""
    facts, node = facts_of(
        one_node("MultiHeadAttention", inputs, opset=17, outputs=1, num_heads=2, **MICROSOFT)
    )
    assert facts.describe(node.outputs[0]) == "float32[B, S, 16]"


@pytest.mark.parametrize("packed", [False, True])
def test_group_query_attention(packed):
    lengths, total = Runtime(np.array([4, 4], np.int32)), Runtime(np.array(5, np.int32))
    query = ["float[B,S,64]", None, None] if packed else ["float[B,S,32]", "float[B,S,16]", "float[B,S,16]"]
    inputs = [*query, "float[B,2,P,8]", "float[B,2,P,8]", lengths, total]
    check(
        "GroupQueryAttention",
        inputs,
        {"B": 2, "S": 1, "P": 4},
        **MICROSOFT,
        outputs=3,
        exact=False,
        num_heads=4,
        kv_num_heads=2,
        dims=("B, S, 32",),
    )


def test_embedding_with_normalization():
    ids = Runtime(np.zeros((2, 3), np.int32))
    table = ["float[20,16]", "float[9,16]", "float[2,16]", "float[16]", "float[16]"]
    inputs = [ids, ids, *table, ids]
    check("EmbedLayerNormalization", inputs, outputs=2, **MICROSOFT, dims=("2, 3, 16", "2"))


@pytest.mark.parametrize(
    ("op", "inputs", "described"),
    [
        ("RelativePositionBias", ["float[8,3]", np.array(4), np.array(5)], "float32[1, 3, 4, 5]"),
        ("GatedRelativePositionBias", ["float[B,S,16]"] + ["float[16]"] * 5, "float32[B, 4, S, S]"),
        ("PackedAttention", ["float[T,12]", "float[12,48]", "float[48]"], "float32[T, 16]"),
        ("PackedMultiHeadAttention", ["float[T,16]", "float[T,16]", "float[T,24]"], "float32[T, 24]"),
        ("PackedMultiHeadAttention", ["float[T,4,3,4]"], "float32[T, 16]"),
        ("LongformerAttention", ["half[B,S,16]", "half[16,48]"], "float16[B, S, 16]"),
    ],
)
def test_operators_without_a_kernel_for_cpus(op, inputs, described):
    facts, node = facts_of(one_node(op, inputs, opset=17, outputs=1, num_heads=4, **MICROSOFT))
    assert facts.describe(node.outputs[0]) == described
