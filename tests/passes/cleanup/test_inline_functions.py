import numpy as np
import pytest

from graphopt.testing import assert_rewrites, model_from_text, operators_of, random_feeds, run, run_pass

PASS = "inline-functions,remove-unused-functions"
HEADER = '<ir_version: 10, opset_import: ["": 18, "my": 1]>'


def _inlined(text: str) -> list[str]:
    """The operators after inlining; the answers are those of before."""
    model = model_from_text(HEADER + text)
    original = model.clone()
    run_pass(PASS, model)
    for size in ({"N": 0}, {"N": 2}):
        feeds = random_feeds(original, size)
        for before, after in zip(run(original, feeds), run(model, feeds), strict=True):
            np.testing.assert_array_equal(before, after)
    assert not model.functions
    return operators_of(model)


def test_each_call_gets_its_own_copy():
    found = _inlined(
        """g (float[N] x) => (float[N] y) { a = my.f(x)  y = my.f(a) }
        <domain: "my", opset_import: ["": 18]>
        f (v) => (w) { e = Exp(v)  w = Neg(e) }"""
    )
    assert found == ["Exp", "Neg", "Exp", "Neg"]


def test_calls_within_functions_too():
    found = _inlined(
        """g (float[N] x) => (float[N] y) { y = my.f(x) }
        <domain: "my", opset_import: ["": 18, "my": 1]>
        f (v) => (w) { a = my.h(v)  b = Abs(a)  w = my.h(b) }
        <domain: "my", opset_import: ["": 18]>
        h (v) => (w) { w = Neg(v) }"""
    )
    assert found == ["Neg", "Abs", "Neg"]


def test_attributes_are_bound():
    text = """g (float[N] x) => (float[N] y) { a = my.f <alpha = 0.5> (x)  y = my.f(a) }
        <domain: "my", opset_import: ["": 18]>
        f <alpha: float = 0.25> (v) => (w) { w = LeakyRelu <alpha: float = @alpha> (v) }"""
    assert _inlined(text) == ["LeakyRelu", "LeakyRelu"]
    model = model_from_text(HEADER + text)
    run_pass(PASS, model)
    assert [node.attributes["alpha"].value for node in model.graph] == [0.5, 0.25]


def test_attribute_without_a_value_is_left_out():
    text = """g (float[N] x) => (float[N] y) { y = my.f(x) }
        <domain: "my", opset_import: ["": 18]>
        f <alpha> (v) => (w) { w = LeakyRelu <alpha: float = @alpha> (v) }"""
    model = model_from_text(HEADER + text)
    run_pass(PASS, model)
    assert not model.graph[0].attributes


def test_attributes_go_through_nested_calls_and_bodies():
    found = _inlined(
        """g (float[N] x, bool c) => (float[N] y) { y = my.f <k = 0.5> (x, c) }
        <domain: "my", opset_import: ["": 18, "my": 1]>
        f <k> (v, c) => (w) {
            w = If (c) <
                then_branch = t () => (p) { p = my.h <a: float = @k> (v) },
                else_branch = e () => (q) { q = Neg(v) }
            >
        }
        <domain: "my", opset_import: ["": 18]>
        h <a> (v) => (w) { w = LeakyRelu <alpha: float = @a> (v) }"""
    )
    assert found == ["If", "LeakyRelu", "Neg"]


def test_calls_in_bodies():
    found = _inlined(
        """g (float[N] x, int64 n) => (float[N] y) {
            y = Loop (n, , x) <body = b (int64 i, bool c, float[N] s) => (bool d, float[N] r) {
                d = Identity(c)  r = my.f(s)
            }>
        }
        <domain: "my", opset_import: ["": 18]>
        f (v) => (w) { a = Neg(v)  w = Abs(a) }"""
    )
    assert found == ["Loop", "Identity", "Neg", "Abs"]


def test_input_that_a_call_leaves_out_is_absent():
    found = _inlined(
        """g (float[N] x) => (float[N] y) { a = my.f(x)  y = my.f(a, ) }
        <domain: "my", opset_import: ["": 18]>
        f (v, low) => (w) { w = Clip(v, low) }"""
    )
    assert found == ["Clip", "Clip"]


def test_input_handed_through_to_a_graph_output_takes_an_identity():
    model = model_from_text(
        HEADER
        + """g (float[N] x) => (float[N] y, float[N] z) { y, z = my.f(x) }
        <domain: "my", opset_import: ["": 18]>
        f (v) => (w, v) { w = Neg(v) }"""
    )
    run_pass(PASS, model)
    assert operators_of(model) == ["Neg", "Identity"]
    assert [value.name for value in model.graph.outputs] == ["y", "z"]


def test_outputs_keep_their_names():
    model = model_from_text(
        HEADER
        + """g (float[N] x) => (float[N] y, float[N] z) { y, z = my.f(x) }
        <domain: "my", opset_import: ["": 18]>
        f (v) => (a, b) { a = Neg(v)  b = Abs(v) }"""
    )
    run_pass(PASS, model)
    assert [value.name for value in model.graph.outputs] == ["y", "z"]


def test_function_of_an_opset_in_which_its_operators_are_the_same():
    assert _inlined(
        """g (float[N] x) => (float[N] y) { y = my.f(x) }
        <domain: "my", opset_import: ["": 17]>
        f (v) => (w) { w = Neg(v) }"""
    ) == ["Neg"]


def test_function_of_an_opset_in_which_an_operator_is_another_stays():
    model = model_from_text(
        HEADER
        + """g (float[N] x) => (float y) { y = my.f(x) }
        <domain: "my", opset_import: ["": 13]>
        f (v) => (w) { w = ReduceMax <keepdims = 0, axes = [0]> (v) }"""
    )
    run_pass(PASS, model)
    assert operators_of(model) == ["f"]
    assert len(model.functions) == 1


@pytest.mark.parametrize(("target", "stays"), [("onnx", False), ("onnxruntime", False), ("graphopt", True)])
def test_operator_that_the_target_runs_itself_stays_a_call(target, stays):
    model = model_from_text(
        """<ir_version: 10, opset_import: ["": 18, "ai.graphopt": 1]>
        g (float[N] x) => (float[N] y) { y = ai.graphopt.Thing(x) }
        <domain: "ai.graphopt", opset_import: ["": 18]>
        Thing (v) => (w) { w = Neg(v) }"""
    )
    run_pass(PASS, model, target=target)
    assert operators_of(model) == (["Thing"] if stays else ["Neg"])


def test_custom_operators_inside_come_with_their_import():
    model = model_from_text(
        """<ir_version: 10, opset_import: ["": 18, "my": 1]>
        g (float[N] x) => (float[N] y) { y = my.f(x) }
        <domain: "my", opset_import: ["": 18, "other": 3]>
        f (v) => (w) { w = other.Thing(v) }"""
    )
    run_pass(PASS, model)
    assert operators_of(model) == ["Thing"]
    assert model.graph.opset_imports["other"] == 3


def test_inlined_bodies_are_optimized_in_place():
    assert_rewrites(
        "inline-functions,remove-unused-functions,remove-unused-opsets,remove-no-op-casts",
        before=HEADER
        + """g (float[N] x) => (float[N] y) { y = my.f(x) }
        <domain: "my", opset_import: ["": 18]>
        f (v) => (w) { c = Constant <value_float = 2.0> ()  d = CastLike(c, v)  w = Mul(v, d) }""",
        after="g (float[N] x) => (float[N] y) { y = Mul(x, 2.0) }",
    )
