from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graphopt.passes.fusion.fold_heads_into_attention import NOT_MERGED, NOT_SPLIT
from graphopt.rewriting import HAS_OTHER_CONSUMERS
from graphopt.testing import (
    assert_rejects,
    assert_rewrites,
    assert_same_outputs,
    model_from_text,
    operators_of,
    random_feeds,
    run_pass,
)

PASS = "fold-heads-into-attention"
INPUTS = "float[B,S,8] q, float[B,T,8] k, float[B,T,8] v"
HEAD = f"g ({INPUTS}) => (float[B,S,8] y)"
SIZES = [{"B": 2, "S": 3, "T": 5}, {"B": 1, "S": 1, "T": 1}]
FRONT = "<perm = [0, 2, 1, 3]>"
QUERY = f"q4 = Reshape (q, [0, 0, 2, 4])  qh = Transpose {FRONT} (q4)"
KEYS = f"k4 = Reshape (k, [0, 0, 2, 4])  kh = Transpose {FRONT} (k4)"
VALUES = f"v4 = Reshape (v, [0, 0, 2, 4])  vh = Transpose {FRONT} (v4)"
ATTENTION = "a = Attention <scale = 0.5> (qh, kh, vh)"
MERGE = f"b = Transpose {FRONT} (a)  y = Reshape (b, [0, 0, 8])"
FOLDED = "<scale = 0.5, q_num_heads = 2, kv_num_heads = 2>"


def rewrites(before: str, after: str, *, sizes=SIZES, exact: bool = False) -> None:
    assert_rewrites(PASS, before, after, opset=23, exact=exact, sizes=sizes)


def rejects(text: str, reason: str | None = None) -> None:
    assert_rejects(PASS, text, reason, opset=23)


def test_heads():
    rewrites(
        f"{HEAD} {{ {QUERY} {KEYS} {VALUES} {ATTENTION} {MERGE} }}",
        f"{HEAD} {{ y = Attention {FOLDED} (q, k, v) }}",
    )


@pytest.mark.parametrize("target", ["[0, 0, 8]", "[0, 0, -1]", "[-1, 3, 8]", "shape"])
def test_targets_that_merge(target):
    head = HEAD.replace("B,S,8", "B,3,8")
    shape = "shape = Shape (q) " if target == "shape" else ""
    merge = f"b = Transpose {FRONT} (a)  y = Reshape (b, {target})"
    rewrites(
        f"{head} {{ {shape} {QUERY} {KEYS} {VALUES} {ATTENTION} {merge} }}",
        f"{head} {{ y = Attention {FOLDED} (q, k, v) }}",
    )


def test_mask_and_caches_stay():
    inputs = f"{INPUTS}, float[S,U] m, float[B,2,P,4] kp, float[B,2,P,4] vp"
    output = "float[B,S,8] y, float[B,2,U,4] kn, float[B,2,U,4] vn"
    head = f"g ({inputs}) => ({output})"
    rewrites(
        f"{head} {{ {QUERY} {KEYS} {VALUES} a, kn, vn = Attention <scale = 0.5> (qh, kh, vh, m, kp, vp) {MERGE} }}",
        f"{head} {{ y, kn, vn = Attention {FOLDED} (q, k, v, m, kp, vp) }}",
        sizes=[{"B": 2, "S": 3, "T": 3, "P": 2, "U": 5}],
    )


def test_present_keys_that_are_used_before_the_heads_are_merged():
    inputs = f"{INPUTS}, float[B,2,P,4] kp, float[B,2,P,4] vp"
    head = f"g ({inputs}) => (float[B,S,8] y, float[B,2,U,4] z)"
    rejects(
        f"{head} {{ {QUERY} {KEYS} {VALUES} a, kn, vn = Attention <scale = 0.5> (qh, kh, vh, , kp, vp)"
        f" z = Neg (kn) {MERGE} }}",
        HAS_OTHER_CONSUMERS,
    )


def test_fewer_heads_of_keys():
    head = "g (float[B,S,16] q, float[B,T,8] k, float[B,T,12] v) => (float[B,S,24] y)"
    split = (
        f"q4 = Reshape (q, [0, 0, 4, 4])  qh = Transpose {FRONT} (q4)  {KEYS}"
        f"  v4 = Reshape (v, [0, 0, 2, 6])  vh = Transpose {FRONT} (v4)"
    )
    rewrites(
        f"{head} {{ {split} {ATTENTION} b = Transpose {FRONT} (a)  y = Reshape (b, [0, 0, 24]) }}",
        f"{head} {{ y = Attention <scale = 0.5, q_num_heads = 4, kv_num_heads = 2> (q, k, v) }}",
    )


