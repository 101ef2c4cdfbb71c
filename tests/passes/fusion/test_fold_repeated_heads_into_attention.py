from __future__ import annotations

import pytest

from graphopt.testing import assert_rejects, assert_rewrites

PASS = "fold-repeated-heads-into-attention"
INPUTS = "float[B,6,S,4] q, float[B,2,T,4] k, float[B,2,T,4] v, float[S,T] m"
HEAD = f"g ({INPUTS}) => (float[B,6,S,4] y)"
SIZES = [{"B": 2, "S": 3, "T": 5}, {"B": 1, "S": 1, "T": 1}]


def repeat(x: str, shape: str = "[1, 1, 3, 1, 1]", target: str = "[0, 6, -1, 4]") -> str:
    return f"{x}u = Unsqueeze ({x}, [2])  {x}e = Expand ({x}u, {shape})  {x}r = Reshape ({x}e, {target})"


def attention(inputs: str) -> str:
    return f"y = Attention <scale = 0.5> ({inputs})"


@pytest.mark.parametrize("mask", [", m", ""])
def test_repeated_heads(mask):
    assert_rewrites(
        PASS,
        f"{HEAD} {{ {repeat('k')} {repeat('v')} {attention('qi, kr, vr' + mask).replace('qi', 'q')} }}",
        f"{HEAD} {{ {attention('q, k, v' + mask)} }}",
        opset=23,
        exact=False,
        sizes=SIZES,
    )


def test_one_head_for_all():
    head = HEAD.replace("B,2,T", "B,1,T")
    assert_rewrites(
        PASS,
        f"{head} {{ {repeat('k', '[1, 1, 6, 1, 1]')} {repeat('v', '[6, 1, 1]')} {attention('q, kr, vr')} }}",
        f"{head} {{ {attention('q, k, v')} }}",
        opset=23,
        exact=False,
        sizes=SIZES,
    )


def test_repeated_keys_that_others_use():
    head = HEAD.replace(" y)", " y, float[B,6,T,4] kr)")
    assert_rewrites(
        PASS,
        f"{head} {{ {repeat('k')} {repeat('v')} {attention('q, kr, vr')} }}",
        f"{head} {{ {repeat('k')} {attention('q, k, v')} }}",
        opset=23,
        exact=False,
        sizes=SIZES,
    )


@pytest.mark.parametrize(
    ("keys", "values"),
    [
        (repeat("k"), "vr = Concat <axis = 1> (v, v, v)"),
        # Heads one after another, not each beside itself.
        (
            "ku = Unsqueeze (k, [1])  ke = Expand (ku, [1, 3, 1, 1, 1])  kr = Reshape (ke, [0, 6, -1, 4])",
            repeat("v"),
        ),
        # Keys repeated instead of heads.
        (
            "ku = Unsqueeze (k, [3])  ke = Expand (ku, [1, 1, 1, 3, 1])  kr = Reshape (ke, [0, 6, -1, 4])",
            repeat("v"),
        ),
        (repeat("k", target="[0, 2, -1, 4]"), repeat("v", target="[0, 2, -1, 4]")),
    ],
)
def test_other_repetitions(keys, values):
    assert_rejects(PASS, f"{HEAD} {{ {keys} {values} {attention('q, kr, vr')} }}", opset=23)


def test_repeated_batch():
    head = HEAD.replace("B,2,T", "1,2,T").replace("B,6,S", "5,6,S")
    shape = "[5, 1, 3, 1, 1]"
    assert_rejects(
        PASS, f"{head} {{ {repeat('k', shape)} {repeat('v', shape)} {attention('q, kr, vr')} }}", opset=23
    )


def test_attention_with_a_cache():
    head = f"g ({INPUTS}, float[B,6,P,4] p) => (float[B,6,S,4] y)"
    text = f"{head} {{ {repeat('k')} {repeat('v')} {attention('q, kr, vr, , p, p')} }}"
    assert_rejects(PASS, text, opset=23)
