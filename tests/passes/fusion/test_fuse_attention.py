from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest
from graphopt.passes.fusion.fuse_attention import IS_EMPTY, NOT_OVER_KEYS, SHAPES_DIFFER
from hypothesis import given, settings
from hypothesis import strategies as st

from graphopt.rewriting import HAS_OTHER_CONSUMERS, OTHER_SCOPE
from graphopt.rewriting.attention_masks import FILL_IS_NO_MASK, MASK_DOES_NOT_FIT
from graphopt.rewriting.attention_scores import NOT_A_SCALE
from graphopt.testing import (
    assert_rejects,
    assert_rewrites,
    assert_same_outputs,
    model_from_text,
    operators_of,
    random_feeds,
    run,
    run_pass,
)

PASS = "fuse-attention"
INPUTS = "float[B,2,S,4] q, float[B,2,T,4] k, float[B,2,T,4] v"
OUTPUT = "float[B,2,S,4] y"
SIZES = [{"B": 2, "S": 3, "T": 5}, {"B": 1, "S": 1, "T": 1}, {"B": 3, "S": 4, "T": 4}]
KEYS = "t = Transpose <perm = [0, 1, 3, 2]> (k)"
WEIGHTS = "w = Softmax <axis = -1> (s)"
# A mask that is computed holds no fills: those of graph inputs are told apart further down.
MASK = "m = Tanh (n)"
LENGTHS = "sq = Shape <start = 2, end = 3> (q)  tk = Shape <start = 2, end = 3> (k)"


def head(more: str = "", inputs: str = INPUTS, output: str = OUTPUT) -> str:
    return f"g ({inputs}{', ' + more if more else ''}) => ({output})"


def graph(
    scores: str, *, more: str = "", values: str = "", inputs: str = INPUTS, output: str = OUTPUT
) -> str:
    """Attention whose scores s are made from q, k and t, the transposed keys."""
    return f"{head(more, inputs, output)} {values} {{ {KEYS} {scores} {WEIGHTS} y = MatMul (w, v) }}"


def rewrites(before: str, after: str, *, opset: int = 23, sizes=SIZES, runs: bool = True) -> None:
    assert_rewrites(PASS, before, after, opset=opset, exact=False, sizes=sizes, runs=runs)


# ---------------------------------------------------------------- scales


@pytest.mark.parametrize(
    ("scores", "scale"),
    [
        ("s = MatMul (q, t)", 1.0),
        ("p = MatMul (q, t)  s = Mul (p, 0.5)", 0.5),
        ("p = MatMul (q, t)  s = Mul (0.5, p)", 0.5),
        ("p = MatMul (q, t)  s = Div (p, 2.0)", 0.5),
        ("p = MatMul (q, t)  s = Div (p, [2.0])", 0.5),
        ("p = MatMul (q, t)  a = Mul (p, 0.5)  s = Div (a, 4.0)", 0.125),
        ("r = Mul (q, 0.5)  s = MatMul (r, t)", 0.5),
        ("r = Mul (0.5, q)  s = MatMul (r, t)", 0.5),
        ("r = Div (q, 2.0)  s = MatMul (r, t)", 0.5),
        ("u = Mul (t, 0.5)  s = MatMul (q, u)", 0.5),
        ("r = Mul (q, 0.5)  u = Mul (t, 0.5)  s = MatMul (r, u)", 0.25),
        ("r = Mul (q, -0.5)  u = Mul (t, -0.5)  s = MatMul (r, u)", 0.25),
        ("r = Mul (q, 0.5)  p = MatMul (r, t)  s = Mul (p, 4.0)", 2.0),
    ],
)
def test_spellings_of_the_scale(scores, scale):
    rewrites(graph(scores), f"{head()} {{ y = Attention <scale = {scale}> (q, k, v) }}")


