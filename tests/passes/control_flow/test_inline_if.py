from graphopt.testing import assert_rejects, assert_rewrites

PASS = "inline-if"

BRANCHES = """<then_branch = t () => (float[N] u) { u = Relu(x) },
              else_branch = e () => (float[N] w) { v = Abs(x)  w = Neg(v) }>"""


def test_takes_the_branch_that_is_always_taken():
    assert_rewrites(
        PASS,
        before=f"g (float[N] x) => (float[N] y) {{ y = If (true) {BRANCHES} }}",
        after="g (float[N] x) => (float[N] y) { y = Relu(x) }",
    )
    assert_rewrites(
        PASS,
        before=f"g (float[N] x) => (float[N] y) {{ y = If (false) {BRANCHES} }}",
        after="g (float[N] x) => (float[N] y) { v = Abs(x)  y = Neg(v) }",
    )


def test_condition_known_from_shapes():
    assert_rewrites(
        "(inline-if,fold-constants,remove-dead-code)",
        before=f"""g (float[2,N] z, float[N] x) => (float[N] y) {{
            s = Shape(z)  d = Gather(s, 0)  c = Equal(d, 2)  y = If (c) {BRANCHES} }}""",
        after="g (float[2,N] z, float[N] x) => (float[N] y) { y = Relu(x) }",
    )


def test_condition_from_data_stays():
    assert_rejects(PASS, f"g (bool c, float[N] x) => (float[N] y) {{ y = If (c) {BRANCHES} }}")


def test_condition_on_a_dynamic_dim_stays():
    assert_rejects(
        PASS,
        f"""g (float[N] x) => (float[N] y) {{
            s = Shape(x)  d = Gather(s, 0)  c = Equal(d, 2)  y = If (c) {BRANCHES} }}""",
    )


def test_branch_that_is_an_outer_value_gets_an_identity_for_the_graph_output():
    assert_rewrites(
        PASS,
        before="""g (float[N] x) => (float[N] y) {
            y = If (true) <then_branch = t () => (float[N] u) { u = Identity(x) },
                           else_branch = e () => (float[N] w) { w = Neg(x) }> }""",
        after="g (float[N] x) => (float[N] y) { y = Identity(x) }",
    )


def test_nested_and_inside_a_loop():
    assert_rewrites(
        PASS,
        before="""g (int64 n, bool c, float[N] x) => (float[N] y) {
            y = Loop (n, c, x) <body = b (int64 i, bool k, float[N] s) => (bool k2, float[N] t) {
                k2 = Identity(k)
                t = If (true) <then_branch = t1 () => (float[N] u) {
                        u = If (false) <then_branch = t2 () => (float[N] a) { a = Neg(s) },
                                        else_branch = e2 () => (float[N] b1) { b1 = Relu(s) }> },
                    else_branch = e1 () => (float[N] w) { w = Abs(s) }> }> }""",
        after="""g (int64 n, bool c, float[N] x) => (float[N] y) {
            y = Loop (n, c, x) <body = b (int64 i, bool k, float[N] s) => (bool k2, float[N] t) {
                k2 = Identity(k)  t = Relu(s) }> }""",
        runs=False,
    )
