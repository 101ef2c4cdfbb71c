from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from graphopt.passes.fusion.fuse_attention import NOT_OVER_KEYS
from graphopt.rewriting.attention_masks import FILL_IS_NO_MASK, MASK_DOES_NOT_FIT
from graphopt.rewriting.attention_scores import SCALED_SUM
from graphopt.testing import (
    assert_rejects,
    assert_rewrites,
    assert_same_outputs,
    model_from_text,
    operators_of,
    random_feeds,
    run_pass,
)
from tests.passes.fusion.attention_graphs import (
    FILLS,
    KEYS,
    LENGTHS,
    MASK,
    PASS,
    SIZES,
    WEIGHTS,
    graph,
    head,
    rewrites,
)

# ---------------------------------------------------------------- masks


@pytest.mark.parametrize("shape", ["S,T", "1,S,T", "2,S,T", "1,1,S,T", "B,1,S,T", "1,2,S,T", "B,2,S,T"])
@pytest.mark.parametrize("added", ["Add (p, m)", "Add (m, p)"])
def test_masks_as_long_as_the_scores(shape, added):
    more = f"float[{shape}] n"
    rewrites(
        graph(f"{MASK} p = MatMul (q, t)  s = {added}", more=more),
        f"{head(more)} {{ {MASK} y = Attention <scale = 1.0> (q, k, v, m) }}",
    )


@pytest.mark.parametrize(
    ("shape", "target"),
    [
        ("T", "[0], sq, tk"),
        ("1,T", "sq, [1]"),
        ("S,1", "[1], tk"),
        ("1", "sq, tk"),
        ("1,1", "sq, tk"),
        ("B,1,1,T", "[1, 1], sq, [1]"),
        ("1,1,1,T", "[1, 1], sq, [1]"),
        ("B,2,S,1", "[1, 1], [1], tk"),
        ("2,1,1", "[1], sq, tk"),
        # One key: whatever broadcasts to the values is as many.
        ("S,M", "[1], tk"),
    ],
)
def test_masks_that_broadcast_over_queries_or_keys_are_expanded(shape, target):
    more = f"float[{shape}] n"
    before = graph(f"{MASK} p = MatMul (q, t)  s = Add (p, m)", more=more)
    if shape == "T":
        target = "sq, [1]"
    used = " ".join(part for part in LENGTHS.split("  ") if part[:2] in target)
    after = f"{MASK} {used} e = Concat <axis = 0> ({target})  x = Expand (m, e)  y = Attention <scale = 1.0> (q, k, v, x)"
    rewrites(before, f"{head(more)} {{ {after} }}", sizes=[s | {"M": s["T"]} for s in SIZES])


def test_static_lengths_are_written():
    inputs = "float[B,2,3,4] q, float[B,2,5,4] k, float[B,2,5,4] v"
    more = "float[B,1,1,5] n"
    rewrites(
        graph(
            f"{MASK} p = MatMul (q, t)  s = Add (p, m)", more=more, inputs=inputs, output="float[B,2,3,4] y"
        ),
        f"{head(more, inputs, 'float[B,2,3,4] y')} {{ {MASK} x = Expand (m, [1, 1, 3, 5])"
        "  y = Attention <scale = 1.0> (q, k, v, x) }",
    )


@pytest.mark.parametrize("shape", ["C,1,S,T", "C,T", "1,C,T", "3,1,S,T", "1,3,S,T"])
def test_mask_that_may_enlarge_the_scores(shape):
    text = graph("p = MatMul (q, t)  s = Add (p, m)", more=f"float[{shape}] m")
    static = text.replace("float[B,2", "float[1,1") if "3" in shape else text
    assert_rejects(PASS, static, MASK_DOES_NOT_FIT, opset=23)


def test_mask_of_higher_rank():
    text = graph("p = MatMul (q, t)  s = Add (p, m)", more="float[1,B,2,S,T] m")
    assert_rejects(PASS, text.replace("B,2,S,4] y", "1,B,2,S,4] y"), NOT_OVER_KEYS, opset=23)


@pytest.mark.parametrize("fill", ["low", "nine"])
@pytest.mark.parametrize("keeps", [True, False])
def test_chosen_masks_become_added_ones(fill, keeps):
    more = "bool[B,1,S,T] c"
    order = f"p, {fill}" if keeps else f"{fill}, p"
    # The lowest number is minus infinity to onnxruntime, where it masks all keys of a query.
    made = "less" if fill == "low" else fill
    made = f"zero, {made}" if keeps else f"{made}, zero"
    rewrites(
        graph(f"p = MatMul (q, t)  s = Where (c, {order})", more=more, values=FILLS),
        f"{head(more)} {FILLS} {{ m = Where (c, {made})  y = Attention <scale = 1.0> (q, k, v, m) }}",
    )