def test_scale_on_keys_before_their_transpose():
    before = "u = Mul (k, 0.5)  t = Transpose <perm = [0, 1, 3, 2]> (u)  s = MatMul (q, t)"
    rewrites(
        f"{head()} {{ {before} {WEIGHTS} y = MatMul (w, v) }}",
        f"{head()} {{ y = Attention <scale = 0.5> (q, k, v) }}",
    )


def test_scaled_keys_that_others_use_stay_scaled():
    output = f"{OUTPUT}, float[B,2,T,4] u"
    before = "u = Mul (k, 0.5)  t = Transpose <perm = [0, 1, 3, 2]> (u)  s = MatMul (q, t)"
    rewrites(
        f"{head(output=output)} {{ {before} {WEIGHTS} y = MatMul (w, v) }}",
        f"{head(output=output)} {{ u = Mul (k, 0.5)  y = Attention <scale = 1.0> (q, u, v) }}",
    )


@pytest.mark.parametrize(
    "scores",
    [
        "p = MatMul (q, t)  s = Mul (p, 0.0)",
        "p = MatMul (q, t)  s = Mul (p, -0.5)",
        "p = MatMul (q, t)  s = Div (p, 0.0)",
        "r = Div (q, 0.0)  s = MatMul (r, t)",
        "r = Mul (q, 0.0)  s = MatMul (r, t)",
        "u = Mul (t, -1.0)  s = MatMul (q, u)",
        "p = MatMul (q, t)  s = Mul (p, inf)",
    ],
)
def test_scale_that_is_no_positive_number(scores):
    assert_rejects(PASS, graph(scores, values="<float inf = {inf}>"), NOT_A_SCALE, opset=23)


@pytest.mark.parametrize("operator", ["Mul", "Div"])
@pytest.mark.parametrize("shape", ["2,1,1", "1,2,1,1", "B,2,S,1", "1"])
def test_scale_for_each_head_goes_to_the_queries(operator, shape):
    more = f"float[{shape}] c"
    rewrites(
        graph(f"p = MatMul (q, t)  s = {operator} (p, c)", more=more),
        f"{head(more)} {{ r = {operator} (q, c)  y = Attention <scale = 1.0> (r, k, v) }}",
    )


def test_scale_for_each_key_stays():
    assert_rejects(PASS, graph("p = MatMul (q, t)  s = Mul (p, c)", more="float[T] c"), opset=23)


def test_scale_for_each_head_over_a_mask_stays():
    scores = "p = MatMul (q, t)  a = Add (p, m)  s = Mul (a, c)"
    assert_rejects(PASS, graph(scores, more="float[2,1,1] c, float[S,T] m"), opset=23)


def test_number_that_raises_the_rank():
    text = graph("p = MatMul (q, t)  s = Mul (p, c)", values="<float[1,1,1,1,1] c = {0.5}>")
    assert_rejects(PASS, text.replace("B,2,S,4] y", "1,B,2,S,4] y"), NOT_OVER_KEYS, opset=23)


def test_number_that_raises_the_rank_of_a_three_dimensional_product():
    inputs, output = "float[B,S,4] q, float[B,T,4] k, float[B,T,4] v", "float[1,B,S,4] y"
    scores = "t = Transpose <perm = [0, 2, 1]> (k)  p = MatMul (q, t)  s = Mul (p, c)"
    text = (
        f"{head('', inputs, output)} <float[1,1,1,1] c = {{0.5}}> {{ {scores} {WEIGHTS} y = MatMul (w, v) }}"
    )
    assert_rejects(PASS, text, opset=23)


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


FILLS = "<float low = {-3.4028234663852886e38}, float less = {-3.4028232635611926e38}, float inf = {-inf}, float nine = {-1e9}, float zero = {0}>"


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


# ---------------------------------------------------------------- the lowest number


