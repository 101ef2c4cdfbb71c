"""Branches that can only end in an error."""

from graphopt.testing import assert_rejects, assert_rewrites

PASS = "remove-impossible-branches"

GRAPH = """g (float[B,4,N] x, float[1,12,4] w, float[1,12,3] r) => (float[P,1,Q,3] y) {
    s = Shape <start = 2> (x)  c = Equal(s, [1])
    h = If (c) <
        then_branch = t () => (float[K,L] a) { a = Squeeze(x, [2]) },
        else_branch = e () => (float[K,L,M] b) { b = Identity(x) }>
    u = Unsqueeze(h, [0])  y, z, k = LSTM <hidden_size = 3> (u, w, r) }"""


def test_a_branch_of_the_wrong_rank_is_not_taken():
    assert_rewrites(
        f"({PASS},inline-if,remove-identity)",
        before=GRAPH,
        after="""g (float[B,4,N] x, float[1,12,4] w, float[1,12,3] r) => (float[P,1,Q,3] y) {
            h = Squeeze(x, [2])  u = Unsqueeze(h, [0])  y, z, k = LSTM <hidden_size = 3> (u, w, r) }""",
        sizes=[{"B": 2, "N": 1}, {"B": 1, "N": 1}],
        exact=True,
    )


def test_through_a_second_decision_on_the_rank():
    assert_rewrites(
        f"({PASS},inline-if,remove-identity)",
        before="""g (float[B,4,N] x, float[1,12,4] w, float[1,12,3] r) => (float[P,1,Q,3] y) {
            s = Shape <start = 2> (x)  c = Equal(s, [1])
            h = If (c) <
                then_branch = t () => (float[K,L] a) { a = Squeeze(x, [2]) },
                else_branch = e () => (float[K,L,M] b) { b = Identity(x) }>
            hs = Shape(h)  n = Size(hs)  is2 = Equal(n, 2)  other = Not(is2)
            i = If (other) <
                then_branch = t2 () => (float[O,K,L] d) { d = Unsqueeze(h, [0]) },
                else_branch = e2 () => (float[K,L] f) { f = Identity(h) }>
            u = Unsqueeze(i, [0])  y, z, k = LSTM <hidden_size = 3> (u, w, r) }""",
        after="""g (float[B,4,N] x, float[1,12,4] w, float[1,12,3] r) => (float[P,1,Q,3] y) {
            h = Squeeze(x, [2])  u = Unsqueeze(h, [0])  y, z, k = LSTM <hidden_size = 3> (u, w, r) }""",
        sizes=[{"B": 2, "N": 1}],
    )


def test_both_branches_possible():
    assert_rejects(
        PASS,
        """g (float[B,4,N] x) => (float[P,Q] y) {
            s = Shape <start = 2> (x)  c = Equal(s, [1])
            h = If (c) <
                then_branch = t () => (float[K,L] a) { a = Squeeze(x, [2]) },
                else_branch = e () => (float[K,L,M] b) { b = Identity(x) }>
            y = Flatten(h) }""",
    )


def test_an_operator_that_may_not_run_proves_nothing():
    assert_rejects(
        PASS,
        """g (float[B,4,N] x, float[1,12,4] w, float[1,12,3] r, bool d) => (float[P,1,Q,3] y) {
            s = Shape <start = 2> (x)  c = Equal(s, [1])
            h = If (c) <
                then_branch = t () => (float[K,L] a) { a = Squeeze(x, [2]) },
                else_branch = e () => (float[K,L,M] b) { b = Identity(x) }>
            y = If (d) <
                then_branch = t2 () => (float[P,1,Q,3] o) {
                    u = Unsqueeze(h, [0])  o, z, k = LSTM <hidden_size = 3> (u, w, r) },
                else_branch = e2 () => (float[P,1,Q,3] q) { q = ConstantOfShape([1,1,2,3]) }> }""",
    )
