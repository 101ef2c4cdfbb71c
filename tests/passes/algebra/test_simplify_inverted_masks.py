import numpy as np
import pytest

from graphopt.passes.algebra.simplify_inverted_masks import NOT_WHOLE
from graphopt.rewriting.match import HAS_OTHER_CONSUMERS
from graphopt.testing import assert_rejects, assert_rewrites, model_from_text, run, run_pass

PASS = "simplify-inverted-masks"
BODY = "f = Cast <to = {to}> (m)  i = Sub(1.0, f)  b = Cast <to = 9> (i)  y = Where(b, c, i)"


@pytest.mark.parametrize("kind", ["int64", "int32"])
def test_whole_numbers(kind):
    assert_rewrites(
        PASS,
        before=f"g ({kind}[N,4] m, float c) => (float[N,4] y) {{ {BODY.format(to=1)} }}",
        after=f"g ({kind}[N,4] m, float c) => (float[N,4] y) {{ e = Equal(m, o)  y = Where(e, 0.0, c) }}".replace(
            "e = Equal(m, o)",
            "e = Equal(m, 1)" if kind == "int64" else "o = Constant <value = int32 {1}> ()  e = Equal(m, o)",
        ),
        sizes=[{}, {"N": 0}],
    )


def test_conditions():
    assert_rewrites(
        PASS,
        before=f"g (bool[N,4] m, float[4] c) => (float[N,4] y) {{ {BODY.format(to=1)} }}",
        after="g (bool[N,4] m, float[4] c) => (float[N,4] y) { y = Where(m, 0.0, c) }",
        sizes=[{}, {"N": 0}],
    )


def test_every_number_and_its_zero():
    model = model_from_text(f"g (int64[9] m, float c) => (float[9] y) {{ {BODY.format(to=1)} }}")
    feeds = {
        "m": np.array([0, 1, 2, -1, -(2**63), 2**63 - 1, 2**24 + 1, 1, 0]),
        "c": np.array(np.finfo(np.float32).min),
    }
    (before,) = run(model, feeds)
    assert run_pass(PASS, model).firings
    (after,) = run(model, feeds)
    assert before.tobytes() == after.tobytes()


def test_fractions_stay():
    assert_rejects(PASS, f"g (double[4] m, float c) => (float[4] y) {{ {BODY.format(to=1)} }}", NOT_WHOLE)


def test_the_inverse_is_needed_elsewhere():
    graph = f"g (int64[4] m, float c) => (float[4] y, float[4] z) {{ {BODY.format(to=1)}  z = Neg(i) }}"
    assert_rejects(PASS, graph, HAS_OTHER_CONSUMERS)


@pytest.mark.parametrize(
    "body",
    [
        "f = Cast <to = 1> (m)  i = Sub(2.0, f)  b = Cast <to = 9> (i)  y = Where(b, c, i)",
        "f = Cast <to = 1> (m)  i = Sub(f, 1.0)  b = Cast <to = 9> (i)  y = Where(b, c, i)",
        "f = Cast <to = 1> (m)  i = Sub(1.0, f)  b = Cast <to = 9> (i)  y = Where(b, i, c)",
        "f = Cast <to = 1> (m)  i = Sub(1.0, f)  b = Cast <to = 9> (f)  y = Where(b, c, i)",
    ],
)
def test_leaves_alone(body):
    assert_rejects(PASS, f"g (int64[4] m, float c) => (float[4] y) {{ {body} }}")
