import numpy as np
import pytest

from graphopt.passes.cleanup.remove_zero_additions import WIDENS
from graphopt.testing import assert_rejects, assert_rewrites, model_from_text, run, run_pass

PASS = "remove-zero-additions"


@pytest.mark.parametrize("expression", ["Add(x, 0.0)", "Add(0.0, x)", "Sub(x, -0.0)", "Add(x, [0.0, 0.0])"])
def test_zero_is_not_added(expression):
    assert_rewrites(
        PASS,
        before=f"g (float[N,2] x) => (float[N,2] y) {{ a = {expression}  y = Exp(a) }}",
        after="g (float[N,2] x) => (float[N,2] y) { y = Exp(x) }",
        sizes=[{"N": 0}, {"N": 2}],
    )


@pytest.mark.parametrize("expression", ["Sub(0.0, x)", "Add(x, 1e-9)", "Add(x, [0.0, 1.0])"])
def test_anything_else_stays(expression):
    assert_rejects(PASS, f"g (float[N,2] x) => (float[N,2] y) {{ a = {expression}  y = Exp(a) }}")


def test_zeros_that_may_widen_stay():
    assert_rejects(PASS, "g (float[N] x) => (float[M] y) { a = Add(x, [0.0, 0.0])  y = Exp(a) }", WIDENS)


def test_only_the_sign_of_a_zero_differs():
    model = model_from_text("g (float[4] x) => (float[4] y) { a = Add(x, 0.0)  y = Identity(a) }")
    x = np.array([-0.0, np.nan, -np.inf, 1e-45], np.float32)
    before = run(model, {"x": x})[0]
    run_pass(f"{PASS},remove-identity", model)
    np.testing.assert_array_equal(run(model, {"x": x})[0], before)
