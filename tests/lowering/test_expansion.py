"""Functions of models and of the standard, put in the place of their calls."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from graphopt.runtime import InferenceSession
from tests.lowering.comparing import assert_same, instructions, parsed, program


def floats(*dims: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(dims).astype(np.float32)


def function(signature: str, body: str, attributes: str = "", imports: str = '"" : 18, "own" : 1') -> str:
    return f'<domain: "own", opset_import: [{imports}]> {signature.replace("(", f"{attributes} (", 1)} {{ {body} }}'


def model(graph: str, *functions: str) -> onnx.ModelProto:
    return parsed(graph, functions=" ".join(functions))


def test_function_of_the_model() -> None:
    made = model(
        "g (float[N] x) => (float[N] y, float[N] z) { y, z = own.both (x) }",
        function("both (a) => (p, q)", "p = Neg(a) h = Exp(a) q = Add(h, p)"),
    )
    assert {i.kernel for i in instructions(program(made))} == {"elementwise"}
    assert_same(made, {"x": floats(3)}, {"x": floats(0)})


def test_function_in_a_function() -> None:
    made = model(
        "g (float[N] x) => (float[N] y) { a = own.outer (x) y = own.inner (a) }",
        function("outer (a) => (c)", "b = own.inner (a) d = own.inner (b) c = Mul(d, a)"),
        function("inner (a) => (c)", "b = Sigmoid(a) c = Add(a, b)"),
    )
    assert_same(made, {"x": floats(5)})


def test_attributes_of_the_call_and_their_defaults() -> None:
    made = model(
        "g (float[N] x) => (float[N] y, float[N] z) { y = own.leak <slope = 0.5> (x) z = own.leak (x) }",
        function("leak (a) => (c)", "c = LeakyRelu <alpha : float = @slope> (a)", "<slope : float = 0.25>"),
    )
    ours = InferenceSession(made, optimize=False).run(None, {"x": np.float32([-4, 4])})
    np.testing.assert_array_equal(ours, [[-2, 4], [-1, 4]])


def test_attribute_that_is_left_out_takes_the_standards_default() -> None:
    made = model(
        "g (float[N] x) => (float[N] y) { y = own.leak (x) }",
        function("leak (a) => (c)", "c = LeakyRelu <alpha : float = @slope> (a)", "<slope>"),
    )
    (y,) = InferenceSession(made, optimize=False).run(None, {"x": np.float32([-4, 4])})
    np.testing.assert_allclose(y, [-0.04, 4], rtol=1e-6)


def test_output_that_is_an_input() -> None:
    made = model(
        "g (float[N] x) => (float[N] y, float[N] p) { p = own.f (x) y = Exp(p) }",
        function("f (a) => (a)", "b = Neg(a)"),
    )
    (y, p) = InferenceSession(made, optimize=False).run(None, {"x": floats(3)})
    np.testing.assert_array_equal(p, floats(3))
    np.testing.assert_allclose(y, np.exp(floats(3)), rtol=1e-6)


def test_one_value_as_two_outputs() -> None:
    made = model(
        "g (float[N] x) => (float[N] y, float[N] z) { y, z = own.f (x) }",
        function("f (a) => (b, b)", "b = Neg(a)"),
    )
    ours = InferenceSession(made, optimize=False).run(None, {"x": floats(3)})
    np.testing.assert_array_equal(ours, [-floats(3)] * 2)


def test_optional_input_that_is_left_out() -> None:
    made = model(
        "g (float[N] x) => (float[N] y, float[N] z) { one = Constant<value = float {1.0}>() y = own.f (x) z = own.f (x, one) }",
        function("f (a, least) => (b)", "b = Clip(a, least)"),
    )
    assert_same(made, {"x": floats(6)})


def test_bodies_in_a_function_capture_its_values() -> None:
    made = model(
        "g (float[N] x, bool c) => (float[N] y) { y = own.f (x, c) }",
        function(
            "f (a, c) => (b)",
            """h = Exp(a) n = Constant<value = int64 {3}>()
            b = If(c) <then_branch = t () => (float[N] p) {
                p = Loop(n, , a) <body = l (int64 i, bool k, float[N] s) => (bool ko, float[N] so) { ko = Identity(k) m = own.g (h) so = Add(s, m) }>
            }, else_branch = e () => (float[N] q) { q = own.g (a) }>""",
        ),
        function("g (a) => (b)", "one = Constant<value = float {1.0}>() b = Sub(one, a)"),
    )
    assert_same(made, *({"x": floats(n), "c": np.array(c)} for n, c in ((2, True), (3, False))))


def test_call_in_a_body() -> None:
    made = model(
        """g (float[N] x, int64 n) => (float[N] y) {
            y = Loop(n, , x) <body = l (int64 i, bool k, float[N] s) => (bool ko, float[N] so) { ko = Identity(k) so = own.f (s, x) }> }""",
        function("f (a, b) => (c)", "c = Sub(a, b)"),
    )
    assert_same(made, *({"x": floats(2), "n": np.array(n)} for n in (0, 1, 3)))


def test_output_that_the_call_leaves_out() -> None:
    made = model(
        "g (float[N] x) => (float[N] y) { , y = own.f (x) }",
        function("f (a) => (b, c)", "b = Neg(a) c = Exp(a)"),
    )
    assert_same(made, {"x": floats(2)})


@pytest.mark.parametrize(
    ("node", "opset"),
    [
        ("y = Celu <alpha = 2.0> (x)", 18),
        ("y = ThresholdedRelu (x)", 18),
        ("y = Selu (x)", 18),
        ("y = MeanVarianceNormalization <axes = [0, 1]> (x)", 18),
        ("y = HardSwish (x)", 18),
        ("y = Shrink <bias = 0.1> (x)", 18),
        ("y = Softsign (x)", 22),
        ("y = LogSoftmax <axis = 0> (x)", 13),
        (
            'l = Constant<value = int64[3] {0, 1, 2}>() y = SoftmaxCrossEntropyLoss <reduction = "none"> (x, l)',
            18,
        ),
        ("l = Constant<value = int64[3] {0, 1, 1}>() y, p = SoftmaxCrossEntropyLoss (x, l)", 18),
    ],
)
def test_functions_of_the_standard(node: str, opset: int) -> None:
    made = parsed(f"g (float[3,C] x) => (float y) {{ {node} }}", opset)
    made.graph.output[0].type.tensor_type.ClearField("shape")
    assert not program(made).fallbacks
    assert_same(made, {"x": floats(3, 5)}, rtol=1e-5)
