"""Corrections go into what is there: a bias, a constant added next; else an operator of their own."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from graphopt import targets
from graphopt.errors import UsageError
from graphopt.ir.quant_table import ModelIdentity, QuantTable
from graphopt.ir.verifier import verify
from graphopt.rewriting import Driver, Editor, registry
from graphopt.rewriting.pipeline import Group, Pipeline
from graphopt.runtime import InferenceSession

RNG = np.random.default_rng(0)
C = np.array([1, -2, 3], np.float32)


def numbers(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape).astype(np.float32)


def model(text: str, **weights: np.ndarray) -> ir.Model:
    proto = onnx.parser.parse_model(f'<ir_version: 10, opset_import: ["": 21]>\n{text}')
    proto.graph.initializer.extend(onnx.numpy_helper.from_array(a, n) for n, a in weights.items())
    return ir.from_proto(proto)


def applied(source: ir.Model, correction: np.ndarray = C, name: str = "op") -> ir.Model:
    table = QuantTable(ModelIdentity("0" * 64, 21), corrections={name: correction})
    editor = Editor(source.clone(), target=targets.find("onnx"))
    made = registry.find("correct-biases")(table=table)  # type: ignore[call-arg]
    for _ in range(2):
        Driver(editor, strict=True).run(Pipeline((Group((made,)),)))
    verify(editor.model)
    onnx.checker.check_model(ir.to_proto(editor.model), full_check=True)
    return editor.model


MATMUL = "g (float[N,4] x) => (float[N,3] y{more}) {{ [op] h = MatMul(x, w)  {next} }}"


@pytest.mark.parametrize(
    ("text", "weights", "shape", "shift", "added"),
    [
        (MATMUL.format(next="y = Add(h, b)", more=""), {"w": (4, 3), "b": (3,)}, (2, 4), C, 0),
        (MATMUL.format(next="y = Add(b, h)", more=""), {"w": (4, 3), "b": (1,)}, (2, 4), C, 0),
        (MATMUL.format(next="y = Identity(h)", more=""), {"w": (4, 3)}, (2, 4), C, 1),
        ("g (float[N,4] x) => (float[N,3] y) { [op] y = MatMul(x, w) }", {"w": (4, 3)}, (2, 4), C, 1),
        ("g (float[N,4] x) => (float[N,3] y) { [op] y = Gemm(x, w) }", {"w": (4, 3)}, (2, 4), C, 0),
        (
            "g (float[N,4] x) => (float[N,3] y) { [op] y = Gemm <beta = 0.5> (x, w, b) }",
            {"w": (4, 3), "b": (3,)},
            (2, 4),
            C,
            0,
        ),
        (
            "g (float[1,2,5,5] x) => (float[1,3,3,3] y) { [op] y = Conv(x, w) }",
            {"w": (3, 2, 3, 3)},
            (1, 2, 5, 5),
            C[:, None, None],
            0,
        ),
        (
            "g (float[1,2,5,5] x) => (float[1,3,7,7] y) { [op] y = ConvTranspose(x, w, b) }",
            {"w": (2, 3, 3, 3), "b": (3,)},
            (1, 2, 5, 5),
            C[:, None, None],
            0,
        ),
    ],
)
def test_outputs_are_shifted_once(
    text: str, weights: dict[str, tuple[int, ...]], shape: tuple[int, ...], shift: np.ndarray, added: int
) -> None:
    source = model(text, **{name: numbers(*dims) for name, dims in weights.items()})
    found = applied(source)
    assert len(list(found.graph)) - len(list(source.graph)) == added
    x = numbers(*shape)
    before, after = (InferenceSession(m, optimize=False).run(None, {"x": x})[0] for m in (source, found))
    np.testing.assert_allclose(after, before + shift, rtol=1e-5, atol=1e-5)
    assert found.graph.outputs[0].name == "y"


def test_a_bias_that_others_use_stays_theirs() -> None:
    text = "g (float[N,4] x) => (float[N,3] y, float[N,3] z) { [op] y = Gemm(x, w, b)  z = Gemm(x, w, b) }"
    source = model(text, w=numbers(4, 3), b=numbers(3))
    before, after = (
        InferenceSession(m, optimize=False).run(None, {"x": numbers(2, 4) * 0})
        for m in (source, applied(source))
    )
    np.testing.assert_allclose(after[0], before[0] + C, rtol=1e-6)
    np.testing.assert_array_equal(after[1], before[1])


def test_an_output_with_other_consumers_is_shifted_for_all() -> None:
    text = MATMUL.format(next="y = Add(h, b)  z = Relu(h)", more=", float[N,3] z")
    source = model(text, w=numbers(4, 3), b=numbers(3))
    x = numbers(2, 4)
    before, after = (
        InferenceSession(m, optimize=False).run(None, {"x": x}) for m in (source, applied(source))
    )
    np.testing.assert_allclose(after[0], before[0] + C, rtol=1e-5, atol=1e-6)
    assert (after[1] != before[1]).any()


def test_a_bias_that_an_input_gives_is_added_to_behind() -> None:
    text = "g (float[N,4] x, float[3] b) => (float[N,3] y) { [op] y = Gemm(x, w, b) }"
    found = applied(model(text, w=numbers(4, 3)))
    assert [node.op_type for node in found.graph] == ["Gemm", "Add"]


@pytest.mark.parametrize(("correction", "name"), [(C[:2], "op"), (C, "other")])
def test_what_does_not_fit_is_an_error(correction: np.ndarray, name: str) -> None:
    text = "g (float[N,4] x) => (float[N,3] y) { [op] h = MatMul(x, w)  [other] y = Relu(h) }"
    with pytest.raises(UsageError, match=f"correction '{name}'"):
        applied(model(text, w=numbers(4, 3)), correction, name)


@pytest.mark.parametrize("op", ["h = MatMul(x, w)  y = Add(h, b)", "y = Gemm(x, w, b)"])
def test_a_corrected_constant_keeps_the_name_that_a_table_has_for_it(op: str) -> None:
    text = f"g (float[N,4] x) => (float[N,3] y) {{ [op] {op} }}"
    b = numbers(3)
    found = applied(model(text, w=numbers(4, 3), b=b))
    assert set(found.graph.initializers) == {"w", "b"}
    np.testing.assert_allclose(found.graph.initializers["b"].const_value.numpy(), b + C, rtol=1e-6)


def test_a_constant_of_two_sums_is_corrected_for_one() -> None:
    text = """g (float[N,4] x) => (float[N,3] y, float[N,3] z) {
        [op] h = MatMul(x, w)  y = Add(h, b)  [other] k = MatMul(x, v)  z = Add(k, b) }"""
    b = numbers(3)
    found = applied(model(text, w=numbers(4, 3), v=numbers(4, 3), b=b))
    np.testing.assert_array_equal(found.graph.initializers["b"].const_value.numpy(), b)