@pytest.mark.parametrize("split", ["Reshape (q, [0, 1, -1, 8])", "Unsqueeze (q, [1])"])
def test_one_head_is_split_and_merged_without_transposes(split):
    inner = f"qh = {split}  kh = Unsqueeze (k, [1])  vh = Reshape (v, [0, 1, -1, 8])"
    rewrites(
        f"{HEAD} {{ {inner} {ATTENTION} y = Reshape (a, [0, -1, 8]) }}".replace("S,", "3,"),
        f"{HEAD} {{ y = Attention <scale = 0.5, q_num_heads = 1, kv_num_heads = 1> (q, k, v) }}".replace(
            "S,", "3,"
        ),
    )


def test_one_query():
    head = HEAD.replace("S,", "1,")
    rewrites(
        f"{head} {{ qh = Reshape (q, [0, 2, 1, 4])  {KEYS} {VALUES} {ATTENTION} y = Reshape (a, [0, 1, 8]) }}",
        f"{head} {{ y = Attention {FOLDED} (q, k, v) }}",
    )


def test_something_between_the_reshape_and_the_transpose():
    """A Reshape takes the place of the Transpose."""
    query = f"q4 = Reshape (q, [0, 0, 2, 4])  n = Tanh (q4)  qh = Transpose {FRONT} (n)"
    rewrites(
        f"{HEAD} {{ {query} {KEYS} {VALUES} {ATTENTION} {MERGE} }}",
        f"{HEAD} {{ q4 = Reshape (q, [0, 0, 2, 4])  n = Tanh (q4)  r = Reshape (n, [0, 0, 8])"
        f"  y = Attention {FOLDED} (r, k, v) }}",
    )


def test_rotation_after_the_split():
    head = f"g ({INPUTS}, float[B,S,2] c, float[B,S,2] s) => (float[B,S,8] y)"
    rewrites(
        f"{head} {{ {QUERY} r = RotaryEmbedding (qh, c, s)  {KEYS} {VALUES}"
        f" a = Attention <scale = 0.5> (r, kh, vh) {MERGE} }}",
        f"{head} {{ r = RotaryEmbedding <num_heads = 2> (q, c, s)  y = Attention {FOLDED} (r, k, v) }}",
    )


def test_rotation_of_a_part_and_by_positions():
    head = f"g ({INPUTS}, float[9,1] c, float[9,1] s, int64[B,S] p) => (float[B,S,8] y)"
    rewrites(
        f"{head} {{ {QUERY} r = RotaryEmbedding <rotary_embedding_dim = 2, interleaved = 1> (qh, c, s, p)  {KEYS}"
        f" {VALUES} a = Attention <scale = 0.5> (r, kh, vh) {MERGE} }}",
        f"{head} {{ r = RotaryEmbedding <rotary_embedding_dim = 2, interleaved = 1, num_heads = 2> (q, c, s, p)"
        f"  y = Attention {FOLDED} (r, k, v) }}",
    )


def test_rotation_that_others_use():
    head = f"g ({INPUTS}, float[B,S,2] c, float[B,S,2] s) => (float[B,S,8] y, float[B,2,S,4] r)"
    rejects(
        f"{head} {{ {QUERY} r = RotaryEmbedding (qh, c, s)  {KEYS} {VALUES}"
        f" a = Attention <scale = 0.5> (r, kh, vh) {MERGE} }}",
        NOT_SPLIT,
    )


@pytest.mark.parametrize(
    ("target", "shape"), [("[-1, 8]", "N,8"), ("[0, -1]", "B,W"), ("[0, 0, 4, 2]", "B,S,4,2"), ("[-1]", "N")]
)
def test_merge_into_other_dims_leaves_the_reshape(target, shape):
    head = f"g ({INPUTS}) => (float[{shape}] y)"
    rewrites(
        f"{head} {{ {QUERY} {KEYS} {VALUES} {ATTENTION} b = Transpose {FRONT} (a)  y = Reshape (b, {target}) }}",
        f"{head} {{ b = Attention {FOLDED} (q, k, v)  y = Reshape (b, {target}) }}",
    )


@pytest.mark.parametrize("target", ["[0, 0, 0, 4]", "[0, 0, 0, 2, 2]", "t"])
def test_merge_that_copies_dims_of_the_heads(target):
    shape = {"[0, 0, 0, 4]": "B,S,2,4", "[0, 0, 0, 2, 2]": "B,S,2,2,2", "t": "K,L"}[target]
    head = f"g ({INPUTS}, int64[2] t) => (float[{shape}] y)"
    rejects(
        f"{head} {{ {QUERY} {KEYS} {VALUES} {ATTENTION} b = Transpose {FRONT} (a)  y = Reshape (b, {target}) }}",
        NOT_MERGED,
    )


