from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graphopt.passes.fusion.fuse_attention import IS_EMPTY, NOT_OVER_KEYS, SHAPES_DIFFER, TYPES_DIFFER
from graphopt.rewriting import HAS_OTHER_CONSUMERS, OTHER_SCOPE
from graphopt.rewriting.attention_masks import MASK_DOES_NOT_FIT
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
from tests.passes.fusion.attention_graphs import (
    INPUTS,
    KEYS,
    MASK,
    OUTPUT,
    PASS,
    SIZES,
    WEIGHTS,
    graph,
    head,
    rewrites,
)

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


HALF = "float16[B,2,S,4] q, float16[B,2,T,4] k, float16[B,2,T,4] v"


def wide_softmax(scores: str, weights: str = "w = Cast <to = 10> (x)") -> str:
    return f"g ({HALF}) => (float16[B,2,S,4] y) {{ {KEYS} {scores} {weights}  y = MatMul (w, v) }}"


def test_softmax_of_half_precision_scores_in_single_precision():
    text = wide_softmax("p = MatMul (q, t)  s = Cast <to = 1> (p)  x = Softmax (s)")
    after = f"g ({HALF}) => (float16[B,2,S,4] y) {{ y = Attention <scale = 1.0, softmax_precision = 1> (q, k, v) }}"
    rewrites(text, after, runs=False)
    model = model_from_text(text, opset=23)
    original = model.clone()
    run_pass(PASS, model)
    feeds = random_feeds(original, SIZES[0])
    (first,), (second,) = run(original, feeds), run(model, feeds)
    assert np.abs(first.astype("f4") - second.astype("f4")).max() < 4e-3


@pytest.mark.parametrize(
    "scores",
    [
        "a = Cast <to = 1> (q)  b = Cast <to = 1> (t)  s = MatMul (a, b)  x = Softmax (s)",
        "p = MatMul (q, t)  c = Cast <to = 1> (p)  s = Mul (c, 0.5)  x = Softmax (s)",
    ],
)
def test_scores_that_are_wide_before_the_softmax(scores):
    assert_rejects(PASS, wide_softmax(scores), TYPES_DIFFER, opset=23)


def test_wide_softmax_that_others_use():
    text = wide_softmax("p = MatMul (q, t)  s = Cast <to = 1> (p)  x = Softmax (s)")
    assert_rejects(PASS, text.replace(" y) {", " y, float[B,2,S,T] x) {"), TYPES_DIFFER, opset=23)


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
