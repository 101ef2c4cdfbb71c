from __future__ import annotations

import numpy as np
import pytest

from graphopt.passes.fusion.pack_projections import (
    IS_MASKED,
    MASK_SHAPE,
    NO_KERNEL,
    NOT_SELF_ATTENTION,
    WEIGHT_IS_SHARED,
)
from graphopt.rewriting import HAS_OTHER_CONSUMERS
from graphopt.testing import assert_rejects, assert_rewrites

PASS = "pack-projections"
MASKED = "pack-projections{masked=true}"
TARGET = {"target": "onnxruntime", "domains": {"com.microsoft": 1}, "opset": 23, "exact": False}


def matrix(name, columns, seed):
    numbers = np.random.default_rng(seed).standard_normal((4, columns)).round(3)
    return f"{name} = Constant <value = float[4,{columns}] {{{', '.join(map(str, numbers.ravel()))}}}> ()  "


def packed(*columns):
    numbers = np.concatenate(
        [np.random.default_rng(i).standard_normal((4, c)).round(3) for i, c in enumerate(columns)], axis=1
    )
    return f"w = Constant <value = float[4,{sum(columns)}] {{{', '.join(map(str, numbers.ravel()))}}}> ()  "


PRODUCTS = (
    matrix("wq", 4, 0)
    + matrix("wk", 4, 1)
    + matrix("wv", 4, 2)
    + "qp = MatMul (x, wq)  kp = MatMul (x, wk)  vp = MatMul (x, wv)  "
)
BIASED = PRODUCTS + (
    "q = Add (qp, [0.1,0.2,0.3,0.4])  k = Add ([0.5,0.6,0.7,0.8], kp)  v = Add (vp, [0.9,1.0,1.1,1.2])  "
)
BIAS = "[0.1,0.2,0.3,0.4,0.5,0.6,0.7,0.8,0.9,1.0,1.1,1.2]"


def graph(body, inputs="float[N,L,4] x", outputs="float[N,L,4] y"):
    return f"g ({inputs}) => ({outputs}) {{ {body} }}"


def test_three_projections_become_one():
    assert_rewrites(
        PASS,
        before=graph(BIASED + "y = Attention <q_num_heads = 2, kv_num_heads = 2, scale = 0.5> (q, k, v)"),
        after=graph(
            packed(4, 4, 4) + f"y = com.microsoft.Attention <num_heads = 2, scale = 0.5> (x, w, {BIAS})"
        ),
        sizes=[{"N": 2, "L": 3}, {"N": 1, "L": 1}],
        **TARGET,
    )


def test_absent_biases_are_zeros_and_values_may_be_wider():
    body = (
        matrix("wq", 2, 0)
        + matrix("wk", 2, 1)
        + matrix("wv", 4, 2)
        + "q = MatMul (x, wq)  k = MatMul (x, wk)  p = MatMul (x, wv)  v = Add (p, [0.9,1.0,1.1,1.2])  "
        + "y = Attention <q_num_heads = 2, kv_num_heads = 2> (q, k, v)"
    )
    assert_rewrites(
        PASS,
        before=graph(body),
        after=graph(
            packed(2, 2, 4) + "y = com.microsoft.Attention <num_heads = 2, qkv_hidden_sizes = [2,2,4]> "
            "(x, w, [0.0,0.0,0.0,0.0,0.9,1.0,1.1,1.2])"
        ),
        sizes=[{"N": 2, "L": 3}],
        **TARGET,
    )


@pytest.mark.parametrize("mask", ["float[N,1,L,L]", "float[1,1,L,L]", "float[N,2,L,L]", "float[1,2,L,L]"])
def test_mask_is_added(mask):
    inputs = f"float[N,L,4] x, {mask} m"
    assert_rewrites(
        MASKED,
        before=graph(BIASED + "y = Attention <q_num_heads = 2, kv_num_heads = 2> (q, k, v, m)", inputs),
        after=graph(
            packed(4, 4, 4) + f"y = com.microsoft.Attention <num_heads = 2> (x, w, {BIAS}, , , m)",
            inputs,
        ),
        sizes=[{"N": 2, "L": 3}, {"N": 1, "L": 1}],
        **TARGET,
    )


ATTENTION = "y = Attention <q_num_heads = 2, kv_num_heads = 2> (q, k, v)"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (
            graph(
                BIASED + "a = Relu (qp)  b = Attention <q_num_heads = 2, kv_num_heads = 2> (q, k, v)  "
                "y = Add (a, b)"
            ),
            HAS_OTHER_CONSUMERS,
        ),
        (
            graph(BIASED + f"{ATTENTION}".replace("kv_num_heads = 2", "kv_num_heads = 2, is_causal = 1")),
            NO_KERNEL,
        ),
        (
            graph(BIASED + f"{ATTENTION}".replace("kv_num_heads = 2", "kv_num_heads = 2, softcap = 2.0")),
            NO_KERNEL,
        ),
        (
            graph(
                BIASED.replace("MatMul (x, wk)", "MatMul (z, wk)") + ATTENTION,
                "float[N,L,4] x, float[N,L,4] z",
            ),
            NOT_SELF_ATTENTION,
        ),
        (graph(BIASED.replace("MatMul (x, wk)", "MatMul (x, wq)") + ATTENTION), WEIGHT_IS_SHARED),
        (
            graph(BIASED + ATTENTION.replace("v)", "v, m)"), "float[N,L,4] x, float[M,1,L,L] m"),
            MASK_SHAPE,
        ),
        (graph(BIASED + ATTENTION.replace("v)", "v, m)"), "float[N,L,4] x, bool[N,1,L,L] m"), MASK_SHAPE),
        # A bias that adds an axis, or is computed, is no bias of a projection.
        (graph(BIASED.replace("[0.1,0.2,0.3,0.4]", "0.1") + ATTENTION), None),
        (
            graph(BIASED.replace("[0.1,0.2,0.3,0.4]", "c") + ATTENTION, "float[N,L,4] x, float[4] c"),
            None,
        ),
        (
            graph(
                BIASED + "y, u = Attention <q_num_heads = 2, kv_num_heads = 2> (q, k, v, , f, g)",
                "float[N,L,4] x, float[N,2,P,2] f, float[N,2,P,2] g",
                "float[N,L,4] y, float[N,2,T,2] u",
            ),
            NO_KERNEL,
        ),
    ],
)
def test_leaves_alone(text, reason):
    assert_rejects(MASKED, text, reason, opset=23, target="onnxruntime")


def test_masked_attention_is_packed_on_request_only():
    text = graph(BIASED + ATTENTION.replace("v)", "v, m)"), "float[N,L,4] x, float[N,1,L,L] m")
    assert_rejects(PASS, text, IS_MASKED, opset=23, target="onnxruntime")
