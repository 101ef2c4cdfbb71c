from __future__ import annotations

import pytest

from graphopt.rewriting import HAS_OTHER_CONSUMERS, NEEDS_OPSET
from graphopt.testing import assert_rejects, assert_rewrites

PASS = "fuse-gelu"
CONSTANTS = (
    "half = Constant <value = float {0.5}> ()  one = Constant <value = float {1.0}> ()  "
    "two = Constant <value = float {2.0}> ()  three = Constant <value = float {3.0}> ()  "
    "root = Constant <value = float {1.4142135}> ()  invroot = Constant <value = float {0.70710678}> ()  "
    "c = Constant <value = float {0.044715}> ()  k = Constant <value = float {0.7978846}> ()  "
    "ck = Constant <value = float {0.035677407}> ()  "
)
GATES = [
    "h = Mul (x, g)  y = Mul (h, half)",
    "h = Mul (half, x)  y = Mul (h, g)",
    "h = Mul (g, half)  y = Mul (x, h)",
    "h = Mul (g, x)  y = Div (h, two)",
    "h = Div (x, two)  y = Mul (g, h)",
]
ERF = ["e = Div (x, root)", "e = Mul (x, invroot)"]
TANH = [
    "p = Pow (x, three)  q = Mul (p, c)  r = Add (x, q)  t = Mul (r, k)",
    "o = Mul (x, x)  p = Mul (x, o)  q = Mul (c, p)  r = Add (q, x)  t = Mul (k, r)",
    "o = Pow (x, two)  p = Mul (x, c)  q = Mul (p, o)  r = Add (x, q)  t = Mul (r, k)",
    "p = Mul (c, x)  o = Mul (x, p)  q = Mul (x, o)  r = Add (x, q)  t = Mul (k, r)",
    "o = Mul (x, x)  p = Mul (o, c)  q = Add (p, one)  r = Mul (x, k)  t = Mul (r, q)",
    "o = Mul (x, x)  p = Mul (o, ck)  q = Add (p, k)  t = Mul (x, q)",
]


def graph(body, wide="float"):
    constants = CONSTANTS.replace("= float {", f"= {wide} {{")
    return f"g ({wide}[N,4] x) => ({wide}[N,4] y) {{ {constants} {body} }}"


def by_erf(scaled=ERF[0], gate=GATES[0]):
    return f"{scaled}  f = Erf (e)  g = Add (f, one)  {gate}"


def by_tanh(inner=TANH[0], gate=GATES[0]):
    return f"{inner}  f = Tanh (t)  g = Add (one, f)  {gate}"


@pytest.mark.parametrize("scaled", ERF)
@pytest.mark.parametrize("gate", GATES)
def test_the_erf_form(scaled, gate):
    assert_rewrites(
        PASS,
        before=graph(by_erf(scaled, gate)),
        after=graph("y = Gelu (x)"),
        opset=20,
        exact=False,
        sizes=[{"N": 3}, {"N": 0}],
    )


@pytest.mark.parametrize("inner", TANH)
@pytest.mark.parametrize("gate", [GATES[0], GATES[2]])
def test_the_tanh_form(inner, gate):
    assert_rewrites(
        PASS,
        before=graph(by_tanh(inner, gate)),
        after=graph('y = Gelu <approximate = "tanh"> (x)'),
        opset=20,
        exact=False,
    )


@pytest.mark.parametrize("opset", [11, 13, 17, 18])
def test_older_opsets_are_raised(opset):
    assert_rewrites(
        PASS, before=graph(by_erf()), after=graph("y = Gelu (x)"), opset=opset, raised_to=23, exact=False
    )
    assert_rejects(PASS, graph(by_erf()), NEEDS_OPSET, opset=opset)


def test_doubles():
    assert_rewrites(
        PASS,
        before=graph(by_erf(), "double"),
        after=graph("y = Gelu (x)", "double"),
        opset=20,
        exact=False,
        runs=False,
    )


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (by_erf().replace("root", "two"), None),
        (by_erf().replace("Add (f, one)", "Add (f, two)"), None),
        (by_erf(gate="h = Mul (x, g)  y = Mul (h, two)"), None),
        (by_erf(gate="h = Mul (e, g)  y = Mul (h, half)"), None),
        (by_tanh().replace("Pow (x, three)", "Pow (x, two)"), None),
        (by_tanh().replace("Mul (r, k)", "Mul (r, half)"), None),
        (by_erf(gate="h = Mul (x, g)  j = Mul (h, half)  y = Add (j, g)"), HAS_OTHER_CONSUMERS),
    ],
)
def test_leaves_alone(body, reason):
    assert_rejects(PASS, graph(body), reason, opset=20)


def test_a_number_of_higher_rank_would_widen_the_result():
    text = graph(by_erf()).replace(
        "one = Constant <value = float {1.0}>", "one = Constant <value = float[1,1,1] {1.0}>"
    )
    assert_rejects(PASS, text.replace("(float[N,4] y)", "(float[1,N,4] y)"), opset=20)


def test_in_the_body_of_a_loop():
    text = (
        "g (int64 k0, bool on, float[2,4] x0) => (float[2,4] z) {{ {constants} z = Loop (k0, on, x0) <body = b "
        "(int64 i, bool go, float[2,4] x) => (bool stay, float[2,4] w) {{ stay = Identity (go)  {body}  "
        "w = Neg (y) }}> }}"
    )
    kept = "".join(
        f"{part}()  "
        for part in CONSTANTS.split("()  ")
        if part.split(" ")[0] in ("two", "three", "invroot", "c", "k", "ck")
    )
    assert_rewrites(
        PASS,
        before=text.format(constants=CONSTANTS, body=by_erf()),
        after=text.format(constants=kept, body="y = Gelu (x)"),
        opset=20,
        exact=False,
        runs=False,
    )
