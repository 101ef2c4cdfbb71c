"""Lazy tensors say what they will be, and are computed when they are asked for."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import onnx_ir as ir
import pytest

from graphopt.ir.lazy import mapped, reshaped, transposed
from graphopt.ir.load import load
from graphopt.ir.save import save

ARRAY = np.arange(24, dtype=np.float32).reshape(2, 3, 4)


def untouchable(dtype=ir.DataType.FLOAT, dims=(2, 3, 4)):
    def fail():
        raise AssertionError("the bytes were read")

    return ir.LazyTensor(fail, dtype=dtype, shape=ir.Shape(dims))


def test_nothing_is_read_when_one_is_made():
    source = untouchable()
    turned = transposed(source, [2, 0, 1])
    assert turned.shape.numpy() == (4, 2, 3) and turned.dtype is ir.DataType.FLOAT
    flat = reshaped(turned, [24])
    sum_of_two = mapped([flat, flat], np.add, ir.DataType.FLOAT, [24], name="sum")
    assert sum_of_two.name == "sum" and sum_of_two.nbytes == 96
    with pytest.raises(AssertionError, match="the bytes were read"):
        sum_of_two.numpy()


@pytest.mark.parametrize(
    "dtype", [np.float32, np.float16, ml_dtypes.bfloat16, ml_dtypes.int4, np.int64, np.bool_]
)
def test_contents(dtype):
    array = (ARRAY % 7).astype(dtype)
    tensor = ir.tensor(array)
    turned = transposed(tensor, [1, 2, 0])
    assert turned.numpy().dtype == array.dtype
    assert turned.numpy().tolist() == np.transpose(array, [1, 2, 0]).tolist()
    assert turned.tobytes() == ir.tensor(np.ascontiguousarray(np.transpose(array, [1, 2, 0]))).tobytes()
    assert reshaped(turned, [6, 4]).numpy().tolist() == np.transpose(array, [1, 2, 0]).reshape(6, 4).tolist()


def test_scalars_and_empty_ones():
    assert transposed(ir.tensor(np.array(1.0, np.float32)), []).numpy().shape == ()
    assert reshaped(ir.tensor(np.zeros((0, 3), np.float32)), [5, 0]).numpy().shape == (5, 0)
    assert mapped([], lambda: np.array(2.0, np.float32), ir.DataType.FLOAT, []).numpy().shape == ()


@pytest.mark.parametrize("perm", [[0, 1], [0, 0, 1], [1, 2, 3], [-1, 0, 1]])
def test_an_order_of_other_axes_is_refused(perm):
    with pytest.raises(ValueError, match="is no order of the axes"):
        transposed(untouchable(), perm)


@pytest.mark.parametrize("dims", [[23], [-1, 4], [2, 3, 4, 0]])
def test_another_number_of_elements_is_refused(dims):
    with pytest.raises(ValueError, match="can't be reshaped"):
        reshaped(untouchable(), dims)


def test_a_function_that_gives_something_else_is_found_out():
    tensor = ir.tensor(ARRAY)
    with pytest.raises(ValueError, match=r"computed float64\[2, 3, 4\], declared float32\[2, 3, 4\]"):
        mapped([tensor], lambda array: array.astype(np.float64), ir.DataType.FLOAT, ARRAY.shape).numpy()
    with pytest.raises(ValueError, match=r"computed float32\[24\], declared"):
        mapped([tensor], np.ravel, ir.DataType.FLOAT, ARRAY.shape).numpy()


def test_computed_once_while_it_is_saved(tmp_path):
    calls = []

    def double(array):
        calls.append(array.shape)
        return array * 2

    value = ir.Value(
        name="w", const_value=mapped([ir.tensor(ARRAY)], double, ir.DataType.FLOAT, ARRAY.shape, name="w")
    )
    node = ir.node("Identity", [value], name="same")
    node.outputs[0].name = "y"
    graph = ir.Graph([], node.outputs, nodes=[node], initializers=[value], opset_imports={"": 17}, name="g")
    save(ir.Model(graph, ir_version=10), tmp_path / "m.onnx", external=True)
    assert calls == [(2, 3, 4)]
    assert (
        load(tmp_path / "m.onnx").graph.initializers["w"].const_value.numpy().tolist() == (ARRAY * 2).tolist()
    )
