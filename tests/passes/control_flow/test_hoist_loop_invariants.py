import pytest

from graphopt.testing import assert_rejects, assert_rewrites

PASS = "hoist-loop-invariants"


def loop(count: str, condition: str, body: str, outside: str = "", yields: str = "t") -> str:
    return f"""g (int64 n, bool c, float[4,4] m, float[4,4] x) => (float[4,4] y) {{
        {outside}
        y = Loop ({count}, {condition}, x) <body = b (int64 i, bool k, float[4,4] s) => (bool k2, float[4,4] t) {{
            k2 = Identity(k)  {body} }}> }}"""


def test_invariant_work_goes_before_the_loop():
    assert_rewrites(
        PASS,
        before=loop("n", "c", "a = Relu(m)  e = Exp(a)  t = Add(s, e)"),
        after=loop("n", "c", "t = Add(s, e)", outside="a = Relu(m)  e = Exp(a)"),
    )


@pytest.mark.parametrize("operator", ["Relu(s)", "Mul(s, m)"])
def test_what_depends_on_the_state_stays(operator):
    assert_rejects(PASS, loop("n", "c", f"a = {operator}  t = Add(s, a)"))


def test_what_depends_on_the_iteration_stays():
    assert_rejects(PASS, loop("n", "c", "f = Cast <to = 1> (i)  t = Add(s, f)"))


def test_what_can_fail_stays_where_the_loop_may_not_run():
    body = "g1 = Gather(m, n)  t = Add(s, g1)"
    assert_rejects(PASS, loop("n", "c", body))


def test_what_can_fail_goes_where_the_first_iteration_surely_runs():
    body = "g1 = Gather(m, n)  t = Add(s, g1)"
    assert_rewrites(
        PASS,
        before=loop("3", "true", body),
        after=loop("3", "true", "t = Add(s, g1)", outside="g1 = Gather(m, n)"),
    )


def test_random_numbers_are_new_in_every_iteration():
    assert_rejects(PASS, loop("n", "c", "r = RandomNormalLike(m)  t = Add(s, r)"))


def test_out_of_a_scan():
    text = """g (float[4] w, float[5,4] xs) => (float[5,4] ys) {{
        {outside}
        ys = Scan <num_scan_inputs = 1, body = b (float[4] x) => (float[4] z) {{ {inside} z = Add(x, e) }}> (xs) }}"""
    assert_rewrites(
        PASS,
        before=text.format(outside="", inside="e = Exp(w)"),
        after=text.format(outside="e = Exp(w)", inside=""),
    )


def test_out_of_two_loops():
    inner = """t = Loop (n, k, s) <body = b2 (int64 j, bool l, float[4,4] p) => (bool l2, float[4,4] q) {{
        l2 = Identity(l)  {body} q = Add(p, e) }}>"""
    assert_rewrites(
        f"({PASS})",
        before=loop("n", "c", inner.format(body="e = Exp(m)")),
        after=loop("n", "c", inner.format(body=""), outside="e = Exp(m)"),
    )


QUANTIZED = "d = DequantizeLinear(codes, scale)  "
CODES = "scale = Constant <value = float {0.5}> ()  codes = Constant <value = int8[4,4] {1,2,3,4,1,2,3,4,1,2,3,4,1,2,3,4}> ()  "


def test_dequantized_weights_stay_beside_what_they_are_multiplied_with():
    assert_rejects(PASS, loop("5", "true", QUANTIZED + "t = MatMul(s, d)", outside=CODES))


def test_dequantized_weights_go_with_a_product_that_goes():
    assert_rewrites(
        PASS,
        before=loop("5", "true", QUANTIZED + "p = MatMul(m, d)  t = Add(s, p)", outside=CODES),
        after=loop("5", "true", "t = Add(s, p)", outside=CODES + QUANTIZED + "p = MatMul(m, d)"),
    )
