import pytest

import examples.convert_squares_to_mul  # noqa: F401 (registers the pass)
from graphopt.testing import assert_rewrites, model_from_text, operators_of, run_pass

PASS = "convert-squares-to-mul"


@pytest.mark.parametrize("rows", [0, 3])
def test_squares_are_multiplied(rows):
    assert_rewrites(
        PASS,
        before="g (float[N,4] x) => (float[N,4] y) { a = Neg(x)  y = Pow(a, 2.0) }",
        after="g (float[N,4] x) => (float[N,4] y) { a = Neg(x)  y = Mul(a, a) }",
        sizes=[{"N": rows}],
    )


@pytest.mark.parametrize("exponent", ["3.0", "[2.0]", "e"])
def test_other_powers_stay(exponent):
    model = model_from_text(f"g (float[N,4] x, float e) => (float[N,4] y) {{ y = Pow(x, {exponent}) }}")
    assert not run_pass(PASS, model).firings
    assert operators_of(model) == ["Pow"]


def test_contents_of_an_initializer_count():
    text = "g (float[N,4] x) => (float[N,4] y) <float two = {2.0}> { y = Pow(x, two) }"
    model = model_from_text(text)
    run_pass(PASS, model)
    assert operators_of(model) == ["Mul"]
