import pytest

from graphopt.passes.movement.hoist_selections import KEEPS_MOST, NO_PRODUCT, TOO_MANY
from graphopt.testing import assert_rejects, assert_rewrites

PASS = "hoist-selections"
SIZES = [{"B": 2, "S": 5}, {"B": 1, "S": 1}, {"B": 0, "S": 3}]


def test_first_token_behind_a_whole_layer():
    assert_rewrites(
        PASS,
        before="""g (float[B,S,4] a, float[B,S,4] x, float[4,4] w, float[4] b, float[4,4] v) => (float[B,4] y) {
            p = MatMul(a, w)  q = Add(p, b)  r = Add(q, x)
            n = LayerNormalization <axis = 2> (r, b)  f = MatMul(n, v)  t = Relu(f)  s = Add(t, n)
            y = Gather <axis = 1> (s, 0) }""",
        after="""g (float[B,S,4] a, float[B,S,4] x, float[4,4] w, float[4] b, float[4,4] v) => (float[B,4] y) {
            x0 = Gather <axis = 1> (x, 0)  a0 = Gather <axis = 1> (a, 0)
            p = MatMul(a0, w)  q = Add(p, b)  r = Add(q, x0)
            n = LayerNormalization <axis = -1> (r, b)  f = MatMul(n, v)  t = Relu(f)  y = Add(t, n) }""",
        exact=False,
        sizes=SIZES,
    )


def test_last_token_by_slice():
    assert_rewrites(
        PASS,
        before="""g (float[B,S,4] x, float[4,50] w) => (float[B,T,50] y) {
            p = MatMul(x, w)  y = Slice(p, [-1], [9223372036854775807], [1]) }""",
        after="""g (float[B,S,4] x, float[4,50] w) => (float[B,T,50] y) {
            q = Slice(x, [-1], [9223372036854775807], [1])  y = MatMul(q, w) }""",
        exact=False,
        sizes=[{"B": 2, "S": 5}, {"B": 1, "S": 1}],
    )


def test_some_rows_of_a_known_number():
    assert_rewrites(
        PASS,
        before="""g (float[6,4] x, float[4,5] w, float[5] b, float[1,5] c) => (float[2,5] y) {
            p = Gemm(x, w, b)  q = Softmax(p)  r = Mul(c, q)  y = Gather(r, [4, -1]) }""",
        after="""g (float[6,4] x, float[4,5] w, float[5] b, float[1,5] c) => (float[2,5] y) {
            s = Gather(x, [4, -1])  p = Gemm(s, w, b)  q = Softmax(p)  y = Mul(c, q) }""",
        exact=False,
    )


def test_rows_that_are_added_in_a_gemm():
    assert_rewrites(
        PASS,
        before="""g (float[6,4] x, float[4,5] w, float[6,5] c) => (float[1,5] y) {
            p = Gemm(x, w, c)  y = Gather(p, [4]) }""",
        after="""g (float[6,4] x, float[4,5] w, float[6,5] c) => (float[1,5] y) {
            s = Gather(x, [4])  d = Gather(c, [4])  y = Gemm(s, w, d) }""",
        exact=False,
    )


def test_what_only_moves_with_it_stays():
    # The Relu would come too, but nothing would be saved that its own producer could not lose by it.
    assert_rewrites(
        PASS,
        before="""g (float[B,S,4] x, float[4,5] w) => (float[B,5] y) {
            r = Relu(x)  p = MatMul(r, w)  y = Gather <axis = 1> (p, 0) }""",
        after="""g (float[B,S,4] x, float[4,5] w) => (float[B,5] y) {
            r = Relu(x)  s = Gather <axis = 1> (r, 0)  y = MatMul(s, w) }""",
        exact=False,
        sizes=SIZES,
    )


def test_in_a_body():
    graph = """g (bool c, float[B,S,4] x, float[4,5] w) => (float[B,5] y) {{
        y = If <then_branch = t () => (float[B,5] u) {{ {0} }},
                else_branch = e () => (float[B,5] v) {{ o = Gather <axis = 1> (x, 0)  v = Gemm(o, w) }}> (c) }}"""
    assert_rewrites(
        PASS,
        before=graph.format("p = MatMul(x, w)  u = Gather <axis = 1> (p, 0)"),
        after=graph.format("s = Gather <axis = 1> (x, 0)  u = MatMul(s, w)"),
        exact=False,
        sizes=[{"B": 2, "S": 3}],
    )


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("r = Relu(x)  y = Gather <axis = 1> (r, 0)", None),
        ("n = LayerNormalization(x, b)  y = Gather <axis = 1> (n, 0)", NO_PRODUCT),
        ("p = MatMul(x, w)  y = Gather <axis = 1> (p, [0, 1])", KEEPS_MOST),
        ("p = MatMul(x, w)  y = Slice(p, [1], [9223372036854775807], [1])", KEEPS_MOST),
        # A row of all columns is what each product needs.
        ("p = MatMul(x, w)  y = Gather <axis = 2> (p, 0)", None),
        ("p = MatMul(x, z)  y = Gather <axis = 1> (p, 0)", None),
        # It is normalized over the rows too.
        ("p = MatMul(x, w)  n = Softmax <axis = 1> (p)  y = Gather <axis = 1> (n, 0)", None),
        ("p = MatMul(x, w)  q = Add(p, k)  y = Gather <axis = 1> (q, 0)", None),
        ("p = MatMul(x, w)  q = Add(p, x)  r = Mul(q, o)  t = Sub(r, z)  y = Gather <axis = 1> (t, 0)", None),
        ("p = MatMul(x, w)  y = Gather <axis = 1> (p, i)", None),
    ],
)
def test_leaves_alone(body, reason):
    graph = f"""g (float[B,S,4] x, float[4,4] w, float[4] b, float[B,4,4] z, float[B,1,4] k, float[B,S,4] o,
        int64 i) => (float[M,N] y) {{ {body} }}"""
    assert_rejects(PASS, graph, reason)


def test_more_selections_than_products():
    assert_rejects(
        PASS,
        """g (float[B,S,4] x, float[4,4] w, float[B,S,4] a, float[B,S,4] b) => (float[B,4] y) {
            p = MatMul(x, w)  q = Add(p, a)  r = Mul(q, b)  y = Gather <axis = 1> (r, 0) }""",
        TOO_MANY,
    )


@pytest.mark.parametrize("other", ["z = Relu(p)", "z = Identity(p)"])
def test_all_rows_are_needed_elsewhere(other):
    assert_rejects(
        PASS,
        f"""g (float[B,S,4] x, float[4,4] w) => (float[B,4] y, float[B,S,4] z) {{
            p = MatMul(x, w)  {other}  q = Relu(p)  y = Gather <axis = 1> (q, 0) }}""",
    )


def test_all_rows_are_an_output():
    assert_rejects(
        PASS,
        """g (float[B,S,4] x, float[4,4] w) => (float[B,4] y, float[B,S,4] p) {
            p = MatMul(x, w)  q = Relu(p)  y = Gather <axis = 1> (q, 0) }""",
    )
