from __future__ import annotations

import pytest

from graphopt.passes.fusion.fuse_attention import OTHER_ZEROS
from graphopt.testing import (
    assert_rejects,
    assert_same_outputs,
    model_from_text,
    operators_of,
    random_feeds,
    run_pass,
)
from tests.passes.fusion.attention_graphs import (
    FILLS,
    KEYS,
    OUTPUT,
    PASS,
    SIZES,
    WEIGHTS,
    graph,
    head,
    rewrites,
)

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


# ---------------------------------------------------------------- weights that are set to zero


def zeroed(weights: str, scores: str = "s = Where (c, low, p)") -> str:
    more = "bool[B,1,S,T] c, bool[B,1,S,T] c2"
    return (
        f"{head(more)} {FILLS} {{ {KEYS} p = MatMul (q, t)  {scores}  {WEIGHTS} z = {weights}"
        "  y = MatMul (z, v) }"
    )


@pytest.mark.parametrize(
    ("weights", "scores", "mask"),
    [
        ("Where (c, zero, w)", "s = Where (c, low, p)", "m = Where (c, inf, zero)"),
        ("Where (c, w, zero)", "s = Where (c, p, nine)", "m = Identity (c)"),
        (
            "Where (c, zero, w)",
            "o = Tanh (p0)  a = Add (p, o)  s = Where (c, low, a)",
            "m = Where (c, inf, o)",
        ),
    ],
)
def test_zero_weights_of_masked_keys(weights, scores, mask):
    """Queries that may see no key get zeros, as the random conditions try."""
    before = zeroed(weights, scores).replace("bool[B,1,S,T] c2", "bool[B,1,S,T] c2, float[B,2,S,T] p0")
    more = "bool[B,1,S,T] c, bool[B,1,S,T] c2, float[B,2,S,T] p0"
    other = "o = Tanh (p0)" if "Tanh" in scores else ""
    if "Identity" in mask:
        mask, name = "", "c"
    else:
        name = "m"
    after = (
        f"{other} {mask} a = Attention <scale = 1.0> (q, k, v, {name})  n = IsNaN (a)  y = Where (n, zero, a)"
    )
    rewrites(before, f"{head(more)} {FILLS} {{ {after} }}")


@pytest.mark.parametrize(
    ("weights", "scores"),
    [
        ("Where (c2, zero, w)", "s = Where (c, low, p)"),
        ("Where (c, w, zero)", "s = Where (c, low, p)"),
        ("Where (c, zero, w)", "s = Where (c, p, low)"),
        ("Where (c, zero, w)", "a = Where (c, low, p)  s = Where (c2, low, a)"),
        ("Where (c, zero, w)", "s = MatMul (q, t)"),
        ("Where (c, zero, w)", "s = Where (c, -1e4, p)"),
    ],
)
def test_zero_weights_of_other_keys(weights, scores):
    assert_rejects(PASS, zeroed(weights, scores), OTHER_ZEROS, opset=23)


@pytest.mark.parametrize("weights", ["Where (c, nine, w)", "Where (c, p, w)", "Where (c, zero, s)"])
def test_weights_that_are_set_to_something_else(weights):
    assert_rejects(PASS, zeroed(weights), opset=23)
