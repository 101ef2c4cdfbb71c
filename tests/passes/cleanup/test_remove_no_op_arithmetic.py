import numpy as np
import onnx_ir as ir
import pytest

from graphopt.passes.cleanup.remove_no_op_arithmetic import WIDENS
from graphopt.testing import assert_rejects, assert_rewrites, model_from_text, operators_of, run, run_pass

PASS = "remove-no-op-arithmetic"


@pytest.mark.parametrize(
    "expression",
    [
        "Mul(x, 1.0)",
        "Mul(1.0, x)",
        "Mul(x, [1.0])",
        "Mul(x, [1.0, 1.0, 1.0])",
        "Div(x, 1.0)",
        "Pow(x, 1.0)",
        "Pow(x, 1)",
        "Sub(x, 0.0)",
        "Sub(x, [0.0, 0.0, 0.0])",
        "Add(x, -0.0)",
        "Max(x, x)",
    ],
)
def test_float_arithmetic_that_changes_nothing(expression):
    assert_rewrites(
        PASS,
        before=f"g (float[N,3] x) => (float[N,3] y) {{ a = {expression}  y = Exp(a) }}",
        after="g (float[N,3] x) => (float[N,3] y) { y = Exp(x) }",
        sizes=[{"N": 0}, {"N": 1}, {"N": 2}],
    )


@pytest.mark.parametrize(
    "expression",
    [
        "Add(x, 0.0)",  # turns -0.0 into 0.0
        "Sub(x, -0.0)",
        "Sub(0.0, x)",
        "Div(1.0, x)",
        "Pow(1.0, x)",
        "Mul(x, 1.0000001)",
        "Mul(x, [1.0, 1.0, 2.0])",
        "Max(x, x, 0.0)",
    ],
)
def test_float_arithmetic_that_changes_something_stays(expression):
    assert_rejects(PASS, f"g (float[N,3] x) => (float[N,3] y) {{ a = {expression}  y = Exp(a) }}")


def test_special_values_pass_through_bit_by_bit():
    model = model_from_text("g (float[4] x) => (float[4] y) { a = Sub(x, 0.0)  b = Mul(a, 1.0)  y = Neg(b) }")
    x = np.array([-0.0, np.nan, np.inf, 1e-45], np.float32)
    before = run(model, {"x": x})[0]
    run_pass(PASS, model)
    assert operators_of(model) == ["Neg"]
    assert run(model, {"x": x})[0].tobytes() == before.tobytes()


@pytest.mark.parametrize(
    "expression",
    [
        "Add(x, 0)",
        "Add(0, x)",
        "Sub(x, 0)",
        "Mul(x, 1)",
        "Div(x, 1)",
        "BitwiseAnd(x, -1)",
        "BitwiseOr(x, 0)",
        "BitwiseXor(0, x)",
        "Clip(x)",
        "Min(x, x, x)",
    ],
)
def test_integer_arithmetic_that_changes_nothing(expression):
    assert_rewrites(
        PASS,
        before=f"g (int64[N] x) => (int64[N] y) {{ a = {expression}  y = Neg(a) }}",
        after="g (int64[N] x) => (int64[N] y) { y = Neg(x) }",
    )


@pytest.mark.parametrize(
    "expression", ["And(x, true)", "Or(false, x)", "Xor(x, false)", "And(x, x)", "Or(x, x)"]
)
def test_logic_that_changes_nothing(expression):
    assert_rewrites(
        PASS,
        before=f"g (bool[N] x) => (bool[N] y) {{ a = {expression}  y = Not(a) }}",
        after="g (bool[N] x) => (bool[N] y) { y = Not(x) }",
    )


@pytest.mark.parametrize("expression", ["And(x, false)", "Or(x, true)", "Xor(x, true)", "Xor(x, x)"])
def test_logic_that_changes_something_stays(expression):
    assert_rejects(PASS, f"g (bool[N] x) => (bool[N] y) {{ a = {expression}  y = Not(a) }}")


def test_double_not_is_removed_though_the_inner_one_is_needed_too():
    assert_rewrites(
        PASS,
        before="g (bool[N] x, bool[N] z) => (bool[N] y, bool[N] a) { a = Not(x)  b = Not(a)  y = Xor(b, z) }",
        after="g (bool[N] x, bool[N] z) => (bool[N] y, bool[N] a) { a = Not(x)  y = Xor(x, z) }",
    )


@pytest.mark.parametrize(
    ("signature", "constant"),
    [
        ("float[3]", "[[1.0, 1.0, 1.0]]"),
        ("float[N]", "[1.0, 1.0, 1.0]"),  # N may be 1
        ("float", "[1.0]"),
    ],
)
def test_constant_that_may_widen_stays(signature, constant):
    shape = "[1,3]" if constant.startswith("[[") else f"[{constant.count('1.0')}]"
    values = constant.strip("[]")
    graph = f"""g ({signature} x) => (float y) {{
        c = Constant <value = float{shape} {{{values}}}> ()
        a = Mul(x, c)
        y = ReduceSum <keepdims = 0> (a)
    }}"""
    assert_rejects(PASS, graph, WIDENS)


def test_initializer_that_an_input_overrides_is_no_constant():
    assert_rejects(
        PASS,
        """<ir_version: 10, opset_import: ["": 18]>
        g (float[2] x, float one = {1.0}) => (float[2] y) { a = Mul(x, one)  y = Exp(a) }""",
    )


def test_unbounded_clip_of_floats_is_removed():
    # The text format has no infinities.
    model = model_from_text(
        "g (float[2] x, float low, float high) => (float[2] y) { a = Clip(x, low, high)  y = Exp(a) }"
    )
    for value, number in zip(list(model.graph.inputs)[1:], (-np.inf, np.inf), strict=True):
        value.const_value = ir.tensor(np.float32(number))
        model.graph.inputs.remove(value)
        model.graph.register_initializer(value)
    run_pass(PASS, model)
    assert [node.op_type for node in model.graph] == ["Exp"]


def test_clip_of_floats_without_bounds_stays():
    # By default it clips to the largest finite numbers: infinities do not pass.
    assert_rejects(PASS, "g (float[N] x) => (float[N] y) { a = Clip(x)  y = Exp(a) }")


def test_fires_in_bodies_on_captured_values():
    assert_rewrites(
        PASS,
        before="""g (float[N] x, bool c) => (float[N] y) {
            one = Constant <value = float {1.0}> ()
            y = If (c) <
                then_branch = t () => (float[N] p) { a = Mul(x, one)  p = Exp(a) },
                else_branch = e () => (float[N] q) { q = Neg(x) }
            >
        }""",
        after="""g (float[N] x, bool c) => (float[N] y) {
            y = If (c) <
                then_branch = t () => (float[N] p) { p = Exp(x) },
                else_branch = e () => (float[N] q) { q = Neg(x) }
            >
        }""",
    )
