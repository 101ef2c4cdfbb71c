import numpy as np
import onnx_ir as ir
import pytest

from graphopt import targets
from graphopt.rewriting import (
    HAS_OTHER_CONSUMERS,
    IS_GRAPH_OUTPUT,
    OTHER_SCOPE,
    Editor,
    Match,
    Pass,
    Rejection,
    Rule,
    any_of,
    attr,
    const,
    op,
    optional,
    rule,
)
from graphopt.rewriting.pattern import trace
from graphopt.testing import model_from_text


def places(found: Rule, text: str, *, opset: int = 18) -> list[tuple[Match, object]]:
    """The rule's answer at every node of its anchor operators, bodies included."""
    editor = Editor(model_from_text(text, opset=opset), target=targets.find("onnx"))
    answers = []
    for node in editor.where.in_order():
        if (node.domain, node.op_type) in found.anchors:
            place = Match(editor, Pass(), node)
            answers.append((place, found.find(place)))
    return answers


def answer(found: Rule, text: str, *, opset: int = 18) -> object:
    [(_, result)] = places(found, text, opset=opset)
    return result


def scaled(x, y):
    """Mul(Add(x, y), 2)."""
    return op.Mul(op.Add(x, y), 2.0)


def test_binds_arguments_by_name():
    [(place, result)] = places(
        Rule(scaled), "g (float[N] a, float[N] b) => (float[N] z) { s = Add(a, b)  z = Mul(s, 2.0) }"
    )
    assert result == ()
    assert (place["x"].name, place["y"].name) == ("a", "b")


def test_commutative_operators_match_both_ways():
    assert (
        answer(Rule(scaled), "g (float[N] a, float[N] b) => (float[N] z) { s = Add(a, b)  z = Mul(2.0, s) }")
        == ()
    )


def test_sub_is_not_commutative():
    def from_one(x):
        return op.Sub(1.0, op.Neg(x))

    assert answer(Rule(from_one), "g (float[N] a) => (float[N] z) { n = Neg(a)  z = Sub(1.0, n) }") == ()
    assert answer(Rule(from_one), "g (float[N] a) => (float[N] z) { n = Neg(a)  z = Sub(n, 1.0) }") is None


def test_other_number_does_not_match():
    assert (
        answer(Rule(scaled), "g (float[N] a, float[N] b) => (float[N] z) { s = Add(a, b)  z = Mul(s, 3.0) }")
        is None
    )


def test_number_that_raises_the_rank_does_not_match():
    text = "g (float a, float b) => (float[1] z) { s = Add(a, b)  z = Mul(s, [2.0]) }"
    assert answer(Rule(scaled), text) is None
    assert answer(Rule(scaled), text.replace("[2.0]", "2.0")) == ()


def test_order_of_operands_is_found_by_backtracking():
    """The first order of the outer Add fits locally and fails only further up."""

    def pattern(x, y):
        return op.Add(op.Add(x, op.Neg(x)), y)

    text = """g (float[N] a, float[N] b) => (float[N] z) {
        n = Neg(b)  first = Add(a, n)  m = Neg(a)  second = Add(m, a)  z = Add(first, second) }"""
    results = places(Rule(pattern), text)
    assert [r for _, r in results if r == ()] == [()]


def test_value_used_twice_must_be_one_value():
    def square(x):
        return op.Mul(op.Neg(x), x)

    assert (
        answer(Rule(square), "g (float[N] a, float[N] b) => (float[N] z) { n = Neg(a)  z = Mul(n, b) }")
        is None
    )
    assert (
        answer(Rule(square), "g (float[N] a, float[N] b) => (float[N] z) { n = Neg(b)  z = Mul(n, b) }") == ()
    )


