from __future__ import annotations

import pytest

from graphopt.passes.fusion.fold_cache_into_attention import IS_CAUSAL
from graphopt.rewriting import HAS_OTHER_CONSUMERS
from graphopt.testing import assert_rejects, assert_rewrites

PASS = "fold-cache-into-attention"
INPUTS = (
    "float[B,2,S,4] q, float[B,2,T,4] k, float[B,2,T,4] v, float[B,2,P,4] kp, float[B,2,P,4] vp, float[S,U] m"
)
OUTPUTS = "float[B,2,S,4] y, float[B,2,U,4] kn, float[B,2,U,4] vn"
HEAD = f"g ({INPUTS}) => ({OUTPUTS})"
APPEND = "kn = Concat <axis = 2> (kp, k)  vn = Concat <axis = -2> (vp, v)"
SIZES = [
    {"B": 2, "S": 3, "T": 3, "P": 2, "U": 5},
    {"B": 1, "S": 1, "T": 1, "P": 4, "U": 5},
    {"B": 2, "S": 2, "T": 2, "P": 0, "U": 2},
    {"B": 2, "S": 3, "T": 2, "P": 2, "U": 4},
]


def attention(inputs: str, attributes: str = "scale = 0.5") -> str:
    return f"y = Attention <{attributes}> ({inputs})"


@pytest.mark.parametrize("mask", [", m", ""])
def test_cache(mask):
    assert_rewrites(
        PASS,
        f"{HEAD} {{ {APPEND} {attention('q, kn, vn' + mask)} }}",
        f"{HEAD} {{ y, kn, vn = Attention <scale = 0.5> (q, k, v{mask or ', '}, kp, vp) }}",
        opset=23,
        exact=False,
        sizes=SIZES,
    )


def test_grown_caches_that_nobody_wants():
    head = f"g ({INPUTS}) => (float[B,2,S,4] y)"
    assert_rewrites(
        PASS,
        f"{head} {{ {APPEND} {attention('q, kn, vn, m')} }}",
        f"{head} {{ y, kn, vn = Attention <scale = 0.5> (q, k, v, m, kp, vp) }}",
        opset=23,
        exact=False,
        sizes=SIZES,
    )


def test_one_cache_for_keys_and_values():
    head = f"g ({INPUTS}) => (float[B,2,S,4] y, float[B,2,U,4] kn)"
    assert_rewrites(
        PASS,
        f"{head} {{ kn = Concat <axis = 2> (kp, k)  {attention('q, kn, kn, m')} }}",
        f"{head} {{ y, unused, kn = Attention <scale = 0.5> (q, k, k, m, kp, kp) }}",
        opset=23,
        exact=False,
        sizes=SIZES,
    )


def test_fewer_heads_of_keys():
    head = HEAD.replace("float[B,2,S,4]", "float[B,6,S,4]")
    assert_rewrites(
        PASS,
        f"{head} {{ {APPEND} {attention('q, kn, vn, m')} }}",
        f"{head} {{ y, kn, vn = Attention <scale = 0.5> (q, k, v, m, kp, vp) }}",
        opset=23,
        exact=False,
        sizes=SIZES,
    )


def test_in_a_loop():
    inputs = "float[B,2,1,4] q, float[B,2,1,4] k, float[B,2,1,4] v, float[B,2,P,4] k0, float[B,2,P,4] v0"

    def loop(nodes: str) -> str:
        return f"""g ({inputs}) => (float[B,2,1,4] y, float[B,2,R,4] kz, float[B,2,R,4] vz) {{
            y, kz, vz = Loop (3, , q, k0, v0) <body = b (int64 i, bool c, float[B,2,1,4] x,
                float[B,2,P1,4] kp, float[B,2,P2,4] vp) => (bool c2, float[B,2,1,4] z,
                float[B,2,P3,4] kn, float[B,2,P4,4] vn) {{ c2 = Identity (c)  {nodes} }}>
        }}"""

    assert_rewrites(
        PASS,
        loop(f"{APPEND} z = Attention <scale = 0.5> (x, kn, vn)"),
        loop("z, kn, vn = Attention <scale = 0.5> (x, k, v, , kp, vp)"),
        opset=23,
        exact=False,
        sizes=[{"B": 2, "P": 1, "R": 4}],
    )


@pytest.mark.parametrize(
    "append",
    [
        "kn = Concat <axis = 1> (kp, k)  vn = Concat <axis = 2> (vp, v)",
        "kn = Concat <axis = 2> (kp, k)  vn = Concat <axis = 1> (vp, v)",
        "kn = Concat <axis = 2> (kp, k)  vn = Concat <axis = 2> (vp, v, v)",
        "kn = Identity (k)  vn = Concat <axis = 2> (vp, v)",
        "kn = Concat <axis = 2> (kp, k)  vn = Identity (v)",
    ],
)
def test_no_appending(append):
    assert_rejects(PASS, f"{HEAD} {{ {append} {attention('q, kn, vn, m')} }}", opset=23)


def test_causal_masks_are_aligned_to_the_new_keys():
    text = f"{HEAD} {{ {APPEND} {attention('q, kn, vn', 'scale = 0.5, is_causal = 1')} }}"
    assert_rejects(PASS, text, IS_CAUSAL, opset=23)


def test_number_of_keys_that_are_no_padding():
    head = HEAD.replace("float[S,U] m)", "float[S,U] m, int64[B] n)")
    assert_rejects(PASS, f"{head} {{ {APPEND} {attention('q, kn, vn, m, , , n')} }}", opset=24)


def test_grown_cache_that_others_use():
    """They may stand before the Attention, which would make it from now on."""
    head = HEAD.replace("float[B,2,U,4] vn)", "float[B,2,U,4] vn, float[B,2,U,4] z)")
    text = f"{head} {{ {APPEND} z = Neg (kn)  {attention('q, kn, vn, m')} }}"
    assert_rejects(PASS, text, HAS_OTHER_CONSUMERS, opset=23)


def test_attention_that_has_a_cache_already():
    text = f"{HEAD} {{ {APPEND} {attention('q, kn, vn, , kp, vp')} }}"
    assert_rejects(PASS, text, opset=23)


def test_joined_heads():
    head = "g (float[B,S,8] q, float[B,T,8] k, float[B,P,8] p) => (float[B,S,8] y)"
    nodes = "kn = Concat <axis = 1> (p, k)"
    text = f"{head} {{ {nodes} {attention('q, kn, kn', 'q_num_heads = 2, kv_num_heads = 2')} }}"
    assert_rejects(PASS, text, opset=23)
