"""Shape arithmetic computed anew, in as few nodes as there can be."""

import pytest

from graphopt.testing import assert_rejects, assert_rewrites, model_from_text, operators_of, run_pass

PASS = "rebuild-shape-arithmetic"
SIZES = [{"B": 2, "S": 5}, {"B": 1, "S": 1}, {"B": 0, "S": 5}, {"B": 2, "S": 0}]


def test_scaffold_of_an_expand():
    assert_rewrites(
        PASS,
        before="""g (float[B,S] x, float[1,1,4] c) => (float[B,1,4] y) {
            s = Shape(x)  b0 = Gather(s, 0)  b = Unsqueeze(b0, [0])
            t = Concat <axis = 0> (b, [-1], [-1])  m = Equal(t, [-1,-1,-1])
            u = Where(m, [1,1,1], t)  y = Expand(c, u) }""",
        after="""g (float[B,S] x, float[1,1,4] c) => (float[B,1,4] y) {
            b = Shape <start = 0, end = 1> (x)  u = Concat <axis = 0> (b, [1,1])  y = Expand(c, u) }""",
        sizes=SIZES,
    )


def test_before_opset_15_a_choice_of_dims_is_one_gather():
    assert_rewrites(
        PASS,
        before="""g (float[B,S,4] x) => (float[S,B] y) {
            s = Shape(x)  b0 = Gather(s, 0)  s0 = Gather(s, 1)
            b = Unsqueeze(b0, [0])  n = Unsqueeze(s0, [0])  t = Concat <axis = 0> (n, b)
            y = ConstantOfShape(t) }""",
        after="""g (float[B,S,4] x) => (float[S,B] y) {
            s = Shape(x)  t = Gather <axis = 0> (s, [1,0])  y = ConstantOfShape(t) }""",
        opset=13,
        sizes=SIZES,
    )


def test_dims_of_an_inner_value_are_read_from_the_input():
    assert_rewrites(
        PASS,
        before="""g (float[B,S] x, float[4] c) => (float[B,S,4] y, float[B,S] z) {
            z = Relu(x)  s = Shape(z)  t = Concat <axis = 0> (s, [4])  u = Cast <to = 6> (t)
            v = Cast <to = 7> (u)  y = Expand(c, v) }""",
        after="""g (float[B,S] x, float[4] c) => (float[B,S,4] y, float[B,S] z) {
            s = Shape(x)  v = Concat <axis = 0> (s, [4])  y = Expand(c, v)  z = Relu(x) }""",
        sizes=SIZES,
    )


def test_an_expression_is_computed_once_for_all():
    model = model_from_text("""g (float[B,S] x) => (float[P] y, float[P,3] z, float[B,P] w) {
        s = Shape(x)  n = Gather(s, 1)  a = Mul(n, 2)  b = Add(n, n)  c = Mul(2, n)
        a1 = Unsqueeze(a, [0])  y = ConstantOfShape(a1)
        b1 = Unsqueeze(b, [0])  b2 = Concat <axis = 0> (b1, [3])  z = ConstantOfShape(b2)
        m = Gather(s, 0)  m1 = Unsqueeze(m, [0])  c1 = Unsqueeze(c, [0])
        c2 = Concat <axis = 0> (m1, c1)  w = ConstantOfShape(c2) }""")
    run_pass(PASS, model)
    # Mul(Shape(x), [1, 2]) is (B, 2*S); 2*S is picked from it, and put beside 3.
    assert sorted(operators_of(model)) == [
        "Concat",
        "ConstantOfShape",
        "ConstantOfShape",
        "ConstantOfShape",
        "Gather",
        "Mul",
        "Shape",
    ]


def test_a_reshape_takes_the_cheapest_of_equal_targets():
    # [3*B, S, 4] of [B,3,S,4]: neither dim can be copied or inferred beside one that may be 0.
    assert_rewrites(
        PASS,
        before="""g (float[B,3,S,4] x) => (float[P,S,4] y) {
            s = Shape(x)  b = Gather(s, 0)  n = Gather(s, 2)  p = Mul(b, 3)
            p1 = Unsqueeze(p, [0])  n1 = Unsqueeze(n, [0])
            t = Concat <axis = 0> (p1, n1, [4])  y = Reshape(x, t) }""",
        after="""g (float[B,3,S,4] x) => (float[P,S,4] y) {
            b = Shape <start = 0, end = 2> (x)  p = ReduceProd <keepdims = 1> (b)
            n = Shape <start = 2, end = 4> (x)
            t = Concat <axis = 0> (p, n)  y = Reshape(x, t) }""",
        sizes=[{"B": 2, "S": 5}, {"B": 1, "S": 1}, {"B": 0, "S": 5}],
    )