@pytest.mark.parametrize(
    ("graph", "reason"),
    [
        (
            "g (float[N] a, float[N] b) => (float[N] z, float[N] o) { s = Add(a, b)  o = Relu(s)  z = Mul(s, 2.0) }",
            HAS_OTHER_CONSUMERS,
        ),
        (
            "g (float[N] a, float[N] b) => (float[N] z, float[N] s) { s = Add(a, b)  z = Mul(s, 2.0) }",
            IS_GRAPH_OUTPUT,
        ),
        (
            """g (bool c, float[N] a, float[N] b) => (float[N] z) { s = Add(a, b)
               z = If (c) <then_branch = t () => (float[N] u) { u = Mul(s, 2.0) },
                           else_branch = e () => (float[N] w) { w = Identity(a) }> }""",
            OTHER_SCOPE,
        ),
    ],
)
def test_inner_values_that_are_needed_elsewhere(graph, reason):
    result = answer(Rule(scaled), graph)
    assert isinstance(result, Rejection) and result.reason == reason
    assert result.value is not None and result.value.name == "s"


def test_shared_values_may_have_other_consumers():
    def pattern(x, y):
        return op.Mul(op.Add(x, y).shared(), 2.0)

    text = "g (float[N] a, float[N] b) => (float[N] z, float[N] s) { s = Add(a, b)  z = Mul(s, 2.0) }"
    assert answer(Rule(pattern), text) == ()


def test_spellings_and_optional_operators():
    def pattern(x):
        return any_of(op.Div(x, 2.0), op.Mul(optional("Cast", op.Neg(x)), const(0.5)))

    for body in (
        "z = Div(a, 2.0)",
        "n = Neg(a) z = Mul(n, 0.5)",
        "n = Neg(a) c = Cast<to = 1>(n) z = Mul(0.5, c)",
    ):
        assert answer(Rule(pattern), f"g (float[N] a) => (float[N] z) {{ {body} }}") == ()


def test_attributes_compare_with_defaults_and_are_kept():
    def over_last(x):
        return op.Softmax(x, axis=-1)

    def any_axis(x):
        return op.Softmax(x, axis=attr("axis"))

    text = "g (float[N,3] a) => (float[N,3] z) { z = Softmax(a) }"
    assert answer(Rule(over_last), text, opset=13) == ()
    assert answer(Rule(over_last), text, opset=11) is None, "before opset 13 the default axis is 1"
    [(place, _)] = places(Rule(any_axis), text, opset=11)
    assert place.captured("axis") == 1


def test_absent_inputs_and_any_further_ones():
    def without_minimum(x, most):
        return op.Clip(x, None, most)

    def any_clip(x):
        return op.Clip(x, ...)

    one_sided = "g (float[N] a) => (float[N] z) { z = Clip(a, , 6.0) }"
    two_sided = "g (float[N] a) => (float[N] z) { z = Clip(a, 0.0, 6.0) }"
    assert answer(Rule(without_minimum), one_sided) == ()
    assert answer(Rule(without_minimum), two_sided) is None
    assert answer(Rule(any_clip), one_sided) == answer(Rule(any_clip), two_sided) == ()


def test_overridable_initializer_is_no_constant():
    model = model_from_text("g (float[N] a, float[N] b) => (float[N] z) { s = Add(a, b)  z = Mul(s, 2.0) }")
    node = model.graph[-1]
    default = ir.Value(
        name="k",
        const_value=ir.tensor(np.float32(2)),
        type=ir.TensorType(ir.DataType.FLOAT),
        shape=ir.Shape([]),
    )
    model.graph.inputs.append(default)
    model.graph.register_initializer(default)
    node.replace_input_with(1, default)
    editor = Editor(model, target=targets.find("onnx"))
    assert Rule(scaled).find(Match(editor, Pass(), node)) is None


def test_pattern_must_return_an_operators_output():
    with pytest.raises(TypeError, match="output of an operator"):
        trace(lambda x: x)


def test_conditions_run_in_order_and_the_last_fact_is_passed():
    found = rule(scaled)
    found.when(lambda m: "first")
    found.when(lambda m: m.scalar(m.root.inputs[1]))
    text = "g (float[N] a, float[N] b) => (float[N] z) { s = Add(a, b)  z = Mul(s, 2.0) }"
    assert answer(found, text) == (2.0,)
    found.when(lambda m: Rejection("never"))
    assert answer(found, text) == Rejection("never")