def forced(model: ir.Model, sizes: dict[str, int], seed: int = 0) -> dict[str, np.ndarray]:
    """Random inputs where every query may see the first key."""
    feeds = random_feeds(model, sizes, seed)
    if "c" in feeds:
        feeds["c"][..., 0] = True
    return feeds


def same_where_all_see_a_key(before: str, after: str) -> None:
    assert_rewrites(PASS, before, after, opset=23, runs=False)
    model = model_from_text(before, opset=23)
    original = model.clone()
    run_pass(PASS, model)
    for size in SIZES:
        assert_same_outputs(original, model, forced(original, size), exact=False)


@pytest.mark.parametrize(
    "scores",
    [
        "p = MatMul (q, t)  s = Where (c, p, inf)",
        "p = MatMul (q, t)  m = Where (c, zero, inf)  s = Add (p, m)",
        "p = MatMul (q, t)  m = Where (c, zero, inf)  a = Add (p, m)  s = Mul (a, 0.5)",
    ],
)
def test_condition_is_the_mask_where_nothing_else_is_said(scores):
    more = "bool[B,1,S,T] c"
    scale = 0.5 if "0.5" in scores else 1.0
    same_where_all_see_a_key(
        graph(scores, more=more, values=FILLS),
        f"{head(more)} {FILLS} {{ y = Attention <scale = {scale}> (q, k, v, c) }}",
    )


def test_condition_that_broadcasts_is_expanded():
    more = "bool[B,1,1,T] c"
    same_where_all_see_a_key(
        graph("p = MatMul (q, t)  s = Where (c, p, inf)", more=more, values=FILLS),
        f"{head(more)} {FILLS} {{ sq = Shape <start = 2, end = 3> (q)  e = Concat <axis = 0> ([1, 1], sq, [1])"
        "  x = Expand (c, e)  y = Attention <scale = 1.0> (q, k, v, x) }",
    )


def test_negated_condition_stays_a_choice():
    more = "bool[B,1,S,T] c"
    rewrites(
        graph("p = MatMul (q, t)  s = Where (c, inf, p)", more=more, values=FILLS),
        f"{head(more)} {FILLS} {{ m = Where (c, inf, zero)  y = Attention <scale = 1.0> (q, k, v, m) }}",
        runs=False,
    )


@pytest.mark.parametrize(
    ("scores", "mask"),
    [
        ("a = Where (c, p, low)  s = Add (a, b)", "n = Where (c, zero, less)  m = Add (n, b)"),
        ("a = Add (p, b)  s = Where (c, a, low)", "m = Where (c, b, less)"),
        ("a = Add (b, p)  s = Where (c, nine, a)", "m = Where (c, nine, b)"),
        ("a = Add (p, b)  s = Add (d, a)", "m = Add (b, d)"),
        ("a = Mul (p, 0.5)  e = Add (a, b)  s = Add (e, d)", "m = Add (b, d)"),
        ("e = Add (p, b)  a = Mul (e, 0.5)  s = Add (a, d)", "n = Mul (b, 0.5)  m = Add (n, d)"),
        (
            "e = Add (p, b)  a = Div (e, 2.0)  s = Where (c, a, low)",
            "n = Mul (b, 0.5)  m = Where (c, n, less)",
        ),
        (
            "a = Where (c, p, low)  s = Where (c2, nine, a)",
            "n = Where (c, zero, less)  m = Where (c2, nine, n)",
        ),
    ],
)
def test_stacked_masks(scores, mask):
    more = "bool[B,1,S,T] c, bool[S,T] c2, float[B,2,S,T] b0, float[S,T] d0"
    computed = "b = Tanh (b0)  d = Tanh (d0)"
    scale = 0.5 if "0.5" in scores or "Div" in scores else 1.0
    rewrites(
        graph(f"{computed} p = MatMul (q, t)  {scores}", more=more, values=FILLS),
        f"{head(more)} {FILLS} {{ {computed} {mask} y = Attention <scale = {scale}> (q, k, v, m) }}",
    )