LOW = "<float low = {-3.4028234663852886e38}, float less = {-3.4028232635611926e38}, float zero = {0}, float one = {1}>"
NEXT = "0.9999999403953552"


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("m = Where (c, zero, low)", "m = Where (c, zero, less)"),
        ("m = Where (c, low, zero)", "m = Where (c, less, zero)"),
        ("a = Cast <to = 1> (c)  m = Mul (a, low)", "a = Cast <to = 1> (c)  m = Mul (a, less)"),
        (
            "a = Where (c, zero, low)  d = Tanh (n)  m = Add (a, d)",
            "d = Tanh (n)  a = Where (c, zero, less)  m = Add (a, d)",
        ),
        (
            "a = Where (c, zero, low)  d = Identity (a)  m = Identity (d)",
            f"a = Where (c, zero, low)  d = Identity (a)  e = Identity (d)  m = Mul (e, {NEXT})",
        ),
        ("m = Where (c, n, low)", f"a = Where (c, n, low)  m = Mul (a, {NEXT})"),
        ("m = Identity (n)", f"a = Identity (n)  m = Mul (a, {NEXT})"),
        ("m = Where (c, zero, -1e9)", "m = Where (c, zero, -1e9)"),
    ],
)
def test_masks_of_the_lowest_number(before, after):
    """Where all keys of a query are masked by it, the scores are lost, and it looks at all keys alike."""
    more = "bool[B,1,S,T] c, float[B,1,S,T] n"
    text = graph(f"{before} p = MatMul (q, t)  s = Add (p, m)", more=more, values=LOW)
    rewrites(text, f"{head(more)} {LOW} {{ {after} y = Attention <scale = 1.0> (q, k, v, m) }}")
    model = model_from_text(text, opset=23)
    original = model.clone()
    run_pass(PASS, model)
    for number in (-3.4028234663852886e38, -1e30, 0.0):
        feeds = random_feeds(original, SIZES[0])
        feeds["c"][0, :, 0] = number == 0.0
        feeds["n"][0, :, 1] = number
        assert_same_outputs(original, model, feeds, exact=False)


def test_lowest_number_among_a_constant_and_from_a_loop():
    mask = "<float[2,2] n = {0, -3.4028234663852886e38, 0, 0}, float[2,2] k0 = {0, -1e30, 0, 0}>"
    inputs = "float[1,2,2,4] q, float[1,2,2,4] k, float[1,2,2,4] v"
    for name, count in (("n", 2), ("k0", 1)):
        scores = f"p = MatMul (q, t)  s = Add (p, {name})"
        model = model_from_text(
            graph(scores, inputs=inputs, values=mask, output="float[1,2,2,4] y"), opset=23
        )
        run_pass(PASS, model)
        assert len(operators_of(model)) == count


# ---------------------------------------------------------------- NaN guards


GUARD = "n = IsNaN (w)  z = Where (n, 0.0, w)"


def test_guard_moves_behind():
    more = "bool[B,1,S,T] c"
    scores = "p = MatMul (q, t)  s = Where (c, p, inf)"
    before = f"{head(more)} {FILLS} {{ {KEYS} {scores} {WEIGHTS} {GUARD} y = MatMul (z, v) }}"
    after = f"{head(more)} {FILLS} {{ a = Attention <scale = 1.0> (q, k, v, c)  n = IsNaN (a)  y = Where (n, zero, a) }}"
    rewrites(before, after)


def test_guard_moves_behind_the_merging_of_heads():
    movement = "r = Transpose <perm = [0, 2, 1, 3]> (a)  y = Reshape (r, [0, 0, 8])"
    scores = f"{KEYS} s = MatMul (q, t)  {WEIGHTS} {GUARD} a = MatMul (z, v)"
    output = "float[B,S,8] y"
    after = (
        "a = Attention <scale = 1.0> (q, k, v)  r = Transpose <perm = [0, 2, 1, 3]> (a)"
        "  b = Reshape (r, [0, 0, 8])  n = IsNaN (b)  y = Where (n, 0.0, b)"
    )
    rewrites(f"{head(output=output)} {{ {scores} {movement} }}", f"{head(output=output)} {{ {after} }}")


