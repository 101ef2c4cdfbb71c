import pytest

from graphopt.passes.cleanup.remove_no_op_selections import WIDENS
from graphopt.testing import assert_rejects, assert_rewrites

PASS = "remove-no-op-selections"


@pytest.mark.parametrize(
    ("expression", "after"),
    [
        ("Where(true, x, z)", "x"),
        ("Where(false, z, x)", "x"),
        ("Where(c, x, x)", "x"),
    ],
)
def test_decided_selection_is_removed(expression, after):
    assert_rewrites(
        PASS,
        before=f"g (float[N] x, float[N] z, bool c) => (float[N] y) {{ a = {expression}  y = Exp(a) }}",
        after=f"g (float[N] x, float[N] z, bool c) => (float[N] y) {{ y = Exp({after}) }}",
        sizes=[{"N": 0}, {"N": 2}],
    )


@pytest.mark.parametrize("expression", ["Where(c, x, z)", "Where(c, x, 0.0)"])
def test_open_selection_stays(expression):
    assert_rejects(
        PASS, f"g (float[N] x, float[N] z, bool c) => (float[N] y) {{ a = {expression}  y = Exp(a) }}"
    )


@pytest.mark.parametrize("expression", ["Where(true, s, x)", "Where(true, x, w)", "Where(m, x, x)"])
def test_selection_that_may_widen_stays(expression):
    assert_rejects(
        PASS,
        f"""g (float[N] x, float s, float[M,1] w, bool[2,1] m) => (float y) {{
            a = {expression}  y = ReduceMax(a)
        }}""",
        WIDENS,
    )


def test_condition_computed_from_static_dims_decides():
    assert_rewrites(
        PASS,
        before="""g (float[N,3] x, float[N,3] z) => (float[N,3] y) {
            s = Shape <start = 1> (x)  c = Equal(s, [3])  a = Where(c, x, z)  y = Exp(a)
        }""",
        after="g (float[N,3] x, float[N,3] z) => (float[N,3] y) { y = Exp(x) }",
    )


def test_condition_computed_from_a_dynamic_dim_does_not():
    assert_rejects(
        PASS,
        """g (float[N,3] x, float[N,3] z) => (float[N,3] y) {
            s = Shape <end = 1> (x)  c = Equal(s, [3])  a = Where(c, x, z)  y = Exp(a)
        }""",
    )


def test_scatter_of_nothing_is_removed():
    assert_rewrites(
        PASS,
        before="""g (float[4,2] x, int64[0,1] i, float[0,2] u) => (float[4,2] y) {
            a = ScatterND(x, i, u)  y = Exp(a)
        }""",
        after="g (float[4,2] x, int64[0,1] i, float[0,2] u) => (float[4,2] y) { y = Exp(x) }",
    )


def test_scatter_of_something_stays():
    assert_rejects(
        PASS,
        """g (float[4,2] x, int64[N,1] i, float[N,2] u) => (float[4,2] y) {
            a = ScatterND(x, i, u)  y = Exp(a)
        }""",
    )