def test_sum_that_is_scaled_stays_for_onnxruntime():
    text = graph("p = MatMul (q, t)  a = Add (p, n)  s = Mul (a, 0.5)", more="float[S,T] n")
    assert_rejects(PASS, text, SCALED_SUM, opset=23, target="onnxruntime")
    text = graph("p = MatMul (q, t)  a = Mul (p, 0.5)  s = Add (a, n)", more="float[S,T] n")
    model = model_from_text(text, opset=23)
    run_pass(PASS, model, target="onnxruntime")
    assert operators_of(model) == ["Mul", "Attention"]


def test_chosen_mask_under_a_scale_stays():
    scores = "p = MatMul (q, t)  a = Where (c, p, low)  s = Mul (a, 0.5)"
    assert_rejects(PASS, graph(scores, more="bool[S,T] c", values=FILLS), opset=23)


@pytest.mark.parametrize("fill", ["0.0", "-1e4", "1e9", "-1e8", "nan", "inf"])
def test_fill_that_is_no_mask(fill):
    values = "<float nan = {nan}, float inf = {inf}>"
    text = graph(f"p = MatMul (q, t)  s = Where (c, p, {fill})", more="bool[S,T] c", values=values)
    assert_rejects(PASS, text, FILL_IS_NO_MASK, opset=23)


@pytest.mark.parametrize(
    ("dtype", "fill", "fires"),
    [
        # The two narrow types are written as bits: -65504, -65472, -1e4; -1e9, -1e3.
        ("float16", "64511", True),
        ("float16", "64510", True),
        ("float16", "61666", False),
        ("double", "-1e9", False),
        ("double", "-1e18", True),
        ("bfloat16", "52846", True),
        ("bfloat16", "50298", False),
    ],
)
def test_fill_is_judged_in_the_type_of_the_scores(dtype, fill, fires):
    values = f"<{dtype} low = {{{fill}}}>"
    text = graph("p = MatMul (q, t)  s = Where (c, p, low)", more="bool[S,T] c", values=values)
    text = text.replace("float[", f"{dtype}[")
    if not fires:
        assert_rejects(PASS, text, FILL_IS_NO_MASK, opset=23)
        return
    model = model_from_text(text, opset=23)
    run_pass(PASS, model)
    assert operators_of(model) == ["Where", "Attention"]


def test_condition_that_may_enlarge_the_scores():
    text = graph("p = MatMul (q, t)  s = Where (c, p, -1e9)", more="bool[C,1,S,T] c")
    assert_rejects(PASS, text, MASK_DOES_NOT_FIT, opset=23)


def test_padding_mask_cut_to_the_batch_and_length():
    """What is cut to a length broadcasts with that length only where it is 1 or as long."""
    more = "float[C,M] n"
    cut = (
        "pad = Tanh (n)  shape = Shape (k)  ends = Gather (shape, [0, 2])  cut = Slice (pad, [0, 0], ends)"
        "  m = Unsqueeze (cut, [1, 2])"
    )
    before = f"{head(more)} {{ {KEYS} {cut} p = MatMul (q, t)  s = Add (p, m)  {WEIGHTS} y = MatMul (w, v) }}"
    after = f"{cut} {LENGTHS} e = Concat <axis = 0> ([1, 1], sq, tk)  x = Expand (m, e)"
    rewrites(
        before,
        f"{head(more)} {{ {after} y = Attention <scale = 1.0> (q, k, v, x) }}",
        sizes=[{"B": 2, "S": 3, "T": 4, "C": 5, "M": 9}, {"B": 2, "S": 3, "T": 4, "C": 1, "M": 1}],
    )


def test_mask_that_two_attentions_share_is_expanded_once():
    more = "float[B,1,1,T] n"
    again = (
        "t2 = Transpose <perm = [0, 1, 3, 2]> (k)  p2 = MatMul (y1, t2)  s2 = Add (p2, m)"
        "  w2 = Softmax (s2)  y = MatMul (w2, v)"
    )
    first = f"{MASK} {KEYS} p = MatMul (q, t)  s = Add (p, m)  {WEIGHTS} y1 = MatMul (w, v)"
    model = model_from_text(f"{head(more)} {{ {first} {again} }}", opset=23)
    original = model.clone()
    run_pass(f"({PASS},merge-common)", model)
    assert sorted(operators_of(model)) == ["Attention", "Attention", "Concat", "Expand", "Shape", "Tanh"]
    assert_same_outputs(original, model, random_feeds(original, SIZES[0]), exact=False)
