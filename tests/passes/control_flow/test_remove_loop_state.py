from graphopt.testing import assert_rejects, assert_rewrites

PASS = "remove-loop-state"


def test_unchanged_state_becomes_a_captured_value():
    assert_rewrites(
        PASS,
        before="""g (int64 n, bool c, float[N] x, float[N] w) => (float[N] y) {
            y, v = Loop (n, c, x, w) <body = b (int64 i, bool k, float[N] s, float[N] p)
                    => (bool k2, float[N] t, float[N] p) { k2 = Identity(k)  t = Add(s, p) }> }""",
        after="""g (int64 n, bool c, float[N] x, float[N] w) => (float[N] y) {
            y = Loop (n, c, x) <body = b (int64 i, bool k, float[N] s)
                    => (bool k2, float[N] t) { k2 = Identity(k)  t = Add(s, w) }> }""",
    )


def test_its_last_value_is_the_first_one():
    assert_rewrites(
        PASS,
        before="""g (int64 n, bool c, float[N] x, float[N] w) => (float[N] y, float[N] z) {
            y, v = Loop (n, c, x, w) <body = b (int64 i, bool k, float[N] s, float[N] p)
                    => (bool k2, float[N] t, float[N] p) { k2 = Identity(k)  t = Add(s, p) }>
            z = Relu(v) }""",
        after="""g (int64 n, bool c, float[N] x, float[N] w) => (float[N] y, float[N] z) {
            y = Loop (n, c, x) <body = b (int64 i, bool k, float[N] s)
                    => (bool k2, float[N] t) { k2 = Identity(k)  t = Add(s, w) }>
            z = Relu(w) }""",
    )


DEAD = """g (int64 n, bool c, float[N] x, float[N] w) => ({outputs}) {{
    y, v = Loop (n, c, x, w) <body = b (int64 i, bool k, float[N] s, float[N] p)
        => (bool k2, float[N] t, float[N] p2) {{ k2 = Identity(k)  t = Relu(s)  p2 = Exp(p) }}> }}"""


def test_state_that_nobody_reads_goes():
    assert_rewrites(
        PASS,
        before=DEAD.format(outputs="float[N] y"),
        after="""g (int64 n, bool c, float[N] x, float[N] w) => (float[N] y) {
            y = Loop (n, c, x) <body = b (int64 i, bool k, float[N] s)
                => (bool k2, float[N] t) { k2 = Identity(k)  t = Relu(s) }> }""",
    )


def test_state_that_is_an_output_stays():
    assert_rejects(PASS, DEAD.format(outputs="float[N] y, float[N] v"))


def test_state_that_another_one_reads_stays():
    assert_rejects(
        PASS,
        """g (int64 n, bool c, float[N] x, float[N] w) => (float[N] y) {
            y, v = Loop (n, c, x, w) <body = b (int64 i, bool k, float[N] s, float[N] p)
                => (bool k2, float[N] t, float[N] p2) { k2 = Identity(k)  t = Add(s, p)  p2 = Exp(p) }> }""",
    )