@pytest.mark.parametrize(
    "guard",
    [
        "n = IsNaN (w)  z = Where (n, 1.0, w)",
        "n = IsNaN (w)  z = Where (n, w, 0.0)",
        "n = IsNaN (s)  z = Where (n, 0.0, w)",
        "n = IsInf (w)  z = Where (n, 0.0, w)",
        "n = IsNaN (w)  z = Where (n, 0.0, s)",
    ],
)
def test_other_choices_are_no_guards(guard):
    text = f"{head()} {{ {KEYS} s = MatMul (q, t)  {WEIGHTS} {guard} y = MatMul (z, v) }}"
    assert_rejects(PASS, text, opset=23)


@pytest.mark.parametrize("wanted", ["w", "n"])
def test_guard_that_others_look_into(wanted):
    dtype = "bool" if wanted == "n" else "float"
    output = f"{OUTPUT}, {dtype}[B,2,S,T] {wanted}"
    text = f"{head(output=output)} {{ {KEYS} s = MatMul (q, t)  {WEIGHTS} {GUARD} y = MatMul (z, v) }}"
    assert_rejects(PASS, text, opset=23)


# ---------------------------------------------------------------- shapes


@pytest.mark.parametrize(
    ("keys", "after"),
    [
        (
            "float[B,T,2,4] k|t = Transpose <perm = [0, 2, 3, 1]> (k)",
            "u = Transpose <perm = [0, 2, 1, 3]> (k)",
        ),
        ("float[B,2,4,T] k|t = Identity (k)", "i = Identity (k)  u = Transpose <perm = [0, 1, 3, 2]> (i)"),
        (
            "float[2,T,B,4] k|t = Transpose <perm = [2, 0, 3, 1]> (k)",
            "u = Transpose <perm = [2, 0, 1, 3]> (k)",
        ),
    ],
)
def test_keys_of_any_layout(keys, after):
    declared, transpose = keys.split("|")
    inputs = f"float[B,2,S,4] q, {declared}, float[B,2,T,4] v"
    rewrites(
        f"{head('', inputs)} {{ {transpose} s = MatMul (q, t)  {WEIGHTS} y = MatMul (w, v) }}",
        f"{head('', inputs)} {{ {after} y = Attention <scale = 1.0> (q, u, v) }}",
    )


def test_reversed_axes_are_a_transpose_without_perm():
    inputs = "float[B,S,4] q, float[T,4,B] k, float[B,T,4] v"
    rewrites(
        f"{head('', inputs, 'float[B,S,4] y')} {{ r = Transpose <perm = [2, 0, 1]> (k)"
        f"  t = Transpose <perm = [0, 2, 1]> (r)  s = MatMul (q, t)  {WEIGHTS} y = MatMul (w, v) }}",
        f"{head('', inputs, 'float[B,S,4] y')} {{ r = Transpose <perm = [2, 0, 1]> (k)"
        "  y = Attention <scale = 1.0, q_num_heads = 1, kv_num_heads = 1> (q, r, v) }",
    )


def test_transposed_keys_that_others_use():
    output = f"{OUTPUT}, float[B,2,4,T] t"
    rewrites(
        graph("s = MatMul (q, t)", output=output),
        f"{head(output=output)} {{ {KEYS} y = Attention <scale = 1.0> (q, k, v) }}",
    )


def test_keys_are_values():
    inputs = "float[B,2,S,4] q, float[B,2,T,4] k"
    rewrites(
        f"{head('', inputs)} {{ {KEYS} s = MatMul (q, t)  {WEIGHTS} y = MatMul (w, k) }}",
        f"{head('', inputs)} {{ y = Attention <scale = 1.0> (q, k, k) }}",
    )


def test_values_of_another_size():
    inputs = INPUTS.replace("T,4] v", "T,7] v")
    output = "float[B,2,S,7] y"
    rewrites(
        graph("s = MatMul (q, t)", inputs=inputs, output=output),
        f"{head('', inputs, output)} {{ y = Attention <scale = 1.0> (q, k, v) }}",
    )


