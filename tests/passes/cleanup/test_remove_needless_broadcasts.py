import pytest

from graphopt.passes.cleanup.remove_needless_broadcasts import SETS_THE_SHAPE
from graphopt.testing import assert_rejects, assert_rewrites

PASS = "remove-needless-broadcasts,remove-dead-code"
SIZES = [{"N": 0, "S": 2}, {"N": 1, "S": 1}, {"N": 2, "S": 3}]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("e = Expand(b, s)  y = Add(x, e)", "y = Add(x, b)"),
        ("e = Expand(b, s)  y = Sub(e, x)", "y = Sub(b, x)"),
        ("e = Expand(b, s)  f = Expand(e, s)  y = Max(x, f, e)", "y = Max(x, b, b)"),
        ("e = Expand(b, s)  c = Less(x, e)  y = Where(c, x, e)", "c = Less(x, b)  y = Where(c, x, b)"),
    ],
)
def test_expand_that_the_operator_does_itself(before, after):
    signature = "g (float[N,S,4] x, float[4] b) => (float[N,S,4] y)"
    assert_rewrites(
        PASS,
        before=f"{signature} {{ s = Shape(x)  {before} }}",
        after=f"{signature} {{ {after} }}",
        sizes=SIZES,
    )


@pytest.mark.parametrize(
    "body",
    [
        "e = Expand(b, [3,1,1])  y = Add(x, e)",  # S and N may be 1
        "s = Shape(x)  e = Expand(b, s)  y = Mul(e, e)",  # nobody else has the shape
        "s = Shape(z)  e = Expand(b, s)  y = Add(x, e)",
    ],
)
def test_expand_that_gives_the_shape_stays(body):
    assert_rejects(
        "remove-needless-broadcasts",
        f"g (float[N,S,4] x, float[4] b, float[M,S,4] z) => (float[P,Q,4] y) {{ {body} }}",
        SETS_THE_SHAPE,
    )


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("f = ConstantOfShape <value = float[1] {7}> (s)  y = Min(x, f)", "y = Min(x, 7.0)"),
        ("f = ConstantOfShape(s)  y = Add(x, f)", "y = Add(x, 0.0)"),
        ("e = Expand(2.0, s)  y = Mul(e, x)", "y = Mul(2.0, x)"),
        (
            "f = ConstantOfShape <value = float[1] {1}> (s)  h = Sub(3.0, f)  u = Unsqueeze(h, [0])"
            "  v = Squeeze(u, [0])  y = Mul(x, v)",
            "y = Mul(x, 2.0)",
        ),
    ],
)
def test_fill_becomes_its_number(before, after):
    signature = "g (float[N,S] x) => (float[N,S] y)"
    assert_rewrites(
        PASS,
        before=f"{signature} {{ s = Shape(x)  {before} }}",
        after=f"{signature} {{ {after} }}",
        sizes=SIZES,
    )


def test_mask_that_is_true_all_over_only_spreads():
    signature = "g (float[N,S] x, bool[N,1] m) => (float[N,S] y)"
    assert_rewrites(
        PASS,
        before=f"""{signature} {{
            s = Shape <start = 1> (x)  n = Squeeze(s)  r = Range(0, n, 1)  u = Unsqueeze(r, [0])  t = GreaterOrEqual(u, 0)
            a = And(m, t)  y = Where(a, x, 0.0)
        }}""",
        after=f"{signature} {{ y = Where(m, x, 0.0) }}",
        sizes=SIZES,
    )


def test_row_of_a_table_that_all_positions_take():
    table = "t = Constant <value = float[2,2] {1, 2, 3, 4}> ()"
    assert_rewrites(
        PASS,
        before=f"""g (float[N,S,2] x, int64[N,S] ids) => (float[N,S,2] y) {{
            {table}  s = Shape(ids)  z = ConstantOfShape <value = int64[1] {{1}}> (s)
            r = Gather(t, z)  y = Add(x, r)
        }}""",
        after=f"""g (float[N,S,2] x, int64[N,S] ids) => (float[N,S,2] y) {{
            {table}  r = Gather <axis = 0> (t, 1)  y = Add(x, r)
        }}""",
        sizes=SIZES,
    )


def test_expand_in_a_body_of_a_captured_value():
    assert_rewrites(
        PASS,
        before="""g (float[N,4] x, float[4] b, bool c) => (float[N,4] y) {
            s = Shape(x)  e = Expand(b, s)
            y = If (c) <
                then_branch = t () => (float[N,4] p) { p = Add(x, e) },
                else_branch = e () => (float[N,4] q) { q = Neg(x) }
            >
        }""",
        after="""g (float[N,4] x, float[4] b, bool c) => (float[N,4] y) {
            y = If (c) <
                then_branch = t () => (float[N,4] p) { p = Add(x, b) },
                else_branch = e () => (float[N,4] q) { q = Neg(x) }
            >
        }""",
    )


def test_operators_that_broadcast_by_an_attribute_stay():
    assert_rejects(
        PASS,
        """g (float[2,4] x) => (float[2,4] y) {
            e = Tile(4.0, [2,4])  y = Add <broadcast = 1> (x, e)
        }""",
        opset=6,
    )


def test_a_fill_of_unknown_rank_stays():
    assert_rejects(
        "remove-needless-broadcasts",
        "g (float x, int64[K] s) => (float[P,Q] y) { f = ConstantOfShape(s)  y = Add(x, f) }",
        SETS_THE_SHAPE,
    )
