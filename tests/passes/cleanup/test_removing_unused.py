"""remove-dead-code, remove-unused-{initializers,outputs,functions,opsets}."""

import numpy as np
import onnx_ir as ir
import pytest

from graphopt.testing import assert_rejects, assert_rewrites, model_from_text, run_pass


def test_dead_chain_is_removed():
    assert_rewrites(
        "remove-dead-code",
        before="g (float[N] x) => (float[N] y) { a = Exp(x)  b = Neg(a)  y = Abs(x) }",
        after="g (float[N] x) => (float[N] y) { y = Abs(x) }",
    )


def test_dead_code_in_bodies_and_what_only_it_captured():
    assert_rewrites(
        "remove-dead-code",
        before="""g (float[N] x, bool c) => (float[N] y) {
            a = Exp(x)
            y = If (c) <
                then_branch = t () => (float[N] p) { b = Neg(a)  p = Abs(x) },
                else_branch = e () => (float[N] q) { q = Neg(x) }
            >
        }""",
        after="""g (float[N] x, bool c) => (float[N] y) {
            y = If (c) <
                then_branch = t () => (float[N] p) { p = Abs(x) },
                else_branch = e () => (float[N] q) { q = Neg(x) }
            >
        }""",
    )


@pytest.mark.parametrize("operator", ["my.Log(x)", "RandomNormalLike(x)"])
def test_unknown_and_random_operators_stay(operator):
    assert_rejects(
        "remove-dead-code",
        f"g (float[N] x) => (float[N] y) {{ a = {operator}  y = Abs(x) }}",
        domains={"my": 1},
    )


def test_node_with_one_needed_output_stays():
    assert_rejects(
        "remove-dead-code",
        "g (float[4] x) => (float[2] y) { y, b = Split <axis = 0, num_outputs = 2> (x) }",
    )


def test_unused_initializers_go_and_those_that_are_inputs_stay():
    model = model_from_text(
        """<ir_version: 10, opset_import: ["": 18]>
        g (float[N] x, float given = {1.0}) => (float[N] y) <float unused = {2.0}, float used = {3.0}> {
            y = Mul(x, used)
        }"""
    )
    run_pass("remove-unused-initializers", model)
    assert sorted(model.graph.initializers) == ["given", "used"]
    assert [v.name for v in model.graph.inputs] == ["x", "given"]


def test_initializer_that_is_an_output_stays():
    model = model_from_text("g (float[N] x, float c) => (float[N] y, float c) { y = Exp(x) }")
    value = model.graph.inputs[1]
    value.const_value = ir.tensor(np.float32(1))
    model.graph.inputs.remove(value)
    model.graph.register_initializer(value)
    run_pass("remove-unused-initializers", model)
    assert "c" in model.graph.initializers


def test_unused_outputs_are_not_computed():
    model = model_from_text(
        """g (float[S,1,2] x, float[1,8,2] w, float[1,8,2] r) => (float[1,1,2] h, float[N,2,3,3] p) {
            y, h, c = LSTM <hidden_size = 2> (x, w, r)
            m = RandomNormal <shape = [1,2,4,4]> ()
            p, i = MaxPool <kernel_shape = [2,2]> (m)
        }"""
    )
    run_pass("remove-unused-outputs", model)
    lstm, _, pool = model.graph
    assert [v.name for v in lstm.outputs] == ["", "h"]
    assert [v.name for v in pool.outputs] == ["p"]


def test_needed_outputs_stay():
    assert_rejects(
        "remove-unused-outputs",
        """g (float[1,1,4,4] x) => (float[1,1,3,3] y, int64[1,1,3,3] i) {
            y, i = MaxPool <kernel_shape = [2,2]> (x)
        }""",
    )


def test_batch_normalization_keeps_the_outputs_that_say_that_it_trains():
    text = """g (float[2,3] x, float[3] s) => (float[2,3] y) {
        y, mean, variance, saved_mean, saved_variance = BatchNormalization (x, s, s, s, s)
    }"""
    assert_rejects("remove-unused-outputs", text, opset=9)


FUNCTIONS = """<ir_version: 10, opset_import: ["": 18, "my": 1, "old": 2]>
g (float[N] x) => (float[N] y) { y = my.f(x) }
<domain: "my", opset_import: ["": 18, "my": 1, "old": 2]>
f (v) => (w) { w = my.h(v) }
<domain: "my", opset_import: ["": 18]>
h (v) => (w) { w = Neg(v) }
<domain: "my", opset_import: ["": 18]>
unused (v) => (w) { w = Abs(v) }
"""


def test_functions_that_nothing_calls_go():
    model = model_from_text(FUNCTIONS)
    run_pass("remove-unused-functions", model)
    assert [name for _, name, _ in model.functions] == ["f", "h"]


def test_imports_that_nothing_uses_go():
    model = model_from_text(FUNCTIONS)
    run_pass("remove-unused-opsets", model)
    assert dict(model.graph.opset_imports) == {"": 18, "my": 1}
    assert dict(next(iter(model.functions.values())).opset_imports) == {"": 18, "my": 1}
