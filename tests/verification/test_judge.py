from __future__ import annotations

import ml_dtypes
import numpy as np
import onnx_ir as ir
import pytest

from graphopt.testing import model_from_text
from graphopt.verification.judge import JudgeError, load_onnxruntime, load_reference
from graphopt.verification.outline import INLINE_BYTES, outline

LOADERS = [load_onnxruntime, load_reference]


def with_weight(dtype: ir.DataType, size: int = 4000) -> ir.Model:
    model = model_from_text("g (float[N,4] x) => (float[N,4] y) { y = Identity (x) }", opset=21)
    weight = ir.Value(
        name="w", const_value=ir.tensor((np.arange(size) % 7).astype(dtype.numpy()), dtype=dtype, name="w")
    )
    model.graph.initializers["w"] = weight
    node = ir.node("Identity", [weight])
    node.outputs[0].name = "out"
    node.outputs[0].dtype = dtype
    node.outputs[0].shape = ir.Shape([size])
    model.graph.append(node)
    model.graph.outputs.append(node.outputs[0])
    return model


@pytest.mark.parametrize("load", LOADERS)
@pytest.mark.parametrize(
    "dtype", [ir.DataType.FLOAT, ir.DataType.DOUBLE, ir.DataType.FLOAT16, ir.DataType.INT8, ir.DataType.INT64]
)
def test_weights_of_every_type_arrive(load, dtype):
    judge = load(with_weight(dtype))
    out = judge.run({"x": np.zeros((1, 4), np.float32)})[1]
    assert out.dtype == dtype.numpy()
    assert np.array_equal(out, (np.arange(4000) % 7).astype(dtype.numpy()))


@pytest.mark.parametrize("dtype", [ir.DataType.BFLOAT16, ir.DataType.FLOAT8E4M3FN, ir.DataType.FLOAT8E5M2])
def test_types_that_numpy_lacks_cross_onnxruntime(dtype):
    out = load_onnxruntime(with_weight(dtype)).run({"x": np.zeros((1, 4), np.float32)})[1]
    assert out.dtype == dtype.numpy()
    assert np.array_equal(out.astype(np.float32), (np.arange(4000) % 7).astype(np.float32))


@pytest.mark.parametrize("shape", [(2, 3), (0, 3), ()])
def test_inputs_of_bfloat16(shape):
    model = model_from_text(
        "g (bfloat16[...] x) => (bfloat16[...] y) { y = Identity (x) }".replace("[...]", "")
    )
    model.graph.inputs[0].shape = ir.Shape(shape)
    given = np.full(shape, 1.5, ml_dtypes.bfloat16)
    (out,) = load_onnxruntime(model).run({"x": given})
    assert out.dtype == given.dtype
    assert np.array_equal(out, given)


def test_large_weights_are_left_out_and_put_back():
    model = with_weight(ir.DataType.FLOAT, 100_000)
    tensor = model.graph.initializers["w"].const_value
    content, weights = outline(model)
    assert len(content) < 1000
    assert list(weights) == ["w"]
    assert model.graph.initializers["w"].const_value is tensor
    content, weights = outline(with_weight(ir.DataType.FLOAT, INLINE_BYTES // 4))
    assert not weights


def test_an_initializer_that_an_input_overrides_stays_inside():
    model = with_weight(ir.DataType.FLOAT)
    model.graph.inputs.append(model.graph.initializers["w"])
    assert not outline(model)[1]
    out = load_onnxruntime(model).run({"x": np.zeros((1, 4), np.float32)})[1]
    assert out[6] == 6


def test_optimizations_are_off():
    """x / 0 * 0 is NaN: an optimizer that cancels it would say 0."""
    model = model_from_text(
        "g (float[2] x) => (float[2] y) { a = Div (x, [0.0, 0.0])  y = Mul (a, [0.0, 0.0]) }"
    )
    (out,) = load_onnxruntime(model).run({"x": np.ones(2, np.float32)})
    assert np.isnan(out).all()


@pytest.mark.parametrize("load", LOADERS)
def test_a_model_from_a_file(load, tmp_path):
    path = tmp_path / "model.onnx"
    ir.save(with_weight(ir.DataType.FLOAT), path)
    assert load(path).run({"x": np.zeros((1, 4), np.float32)})[1][6] == 6


@pytest.mark.parametrize("load", LOADERS)
def test_unknown_operators_and_wrong_inputs_raise_one_line(load):
    custom = model_from_text("g (float[2] x) => (float[2] y) { y = far.away (x) }", domains={"far": 1})
    with pytest.raises(JudgeError) as error:
        load(custom).run({"x": np.ones(2, np.float32)})
    assert "\n" not in str(error.value)
    known = model_from_text("g (float[2] x, float[2] z) => (float[2] y) { y = Add (x, z) }")
    with pytest.raises(JudgeError):
        load(known).run({"x": np.ones(2, np.float32)})


def test_sequences_and_optionals_come_out_as_lists():
    model = model_from_text("g (float[4] x) => (seq(float[2]) y) { y = SplitToSequence (x, 2) }")
    for load in LOADERS:
        (out,) = load(model).run({"x": np.arange(4, dtype=np.float32)})
        assert [a.tolist() for a in out] == [[0, 1], [2, 3]]