def test_values_of_another_length_by_name():
    """The product with the values says that there are as many of them as keys."""
    inputs = INPUTS.replace("T,4] v", "U,4] v")
    rewrites(
        graph("s = MatMul (q, t)", inputs=inputs),
        f"{head('', inputs)} {{ y = Attention <scale = 1.0> (q, k, v) }}",
        sizes=[s | {"U": s["T"]} for s in SIZES],
    )


def test_values_of_another_length_beside_a_mask_that_may_enlarge_the_keys():
    inputs = INPUTS.replace("T,4] v", "U,4] v")
    text = graph("p = MatMul (q, t)  s = Add (p, m)", more="float[S,U] m", inputs=inputs)
    assert_rejects(PASS, text, SHAPES_DIFFER, opset=23)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("float[B,2,S,4] q", "float[1,2,S,4] q"),
        ("float[B,2,S,4] q", "float[B,1,S,4] q"),
        ("float[B,2,T,4] k", "float[C,2,T,4] k"),
        ("float[B,2,T,4] k", "float[B,H,T,4] k"),
        ("float[B,2,T,4] k", "float[1,2,T,4] k"),
        ("float[B,2,T,4] v", "float[C,2,T,4] v"),
        ("float[B,2,T,4] v", "float[B,1,T,4] v"),
        ("float[B,2,T,4] v", "float[2,T,4] v"),
        ("float[B,2,S,4] q", "float[2,S,4] q"),
        ("float[B,2,S,4] q", "float[B,2,S,D] q"),
    ],
)
def test_batch_or_heads_that_broadcast(old, new):
    assert_rejects(PASS, graph("s = MatMul (q, t)").replace(old, new), SHAPES_DIFFER, opset=23)


@pytest.mark.parametrize(("old", "new"), [("S,4", "0,4"), ("T,4", "0,4"), ("S,4] q", "S,0] q")])
def test_empty(old, new):
    text = graph("s = MatMul (q, t)").replace(old, new)
    text = text.replace("T,4] k", "T,0] k") if "0] q" in new else text
    assert_rejects(PASS, text, IS_EMPTY, opset=23)


def test_rank_two():
    inputs, output = "float[S,4] q, float[T,4] k, float[T,4] v", "float[S,4] y"
    text = (
        f"{head('', inputs, output)} {{ t = Transpose (k)  s = MatMul (q, t)  {WEIGHTS} y = MatMul (w, v) }}"
    )
    assert_rejects(PASS, text, NOT_OVER_KEYS, opset=23)


@pytest.mark.parametrize("axis", [-2, 2, 0, 1])
def test_softmax_over_another_axis(axis):
    text = graph("s = MatMul (q, t)").replace("axis = -1", f"axis = {axis}")
    assert_rejects(PASS, text, NOT_OVER_KEYS, opset=23)


def test_softmax_before_opset_13_is_over_axis_1_by_default():
    text = graph("s = MatMul (q, t)").replace("<axis = -1> (s)", "(s)")
    assert_rejects(PASS, text, NOT_OVER_KEYS, opset=12)
    rewrites(text, f"{head()} {{ y = Attention <scale = 1.0> (q, k, v) }}")


@pytest.mark.parametrize("opset", [11, 13, 18])
def test_raises_the_opset(opset):
    before = graph("p = MatMul (q, t)  s = Div (p, 2.0)")
    after = f"{head()} {{ y = Attention <scale = 0.5> (q, k, v) }}"
    assert_rewrites(PASS, before, after, opset=opset, raised_to=23, exact=False, sizes=SIZES)


@pytest.mark.parametrize("dtype", ["float16", "double", "bfloat16"])
def test_other_types(dtype):
    before = graph(f"{MASK} p = MatMul (q, t)  s = Add (p, m)", more="float[S,T] n").replace("float", dtype)
    after = f"{head('float[S,T] n')} {{ {MASK} y = Attention <scale = 1.0> (q, k, v, m) }}".replace(
        "float", dtype
    )
    rewrites(before, after, runs=dtype == "double")


