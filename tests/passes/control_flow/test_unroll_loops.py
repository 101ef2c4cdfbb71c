import pytest

from graphopt.testing import assert_rejects, assert_rewrites

PASS = "unroll-loops"


def loop(count: str, condition: str, again: str = "Identity(k)") -> str:
    return f"""g (int64 n, bool c, float[N] x) => (float[N] y) {{
        y = Loop ({count}, {condition}, x) <body = b (int64 i, bool k, float[N] s) => (bool k2, float[N] t) {{
            k2 = {again}  f = Cast <to = 1> (i)  t = Add(s, f) }}> }}"""


def test_one_iteration_needs_no_loop():
    assert_rewrites(
        f"({PASS},remove-dead-code)",
        before=loop("1", "true", again="Constant <value = bool {0}> ()"),
        after="g (int64 n, bool c, float[N] x) => (float[N] y) { f = Cast <to = 1> (0)  y = Add(x, f) }",
    )


@pytest.mark.parametrize(("count", "condition"), [("0", "c"), ("n", "false")])
def test_no_iteration_leaves_the_initial_value(count, condition):
    assert_rewrites(
        PASS,
        before=loop(count, condition),
        after="g (int64 n, bool c, float[N] x) => (float[N] y) { y = Identity(x) }",
    )


def test_more_iterations_only_when_asked_for():
    text = loop("2", "true", again="Constant <value = bool {1}> ()")
    assert_rejects(PASS, text)
    assert_rewrites(
        f"({PASS}{{most-trips=4}},remove-dead-code)",
        before=text,
        after="""g (int64 n, bool c, float[N] x) => (float[N] y) {
            f = Cast <to = 1> (0)  t = Add(x, f)  f2 = Cast <to = 1> (1)  y = Add(t, f2) }""",
    )


def test_scan_outputs_are_stacked():
    assert_rewrites(
        f"({PASS}{{most-trips=2}},remove-dead-code)",
        before="""g (float[N] x) => (float[N] y, float[2,N] z) {
            y, z = Loop (2, true, x) <body = b (int64 i, bool k, float[N] s) => (bool k2, float[N] t, float[N] r) {
                k2 = Constant <value = bool {1}> ()  t = Relu(s)  r = Neg(s) }> }""",
        after="""g (float[N] x) => (float[N] y, float[2,N] z) {
            a = Relu(x)  r1 = Neg(x)  y = Relu(a)  r2 = Neg(a)
            u1 = Unsqueeze(r1, [0])  u2 = Unsqueeze(r2, [0])  z = Concat <axis = 0> (u1, u2) }""",
    )


@pytest.mark.parametrize(("count", "condition"), [("n", "true"), ("1", "c"), ("2", "true")])
def test_unknown_number_of_iterations_stays(count, condition):
    assert_rejects(PASS, loop(count, condition))
