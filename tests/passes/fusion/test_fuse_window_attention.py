from __future__ import annotations

import pytest

from graphopt.passes.fusion.fuse_window_attention import NOT_SPLIT, NOT_STATIC
from graphopt.rewriting.attention_masks import MASK_DOES_NOT_FIT
from graphopt.rewriting.attention_scores import NOT_A_SCALE
from graphopt.testing import assert_rejects, assert_rewrites

PASS = "fuse-window-attention"
INPUTS = "float[B,4,5,3,2] q, float[B,4,5,3,2] k, float[B,4,5,3,2] v"
OUTPUT = "float[B,4,5,3,2] y"
SIZES = [{"B": 2}, {"B": 1}]
SPLIT = (
    "qh = Transpose <perm = [0, 1, 3, 2, 4]> (q)  kt = Transpose <perm = [0, 1, 3, 4, 2]> (k)"
    "  vh = Transpose <perm = [0, 1, 3, 2, 4]> (v)"
)
MERGE = "w = Softmax (s)  a = MatMul (w, vh)  y = Transpose <perm = [0, 1, 3, 2, 4]> (a)"
JOINED = "qj = Reshape (q, [-1, 5, 6])  kj = Reshape (k, [-1, 5, 6])  vj = Reshape (v, [-1, 5, 6])"
PRODUCT = "p = MatMul (qh, kt)"
MASK = "m = Tanh (n)"


def graph(scores: str, more: str = "", *, inputs: str = INPUTS) -> str:
    return f"g ({inputs}{more}) => ({OUTPUT}) {{ {SPLIT} {scores} {MERGE} }}"


def fused(mask: str, inputs: str, more: str = "", scale: float = 1.0) -> str:
    attention = f"a = Attention <scale = {scale}, q_num_heads = 3, kv_num_heads = 3> ({inputs})"
    return f"g ({INPUTS}{more}) => ({OUTPUT}) {{ {JOINED} {mask} {attention} y = Reshape (a, [-1, 4, 5, 3, 2]) }}"


def rewrites(before: str, after: str) -> None:
    assert_rewrites(PASS, before, after, opset=23, exact=False, sizes=SIZES)


def rejects(text: str, reason: str | None = None) -> None:
    assert_rejects(PASS, text, reason, opset=23)


def test_without_a_mask():
    rewrites(graph(f"{PRODUCT} s = Mul (p, 0.5)"), fused("", "qj, kj, vj", scale=0.5))


def test_masks_of_heads():
    more = ", float[1,3,5,5] n"
    rewrites(
        graph(f"{MASK} {PRODUCT} s = Add (p, m)", more),
        fused(f"{MASK} e = Expand (m, [5, 5])  x = Reshape (e, [-1, 5, 5])", "qj, kj, vj, x", more),
    )


REPEATED = "b = Shape <start = 0, end = 1> (q)  t = Concat <axis = 0> (b, [4, 1, 5, 5])"


@pytest.mark.parametrize(
    ("shape", "heads"), [("1,4,1,5,5", 1), ("4,3,5,5", 3), ("B,4,3,5,5", 3), ("B,1,1,5,1", 1), ("4,1,1,5", 1)]
)
def test_masks_of_windows_are_repeated(shape, heads):
    more = f", float[{shape}] n"
    rewrites(
        graph(f"{MASK} {PRODUCT} s = Add (p, m)", more),
        fused(
            f"{MASK} {REPEATED} e = Expand (m, t)  x = Reshape (e, [-1, {heads}, 5, 5])",
            "qj, kj, vj, x",
            more,
        ),
    )


def test_two_masks():
    more = ", float[3,5,5] n0, float[4,1,5,5] n1"
    masks = "m0 = Tanh (n0)  m1 = Tanh (n1)"
    rewrites(
        graph(f"{masks} {PRODUCT} c = Add (p, m0)  s = Add (c, m1)", more),
        fused(
            f"{masks} m = Add (m0, m1)  {REPEATED} e = Expand (m, t)  x = Reshape (e, [-1, 3, 5, 5])",
            "qj, kj, vj, x",
            more,
        ),
    )


@pytest.mark.parametrize(
    ("before", "after", "reason"),
    [
        ("float[B,4,5,3,2] q", "float[B,W,5,3,2] q", NOT_STATIC),
        ("float[B,4,5,3,2] k", "float[B,1,5,3,2] k", NOT_STATIC),
        ("float[B,4,5,3,2] k", "float[C,4,5,3,2] k", NOT_STATIC),
        ("float[B,4,5,3,2] v", "float[B,4,T,3,2] v", NOT_STATIC),
        ("float[B,4,5,3,2] v", "float[1,4,5,3,2] v", NOT_STATIC),
        (
            "kt = Transpose <perm = [0, 1, 3, 4, 2]> (k)",
            "ke = Exp (k)  kt = Transpose <perm = [0, 1, 3, 4, 2]> (ke)",
            "",
        ),
        (
            "qh = Transpose <perm = [0, 1, 3, 2, 4]> (q)",
            "qg = Transpose <perm = [0, 1, 3, 2, 4]> (q)  qh = Exp (qg)",
            NOT_SPLIT,
        ),
        (
            "vh = Transpose <perm = [0, 1, 3, 2, 4]> (v)",
            "vg = Transpose <perm = [0, 1, 3, 2, 4]> (v)  vh = Exp (vg)",
            NOT_SPLIT,
        ),
        ("Softmax (s)", "Softmax <axis = 3> (s)", None),
        ("y = Transpose <perm = [0, 1, 3, 2, 4]>", "y = Transpose <perm = [1, 0, 3, 2, 4]>", None),
        ("s = Mul (p, 0.5)", "s = Mul (p, -0.5)", NOT_A_SCALE),
    ],
)
def test_conditions(before, after, reason):
    text = graph(f"{PRODUCT} s = Mul (p, 0.5)")
    assert before in text
    text = text.replace(before, after)
    if "[1, 0" in after:
        text = text.replace(OUTPUT, "float[4,B,5,3,2] y")
    if reason == "":
        rewrites(
            text,
            fused("", "qj, kj, vj", scale=0.5).replace("kj = Reshape (k,", "ke = Exp (k)  kj = Reshape (ke,"),
        )
        return
    rejects(text, reason)


def test_mask_that_may_enlarge_the_scores():
    rejects(graph(f"{PRODUCT} s = Add (p, n)", ", float[C,4,1,5,5] n"), MASK_DOES_NOT_FIT)


def test_inner_value_is_an_output():
    text = graph(f"{PRODUCT} s = Mul (p, 0.5)").replace(OUTPUT, f"{OUTPUT}, float[B,4,3,5,5] w")
    rejects(text)