def test_half_precision_agrees():
    model = model_from_text(
        graph("p = MatMul (q, t)  s = Div (p, two)", values="<float two = {16384}>").replace(
            "float", "float16"
        ),
        opset=23,
    )
    original = model.clone()
    run_pass(PASS, model)
    assert operators_of(model) == ["Attention"]
    feeds = random_feeds(original, SIZES[0])
    (first,), (second,) = run(original, feeds), run(model, feeds)
    assert np.abs(first.astype("f4") - second.astype("f4")).max() < 4e-3


# ---------------------------------------------------------------- one head


ONE_HEAD = "float[B,S,4] q, float[B,T,4] k, float[B,T,4] v"


def one_head(scores: str, more: str = "") -> str:
    keys = "t = Transpose <perm = [0, 2, 1]> (k)"
    return f"{head(more, ONE_HEAD, 'float[B,S,4] y')} {{ {keys} {scores} {WEIGHTS} y = MatMul (w, v) }}"


@pytest.mark.parametrize(
    ("shape", "nodes", "mask"),
    [
        ("S,T", "", "m"),
        ("1,S,T", "u = Squeeze (m, [0])", "u"),
        ("B,S,T", "u = Unsqueeze (m, [1])", "u"),
        (
            "B,1,T",
            "u = Unsqueeze (m, [1])  sq = Shape <start = 1, end = 2> (q)"
            "  e = Concat <axis = 0> ([1, 1], sq, [1])  x = Expand (u, e)",
            "x",
        ),
        (
            "1,T",
            "sq = Shape <start = 1, end = 2> (q)  e = Concat <axis = 0> (sq, [1])  x = Expand (m, e)",
            "x",
        ),
    ],
)
def test_one_head(shape, nodes, mask):
    more = f"float[{shape}] n"
    attention = f"y = Attention <scale = 0.5, q_num_heads = 1, kv_num_heads = 1> (q, k, v, {mask})"
    rewrites(
        one_head(f"{MASK} p = MatMul (q, t)  a = Mul (p, 0.5)  s = Add (a, m)", more),
        f"{head(more, ONE_HEAD, 'float[B,S,4] y')} {{ {MASK} {nodes} {attention} }}",
    )


def test_one_head_with_a_mask_for_each_head_is_no_one_head():
    text = one_head("p = MatMul (q, t)  s = Add (p, m)", "float[H,S,T] m")
    assert_rejects(PASS, text, MASK_DOES_NOT_FIT, opset=23)


# ---------------------------------------------------------------- other consumers, scopes


@pytest.mark.parametrize("value", ["p", "s", "w", "r"])
def test_inner_value_is_an_output(value):
    shape = "B,2,S,4" if value == "r" else "B,2,S,T"
    output = f"{OUTPUT}, float[{shape}] {value}"
    text = graph(
        f"{MASK} r = Mul (q, 0.5)  p = MatMul (r, t)  s = Add (p, m)", more="float[S,T] n", output=output
    )
    if value == "r":
        rewrites(
            text,
            f"{head('float[S,T] n', output=output)} {{ {MASK} r = Mul (q, 0.5)"
            "  y = Attention <scale = 1.0> (r, k, v, m) }",
        )
        return
    assert_rejects(PASS, text, HAS_OTHER_CONSUMERS if value == "w" else None, opset=23)


def test_inner_value_has_another_consumer():
    output = f"{OUTPUT}, float[B,2,S,T] z"
    text = graph("s = MatMul (q, t)", output=output).replace(" }", " z = Neg (w) }")
    assert_rejects(PASS, text, HAS_OTHER_CONSUMERS, opset=23)


def test_overridable_scale():
    text = graph("p = MatMul (q, t)  s = Mul (p, c)", more="float c", values="<float c = {0.5}>")
    model = model_from_text(text, opset=23)
    run_pass(PASS, model)
    assert operators_of(model) == ["Transpose", "MatMul", "Mul", "Softmax", "MatMul"]


