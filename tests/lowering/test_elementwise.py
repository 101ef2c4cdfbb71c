"""Element-wise operators, casts and quantization in sessions: the standard's own cases, old opsets, own extensions."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from graphopt.ir.load import from_proto
from graphopt.lowering.lower import lower
from graphopt.runtime import InferenceSession
from tests.lowering.running import backend_cases, kernels_of, node_model, reference, run

UNARY = [
    "abs",
    "acos",
    "acosh",
    "asin",
    "asinh",
    "atan",
    "atanh",
    "ceil",
    "celu",
    "cos",
    "cosh",
    "elu",
    "erf",
    "exp",
]
UNARY += [
    "floor",
    "gelu",
    "hardsigmoid",
    "hardswish",
    "identity",
    "isinf",
    "isnan",
    "leakyrelu",
    "log",
    "mish",
    "neg",
]
UNARY += [
    "not",
    "reciprocal",
    "relu",
    "round",
    "selu",
    "shrink",
    "sigmoid",
    "sign",
    "sin",
    "sinh",
    "softplus",
]
UNARY += ["softsign", "sqrt", "swish", "tan", "tanh", "thresholdedrelu", "bitwise_not", "dropout"]
BINARY = [
    "add",
    "sub",
    "mul",
    "div",
    "mod",
    "pow",
    "and",
    "or",
    "xor",
    "bitwise_and",
    "bitwise_or",
    "bitwise_xor",
]
BINARY += [
    "bitshift",
    "equal",
    "less",
    "less_equal",
    "greater",
    "greater_equal",
    "prelu",
    "where",
    "clip",
    "min",
    "max",
]
BINARY += ["sum", "mean"]
TYPES = ["cast", "castlike", "bitcast", "quantizelinear", "dequantizelinear", "dynamicquantizelinear"]
# The standard's implementation draws random numbers, or there are strings in it.
SKIPPED = ("training_dropout", "string", "STRING")


def assert_case(model: onnx.ModelProto, inputs: list[np.ndarray], outputs: list[np.ndarray]) -> None:
    session = InferenceSession(model, optimize=False)
    assert not session.fallbacks
    names = [value.name for value in model.graph.input]
    for got, wanted in zip(session.run(None, dict(zip(names, inputs, strict=True))), outputs, strict=True):
        array = np.asarray(got)
        assert array.dtype == wanted.dtype and array.shape == wanted.shape
        narrow = wanted.dtype.itemsize <= 2
        np.testing.assert_allclose(
            array.astype(np.float64), wanted.astype(np.float64), rtol=1e-3 if narrow else 1e-6, atol=1e-7
        )


@pytest.mark.parametrize("prefix", [*UNARY, *BINARY, *TYPES])
def test_standard_cases(prefix: str) -> None:
    cases = {
        name: case
        for name, case in backend_cases(f"test_{prefix}").items()
        if name == f"test_{prefix}" or name.startswith(f"test_{prefix}_")
        if len(case[0].graph.node) == 1 and not any(word in name for word in SKIPPED)
        # Sequences and optionals are handed on by Identity too; tests/conformance has them.
        if all(value.type.HasField("tensor_type") for value in case[0].graph.input)
    }
    assert cases
    for model, inputs, outputs in cases.values():
        assert_case(model, inputs, outputs)


def test_all_are_one_instruction() -> None:
    x = np.ones((2, 3), np.float32)
    for op_type in ("Add", "Sub", "Max", "Less"):
        assert kernels_of(node_model(op_type, {"x": x, "y": x})) == ["elementwise"]
    for op_type in ("Exp", "Relu", "Gelu", "Mish", "Softplus"):
        assert kernels_of(node_model(op_type, {"x": x})) == ["elementwise"]


@pytest.mark.parametrize("axis", [None, 0, 1, 2])
def test_broadcast_attribute_of_old_opsets(axis: int | None) -> None:
    x = np.random.default_rng(0).standard_normal((2, 3, 4)).astype(np.float32)
    y = x.max(axis=tuple(k for k in range(3) if k != axis)) if axis is not None else x[0, 0]
    attributes = {"broadcast": 1} if axis is None else {"broadcast": 1, "axis": axis}
    [got] = run(node_model("Add", {"x": x, "y": y}, opset=6, **attributes), {"x": x, "y": y})
    place = 2 if axis is None else axis
    np.testing.assert_array_equal(got, x + y.reshape([-1 if k == place else 1 for k in range(3)]))


def test_prelu_of_opset_6_has_a_slope_a_channel() -> None:
    x = np.random.default_rng(0).standard_normal((2, 3, 4)).astype(np.float32)
    slope = np.array([0.5, 2, 4], np.float32)
    [got] = run(node_model("PRelu", {"x": x, "slope": slope}, opset=6), {"x": x, "slope": slope})
    np.testing.assert_array_equal(got, np.where(x < 0, x * slope[:, None], x))


def test_clip_of_opset_6_has_attributes() -> None:
    x = np.linspace(-3, 3, 20).astype(np.float32)
    [got] = run(node_model("Clip", {"x": x}, opset=6, min=-1.0, max=0.5), {"x": x})
    np.testing.assert_array_equal(got, np.clip(x, -1, np.float32(0.5)))
    [got] = run(node_model("Clip", {"x": x}, opset=6, min=-1.0), {"x": x})
    np.testing.assert_array_equal(got, np.maximum(x, -1))


@pytest.mark.parametrize("op_type", ["BiasGelu", "FastGelu", "QuickGelu", "Gelu"])
def test_gelus_of_onnxruntime(op_type: str) -> None:
    from math import erf

    x = np.linspace(-4, 4, 60).astype(np.float32).reshape(3, 20)
    feeds = {"x": x, "b": x[1]} if op_type in ("BiasGelu", "FastGelu") else {"x": x}
    [got] = run(node_model(op_type, feeds, domain="com.microsoft", outputs=1), feeds)
    wide = (x + x[1] if len(feeds) > 1 else x).astype(np.float64)
    if op_type == "QuickGelu":
        wanted = wide / (1 + np.exp(-1.702 * wide))
    elif op_type == "FastGelu":
        wanted = 0.5 * wide * (1 + np.tanh(np.sqrt(2 / np.pi) * (wide + 0.044715 * wide**3)))
    else:
        wanted = 0.5 * wide * (1 + np.vectorize(erf)(wide / np.sqrt(2)))
    np.testing.assert_allclose(got, wanted, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(
    "pair", [("f4", "i8"), ("f4", "f8"), ("i4", "f4"), ("f2", "f4"), ("i8", "i4"), ("f8", "f4")]
)
def test_pow_of_mixed_types(pair: tuple[str, str]) -> None:
    rng = np.random.default_rng(2)
    x, y = rng.integers(1, 9, 40).astype(pair[0]), rng.integers(0, 5, 40).astype(pair[1])
    model = node_model("Pow", {"x": x, "y": y})
    [got], [wanted] = run(model, {"x": x, "y": y}), reference(model, {"x": x, "y": y})
    assert got.dtype == wanted.dtype
    np.testing.assert_allclose(got.astype(np.float64), wanted.astype(np.float64), rtol=1e-6)


def test_constants_of_one_element_are_part_of_the_program() -> None:
    x = np.ones((2, 3), np.float32)
    model = node_model("Mul", {"x": x, "c": np.full((1, 1), 2, np.float32)}, constants=["c"])
    program = lower(from_proto(model))
    assert [len(i.inputs) for i in program.main.instructions] == [1]
    # ... but not where they decide the rank
    [got] = run(
        node_model("Mul", {"x": x[0], "c": np.full((1, 1), 2, np.float32)}, constants=["c"]), {"x": x[0]}
    )
    np.testing.assert_array_equal(got, np.full((1, 3), 2, np.float32))


def test_unknown_ranks() -> None:
    x, y = np.ones((2, 1, 3), np.float32), np.arange(4, dtype=np.float32)[:, None]
    model = node_model("Add", {"x": x, "y": y}, dims={"x": None, "y": None})
    [got] = run(model, {"x": x, "y": y})
    np.testing.assert_array_equal(got, x + y)


@pytest.mark.parametrize("opset", [13, 21])
def test_quantization_per_axis_and_block(opset: int) -> None:
    rng = np.random.default_rng(3)
    x = rng.standard_normal((4, 6, 5)).astype(np.float32)
    scale, zero = rng.random(6).astype(np.float32) + np.float32(0.01), rng.integers(0, 9, 6).astype(np.uint8)
    feeds = {"x": x, "s": scale, "z": zero}
    model = node_model("QuantizeLinear", feeds, opset=opset, axis=1)
    [got], [wanted] = run(model, feeds), reference(model, feeds)
    np.testing.assert_array_equal(got, wanted)
    feeds = {"x": got, "s": scale, "z": zero}
    back = node_model("DequantizeLinear", feeds, opset=opset, axis=-2)
    whole = (got.astype(np.int32) - zero[:, None]).astype(np.float32)
    np.testing.assert_array_equal(run(back, feeds)[0], whole * scale[:, None])
    if opset >= 21:
        scale, zero = np.repeat(scale[None, :3, None], 4, 0) + np.zeros((1, 1, 5), np.float32), None
        feeds = {"x": x, "s": scale}
        model = node_model("QuantizeLinear", feeds, opset=opset, axis=1, block_size=2, output_dtype=3)
        np.testing.assert_array_equal(run(model, feeds)[0], reference(model, feeds)[0])


@pytest.mark.parametrize("dims", [(), (0, 4), (1, 1), (3, 0, 2)])
def test_empty_and_scalars(dims: tuple[int, ...]) -> None:
    x = np.ones(dims, np.float32)
    for model in (node_model("Relu", {"x": x}), node_model("Cast", {"x": x}, to=10)):
        assert run(model, {"x": x})[0].shape == dims
