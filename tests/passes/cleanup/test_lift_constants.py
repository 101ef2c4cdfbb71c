import numpy as np
import pytest

from graphopt.testing import model_from_text, random_feeds, run, run_pass

PASS = "lift-constants"


@pytest.mark.parametrize(
    "attribute",
    [
        "value = float[1] {2}",
        "value_float = 2.0",
        "value_floats = [2.0, 3.0, 4.0]",
    ],
)
def test_constant_becomes_initializer_of_its_name(attribute):
    model = model_from_text(
        f"g (float[N] x) => (float[N] y) {{ c = Constant <{attribute}> ()  y = Mul(x, c) }}"
    )
    original = model.clone()
    run_pass(PASS, model)
    assert [node.op_type for node in model.graph] == ["Mul"]
    assert list(model.graph.initializers) == ["c"]
    feeds = random_feeds(model)
    np.testing.assert_array_equal(run(model, feeds)[0], run(original, feeds)[0])


def test_constant_that_is_an_output_stays():
    model = model_from_text(
        "g (float[N] x) => (float[N] y, float c) { c = Constant <value_float = 2.0> ()  y = Mul(x, c) }"
    )
    assert not run_pass(PASS, model).firings


def test_constant_of_a_function_stays():
    model = model_from_text(
        """<ir_version: 10, opset_import: ["": 18, "my": 1]>
        g (float[N] x) => (float[N] y) { y = my.f(x) }
        <domain: "my", opset_import: ["": 18]>
        f (x) => (y) { c = Constant <value_float = 2.0> ()  y = Mul(x, c) }"""
    )
    assert not run_pass(PASS, model).firings


def test_branches_that_use_one_name_twice_keep_their_constants_apart():
    model = model_from_text(
        """g (float[N] x, bool c) => (float[N] y) {
            y = If (c) <
                then_branch = t () => (float[N] p) { k = Constant <value_float = 2.0> () p = Mul(x, k) },
                else_branch = e () => (float[N] q) { k = Constant <value_float = 3.0> () q = Add(x, k) }
            >
        }"""
    )
    original = model.clone()
    run_pass(PASS, model)
    assert len(model.graph.initializers) == 2
    for choice in (False, True):
        feeds = {"x": np.ones(2, np.float32), "c": np.array(choice)}
        np.testing.assert_array_equal(run(model, feeds)[0], run(original, feeds)[0])


def test_initializer_of_a_body_moves_to_the_main_graph():
    model = model_from_text(
        """g (float[N] x, bool c) => (float[N] y) {
            y = If (c) <
                then_branch = t () => (float[N] p) { p = Neg(x) },
                else_branch = e () => (float[N] q) <float k = {3.0}> { q = Add(x, k) }
            >
        }"""
    )
    run_pass(PASS, model)
    assert list(model.graph.initializers) == ["k"]
    assert not any(a.as_graph().initializers for a in model.graph[0].attributes.values())


def test_codes_stay_in_the_body_that_makes_numbers_of_them():
    model = model_from_text(
        """<ir_version: 8, opset_import: ["": 17]>
        g (float[1,2] x, bool c) => (float[1,2] y) {
            y = If (c) <
                then_branch = t () => (float[1,2] p) <int8[2,2] q = {1,2,3,4}, float s = {0.5}, float[2] b = {1, 2}> { w = DequantizeLinear(q, s) m = MatMul(x, w) p = Add(m, b) },
                else_branch = e () => (float[1,2] r) { r = Identity(x) }
            >
        }"""
    )
    original = model.clone()
    run_pass(PASS, model)
    branch = model.graph.node(0).attributes["then_branch"].as_graph()
    assert list(branch.initializers) == ["q", "s"]
    assert list(model.graph.initializers) == ["b"]
    for choice in (False, True):
        feeds = {"x": np.ones((1, 2), np.float32), "c": np.array(choice)}
        np.testing.assert_array_equal(run(model, feeds)[0], run(original, feeds)[0])
