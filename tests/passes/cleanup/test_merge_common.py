import pytest

from graphopt.testing import assert_rejects, assert_rewrites, model_from_text, operators_of, run_pass

PASS = "merge-common"


SIGNATURE = "g (float[N] x, float[N] z, float s) => (float[N] y)"


def _two(first: str, second: str) -> str:
    return f"{SIGNATURE} {{ a = {first}  b = {second}  y = Concat <axis = 0> (a, b) }}"


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("Exp(x)", "Exp(x)"),
        ("Add(x, z)", "Add(z, x)"),
        ("Max(x, z, x)", "Max(x, x, z)"),
        ("Add(x, 1.0)", "Add(x, 1.0)"),
        ("Add(x, 1.0)", "Add(1.0, x)"),
        ("Softmax(x)", "Softmax <axis = -1> (x)"),
        ("Clip(x)", "Clip(x, , )"),
        ("Cast <to = 1> (x)", "Cast <to = 1, saturate = 1> (x)"),
    ],
)
def test_equal_nodes_become_one(first, second):
    assert_rewrites(
        PASS,
        before=_two(first, second),
        after=f"{SIGNATURE} {{ a = {first}  y = Concat <axis = 0> (a, a) }}",
        sizes=[{"N": 0}, {"N": 3}],
        opset=19,
    )


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("Exp(x)", "Exp(z)"),
        ("Sub(x, z)", "Sub(z, x)"),
        ("Sum(x, z, x)", "Sum(x, x, z)"),  # floats add up otherwise
        ("Add(x, 1.0)", "Add(x, 2.0)"),
        ("Mul(x, 0.0)", "Mul(x, -0.0)"),
        ("Elu <alpha = 0.5> (x)", "Elu(x)"),
        ("Clip(x, s)", "Clip(x, , s)"),
        ("RandomNormalLike(x)", "RandomNormalLike(x)"),
        ("RandomNormalLike <seed = 1.0> (x)", "RandomNormalLike <seed = 1.0> (x)"),
        ("Bernoulli(x)", "Bernoulli(x)"),
        ("my.Thing(x)", "my.Thing(x)"),
    ],
)
def test_nodes_that_differ_or_may_differ_stay(first, second):
    assert_rejects(PASS, _two(first, second), domains={"my": 1})


def test_scalars_of_different_rank_are_different():
    assert_rejects(PASS, _two("Add(x, 1.0)", "Add(x, [1.0])"))


def test_chains_merge_in_one_walk():
    assert_rewrites(
        PASS,
        before="""g (float[N] x) => (float[N] y) {
            a = Exp(x)  b = Neg(a)  c = Exp(x)  d = Neg(c)  y = Mul(b, d)
        }""",
        after="g (float[N] x) => (float[N] y) { a = Exp(x)  b = Neg(a)  y = Mul(b, b) }",
    )


def test_two_outputs_of_the_graph_stay_two():
    assert_rejects(PASS, "g (float[N] x) => (float[N] y, float[N] z) { y = Exp(x)  z = Exp(x) }")


@pytest.mark.parametrize("order", ["a = Exp(x)  y = Exp(x)", "y = Exp(x)  a = Exp(x)"])
def test_one_that_is_an_output_keeps_its_name(order):
    assert_rewrites(
        PASS,
        before=f"g (float[N] x) => (float[N] y, float[N] z) {{ {order}  z = Neg(a) }}",
        after="g (float[N] x) => (float[N] y, float[N] z) { y = Exp(x)  z = Neg(y) }",
    )


def test_nodes_with_several_outputs():
    assert_rewrites(
        PASS,
        before="""g (float[N,4] x) => (float[N,2] y) {
            a, b = Split <axis = 1, num_outputs = 2> (x)
            c, d = Split <axis = 1, num_outputs = 2> (x)
            y = Mul(a, d)
        }""",
        after="""g (float[N,4] x) => (float[N,2] y) {
            a, b = Split <axis = 1, num_outputs = 2> (x)
            y = Mul(a, b)
        }""",
    )


def test_splits_into_different_numbers_are_different():
    assert_rejects(
        PASS,
        """g (float[N,4] x) => (float[N,2] y, float[N,2] z) {
            y, b = Split <axis = 1, num_outputs = 2> (x)
            z, d, e = Split <axis = 1, num_outputs = 3> (x)
        }""",
    )