LAST = "<perm = [0, 1, 3, 2]>"
CHANNELS = "g (float[B,8,S] q, float[B,8,T] k, float[B,8,T] v) => (float[B,8,S] y)"


def channels(merge: str) -> str:
    split = " ".join(
        f"{x}4 = Reshape ({x}, [0, 2, 4, -1])  {x}h = Transpose {LAST} ({x}4)" for x in ("q", "k", "v")
    )
    return f"{CHANNELS} {{ {split} {ATTENTION} {merge} }}"


def test_channels_in_front_of_the_length():
    swap = " ".join(f"{x}s = Transpose <perm = [0, 2, 1]> ({x})" for x in ("q", "k", "v"))
    rewrites(
        channels(f"b = Transpose {LAST} (a)  y = Reshape (b, [0, 8, -1])"),
        f"{CHANNELS} {{ {swap} b = Attention {FOLDED} (qs, ks, vs)  y = Transpose <perm = [0, 2, 1]> (b) }}",
    )


def test_channels_merged_with_another_axis():
    text = channels(f"b = Transpose {LAST} (a)  y = Reshape (b, [0, 2, -1])").replace("B,8,S] y", "B,2,W] y")
    rejects(text, NOT_MERGED)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (QUERY, "qh = Reshape (q, [0, 2, -1, 4])"),
        (KEYS, "kh = Reshape (k, [0, 2, -1, 4])"),
        (VALUES, "vh = Reshape (v, [0, 2, -1, 4])"),
    ],
)
def test_not_split(old, new):
    text = f"{HEAD} {{ {QUERY} {KEYS} {VALUES} {ATTENTION} {MERGE} }}"
    rejects(text.replace(old, new), NOT_SPLIT)


def test_heads_of_unknown_number():
    head = "g (float[B,S,W] q, float[B,T,W] k, float[B,T,W] v, int64[4] h) => (float[B,S,W] y)"
    split = " ".join(f"{x}4 = Reshape ({x}, h)  {x}h = Transpose {FRONT} ({x}4)" for x in ("q", "k", "v"))
    rejects(f"{head} {{ {split} {ATTENTION} b = Transpose {FRONT} (a)  y = Reshape (b, [0, 0, -1]) }}")


@pytest.mark.parametrize("value", ["a", "b"])
def test_unmerged_result_is_an_output(value):
    shape = "B,2,S,4" if value == "a" else "B,S,2,4"
    head = HEAD.replace(" y)", f" y, float[{shape}] {value})")
    rejects(f"{head} {{ {QUERY} {KEYS} {VALUES} {ATTENTION} {MERGE} }}", HAS_OTHER_CONSUMERS)


def test_split_keys_that_others_use_stay_beside():
    head = HEAD.replace(" y)", " y, float[B,2,T,4] kh)")
    rewrites(
        f"{head} {{ {QUERY} {KEYS} {VALUES} {ATTENTION} {MERGE} }}",
        f"{head} {{ {KEYS} y = Attention {FOLDED} (q, k, v) }}",
    )


@settings(max_examples=25)
@given(st.data())
def test_random_configurations(data):
    size = st.integers(1, 4)
    batch, heads, queries, keys, depth, wide = (data.draw(size) for _ in range(6))
    groups = data.draw(st.sampled_from([g for g in range(1, heads + 1) if heads % g == 0]))
    fixed = data.draw(st.sets(st.sampled_from("BST")))
    sizes = {"B": batch, "S": queries, "T": keys}
    b, s, t = (str(sizes[n]) if n in fixed else n for n in "BST")
    text = f"""g (float[{b},{s},{heads * depth}] q, float[{b},{t},{groups * depth}] k,
                  float[{b},{t},{groups * wide}] v) => (float[{b},{s},{heads * wide}] y) {{
        q4 = Reshape (q, [0, 0, {heads}, {depth}])  qh = Transpose {FRONT} (q4)
        k4 = Reshape (k, [0, 0, {groups}, {depth}])  kh = Transpose {FRONT} (k4)
        v4 = Reshape (v, [0, 0, {groups}, {wide}])  vh = Transpose {FRONT} (v4)
        {ATTENTION}  b = Transpose {FRONT} (a)  y = Reshape (b, [0, 0, {heads * wide}]) }}"""
    model = model_from_text(text, opset=23)
    original = model.clone()
    run_pass(PASS, model)
    assert operators_of(model) == ["Attention"]
    assert_same_outputs(original, model, random_feeds(original, sizes), exact=False)