def test_captured_by_a_body():
    assert_rewrites(
        PASS,
        before="""g (float[B,S] x, bool c) => (float[P] y) {
            s = Shape(x)  n = Gather(s, 1)  m = Unsqueeze(n, [0])
            y = If (c) <
                then_branch = t () => (float[P] a) { a = ConstantOfShape(m) },
                else_branch = e () => (float[P] b) { b1 = Gather(s, 0)  b2 = Unsqueeze(b1, [0])
                    b3 = Mul(b2, [2])  b = ConstantOfShape(b3) }> }""",
        after="""g (float[B,S] x, bool c) => (float[P] y) {
            m = Shape <start = 1, end = 2> (x)
            y = If (c) <
                then_branch = t () => (float[P] a) { a = ConstantOfShape(m) },
                else_branch = e () => (float[P] b) { b2 = Shape <start = 0, end = 1> (x)
                    b3 = Mul(b2, [2])  b = ConstantOfShape(b3) }> }""",
        sizes=SIZES,
    )


def test_a_growing_cache_is_read_in_the_body():
    # The declared dim 1 of p is that of the first step only.
    assert_rewrites(
        PASS,
        before="""g (float[1,1,4] x, int64 n, bool c) => (float[1,R,4] y, float[N,P] z) {
            y, z = Loop (n, c, x) <body = b (int64 i, bool ci, float[1,1,4] p) =>
                    (bool co, float[1,1,4] q, float[1] r) {
                co = Identity(ci)  q = Concat <axis = 1> (p, x)
                s = Shape(p)  k = Gather(s, 1)  k1 = Unsqueeze(k, [0])  m = Sub(k1, k1)
                k2 = Add(k1, m)  w = ConstantOfShape(k2)  r = ReduceSum <keepdims = 1> (w, [0]) }> }""",
        after="""g (float[1,1,4] x, int64 n, bool c) => (float[1,R,4] y, float[N,P] z) {
            y, z = Loop (n, c, x) <body = b (int64 i, bool ci, float[1,1,4] p) =>
                    (bool co, float[1,1,4] q, float[1] r) {
                k2 = Shape <start = 1, end = 2> (p)
                co = Identity(ci)  q = Concat <axis = 1> (p, x)
                w = ConstantOfShape(k2)  r = ReduceSum <keepdims = 1> (w, [0]) }> }""",
        runs=False,
    )


@pytest.mark.parametrize(
    "graph",
    [
        # As few as there can be.
        "g (float[B,S] x) => (float[B,S] y) { s = Shape(x)  y = ConstantOfShape(s) }",
        """g (float[B,S] x) => (float[B,3] y) {
            b = Shape <start = 0, end = 1> (x)  t = Concat <axis = 0> (b, [3])  y = ConstantOfShape(t) }""",
        # What the nodes compute is an output of the graph.
        """g (float[B,S] x) => (int64[2] t) {
            s = Shape(x)  b0 = Gather(s, 0)  b = Unsqueeze(b0, [0])  t = Concat <axis = 0> (b, [3]) }""",
        # A length that only a run can tell.
        """g (float[B] x, int64[1] n) => (float[P] y) {
            k = Mul(n, [2])  l = Mul(k, [2])  y = ConstantOfShape(l) }""",
        # Truncating division of what may be negative is no floor.
        """g (float[B] x) => (float[P] y) {
            s = Shape(x)  k = Sub(s, [5])  d = Div(k, [2])  e = Max(d, [0])  y = ConstantOfShape(e) }""",
    ],
)
def test_leaves_alone(graph):
    assert_rejects(PASS, graph)


def test_the_opset_is_raised_where_slices_of_a_shape_save_nodes():
    assert_rewrites(
        PASS,
        before="""g (float[B,S,4] x) => (float[P,7] y) {
            s = Shape(x)  n = Gather(s, 1)  m = Unsqueeze(n, [0])  t = Concat <axis = 0> (m, [7])
            y = ConstantOfShape(t) }""",
        after="""g (float[B,S,4] x) => (float[P,7] y) {
            m = Shape <start = 1, end = 2> (x)  t = Concat <axis = 0> (m, [7])  y = ConstantOfShape(t) }""",
        opset=13,
        raised_to=15,
        sizes=SIZES,
    )