def test_in_a_branch_and_a_loop():
    body = f"{KEYS} p = MatMul (q, t)  s = Mul (p, 0.5)  {WEIGHTS} z = MatMul (w, v)"
    attention = "z = Attention <scale = 0.5> (q, k, v)"

    def in_branch(nodes: str) -> str:
        return f"""{head("bool c")} {{
            y = If (c) <then_branch = a () => (float[B,2,S,4] z) {{ {nodes} }},
                        else_branch = b () => (float[B,2,S,4] z2) {{ z2 = Neg (q) }}>
        }}"""

    rewrites(in_branch(body), in_branch(attention))

    inputs = "float[B,2,1,4] q0, float[B,2,T,4] k, float[B,2,T,4] v"

    def in_loop(nodes: str) -> str:
        return f"""g ({inputs}) => (float[B,2,1,4] y) {{
            y = Loop (3, , q0) <body = b (int64 i, bool c, float[B,2,1,4] q) => (bool c2, float[B,2,1,4] z) {{
                c2 = Identity (c)  {nodes}
            }}>
        }}"""

    rewrites(in_loop(body), in_loop(attention))


def test_softmax_in_another_scope():
    scores = f"{KEYS} s = MatMul (q, t)  {WEIGHTS}"
    text = f"""{head("bool c")} {{ {scores}
        y = If (c) <then_branch = a () => (float[B,2,S,4] z) {{ z = MatMul (w, v) }},
                    else_branch = b () => (float[B,2,S,4] z2) {{ z2 = Neg (q) }}>
    }}"""
    assert_rejects(PASS, text, OTHER_SCOPE, opset=23)


def test_operator_of_another_domain():
    text = graph("s = MatMul (q, t)").replace("Softmax <axis = -1>", "other.Softmax <axis = -1>")
    assert_rejects(PASS, text, opset=23, domains={"other": 1})


# ---------------------------------------------------------------- random configurations


@settings(max_examples=40)
@given(st.data())
def test_random_configurations(data):
    size = st.integers(1, 5)
    batch, heads, queries, keys = (data.draw(size) for _ in range(4))
    depth, wide = data.draw(st.sampled_from([1, 2, 3, 8])), data.draw(size)
    four = data.draw(st.booleans())
    outer = "B,H," if four else "B,"
    static = {"B": batch, "H": heads, "S": queries, "T": keys, "D": depth, "E": wide}
    fixed = data.draw(st.sets(st.sampled_from("BHSTDE")))
    rank = 4 if four else 3

    def shape(dims: str) -> str:
        return ",".join(str(static[d]) if d in fixed else d for d in dims.split(","))

    full = [*outer.strip(",").split(","), "S", "T"]
    lead = data.draw(st.integers(0, rank))
    mask = [data.draw(st.sampled_from(["1", d])) for d in full[rank - lead :]]
    more = f"float[{','.join(str(static[d]) if d in fixed else d for d in mask)}] m" if lead else "float m"
    scale = data.draw(st.sampled_from(["0.25", "1.5", "1.0"]))
    order = data.draw(st.sampled_from(["s = Add (a, m)", "s = Add (m, a)"]))
    perm = "0, 1, 3, 2" if four else "0, 2, 1"
    text = f"""g (float[{shape(outer + "S,D")}] q, float[{shape(outer + "T,D")}] k,
                  float[{shape(outer + "T,E")}] v, {more}) => (float[{shape(outer + "S,E")}] y) {{
        t = Transpose <perm = [{perm}]> (k)  p = MatMul (q, t)  a = Mul (p, {scale})  {order}
        w = Softmax (s)  y = MatMul (w, v) }}"""
    model = model_from_text(text, opset=23)
    original = model.clone()
    trace = run_pass(PASS, model)
    assert trace.firings, list(trace.misses.values())
    assert_same_outputs(original, model, random_feeds(original, static), exact=False)