def test_body_uses_what_the_graph_around_it_computes():
    assert_rewrites(
        PASS,
        before="""g (float[N] x, bool c) => (float[N] y, float[N] z) {
            z = Exp(x)
            y = If (c) <
                then_branch = t () => (float[N] p) { a = Exp(x)  b = Exp(x)  p = Mul(a, b) },
                else_branch = e () => (float[N] q) { q = Neg(x) }
            >
        }""",
        after="""g (float[N] x, bool c) => (float[N] y, float[N] z) {
            z = Exp(x)
            y = If (c) <
                then_branch = t () => (float[N] p) { p = Mul(z, z) },
                else_branch = e () => (float[N] q) { q = Neg(x) }
            >
        }""",
    )


def test_what_comes_after_the_body_is_not_seen_from_it():
    assert_rejects(
        PASS,
        """g (float[N] x, bool c) => (float[N] y, float[N] z) {
            y = If (c) <
                then_branch = t () => (float[N] p) { a = Exp(x)  p = Neg(a) },
                else_branch = e () => (float[N] q) { q = Neg(x) }
            >
            z = Exp(x)
        }""",
    )


def test_branches_do_not_see_each_other():
    assert_rejects(
        PASS,
        """g (float[N] x, bool c) => (float[N] y) {
            y = If (c) <
                then_branch = t () => (float[N] p) { a = Exp(x)  p = Neg(a) },
                else_branch = e () => (float[N] q) { b = Exp(x)  q = Abs(b) }
            >
        }""",
    )


def test_output_of_a_body_can_not_be_a_value_from_outside():
    assert_rejects(
        PASS,
        """g (float[N] x, bool c) => (float[N] y, float[N] z) {
            z = Exp(x)
            y = If (c) <
                then_branch = t () => (float[N] p) { p = Exp(x) },
                else_branch = e () => (float[N] q) { q = Neg(x) }
            >
        }""",
    )


def test_loop_carried_values_differ_from_step_to_step():
    assert_rewrites(
        PASS,
        before="""g (float[N] x, int64 n) => (float[N] y) {
            a = Exp(x)
            y = Loop (n, , a) <body = b (int64 i, bool c, float[N] s) => (bool d, float[N] r) {
                d = Identity(c)
                e = Exp(s)
                f = Exp(x)
                r = Mul(e, f)
            }>
        }""",
        after="""g (float[N] x, int64 n) => (float[N] y) {
            a = Exp(x)
            y = Loop (n, , a) <body = b (int64 i, bool c, float[N] s) => (bool d, float[N] r) {
                d = Identity(c)
                e = Exp(s)
                r = Mul(e, a)
            }>
        }""",
    )


def test_two_loops_stay_two():
    loop = """Loop (n, , x) <body = b{0} (int64 i{0}, bool c{0}, float[N] s{0}) => (bool d{0}, float r{0}) {{
        d{0} = Identity(c{0})  r{0} = Neg(s{0})
    }}>"""
    loops = f"y = {loop.format(1)}  z = {loop.format(2)}"
    assert_rejects(PASS, f"g (float[N] x, int64 n) => (float[N] y, float[N] z) {{ {loops} }}")


def test_merges_in_functions():
    model = model_from_text(
        """<ir_version: 10, opset_import: ["": 18, "my": 1]>
        g (float[N] x) => (float[N] y) { y = my.f <k = 1> (x) }
        <domain: "my", opset_import: ["": 18]>
        f <k, l> (x) => (y) {
            a = Cast <to: int = @k> (x)  b = Cast <to: int = @k> (x)  c = Cast <to: int = @l> (x)
            d = Mul(a, b)  y = Mul(d, c)
        }"""
    )
    run_pass(PASS, model)
    (function,) = model.functions.values()
    assert [node.op_type for node in function] == ["Cast", "Cast", "Mul", "Mul"]


def test_constant_nodes_merge():
    model = model_from_text(_two("Add(x, 1.0)", "Mul(z, 1.0)"))
    run_pass(PASS, model)
    assert sum(node.op_type == "Constant" for node in model.graph) == 1
    assert operators_of(model) == ["Add", "Mul", "Concat"]
