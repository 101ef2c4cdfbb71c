"""Lazy tensors say what they will be, and are computed when they are asked for."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import onnx_ir as ir
import pytest

from graphopt.ir import lazy
from graphopt.ir.lazy import Transposed, mapped, reshaped, transposed
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


def model_with(tensor):
    value = ir.Value(name="w", const_value=tensor)
    node = ir.node("Identity", [value], name="same")
    node.outputs[0].name = "y"
    graph = ir.Graph([], node.outputs, nodes=[node], initializers=[value], opset_imports={"": 17}, name="g")
    return ir.Model(graph, ir_version=10)


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

    tensor = mapped([ir.tensor(ARRAY)], double, ir.DataType.FLOAT, ARRAY.shape, name="w")
    save(model_with(tensor), tmp_path / "m.onnx", external=True)
    assert calls == [(2, 3, 4)]
    assert (
        load(tmp_path / "m.onnx").graph.initializers["w"].const_value.numpy().tolist() == (ARRAY * 2).tolist()
    )


def test_orders_of_orders_are_one():
    tensor = ir.tensor(ARRAY)
    turned = transposed(transposed(tensor, [2, 0, 1]), [1, 0, 2])
    assert isinstance(turned, Transposed) and turned.source is tensor
    assert turned.numpy().tolist() == ARRAY.transpose(2, 0, 1).transpose(1, 0, 2).tolist()
    assert transposed(transposed(tensor, [2, 0, 1]), [1, 2, 0]) is tensor


@pytest.mark.parametrize(
    ("dims", "perm"),
    [
        ((37, 53), (1, 0)),
        ((5, 1, 40), (2, 1, 0)),
        ((1, 40, 19), (0, 2, 1)),
        ((3, 4, 5, 6), (2, 3, 1, 0)),
        ((3, 4, 5), (1, 0, 2)),
        ((7,), (0,)),
        ((), ()),
        ((0, 3), (1, 0)),
        ((3, 0), (1, 0)),
        ((1, 1), (1, 0)),
    ],
)
@pytest.mark.parametrize("dtype", [np.float32, np.float16, np.int8, np.float64, np.complex128])
@pytest.mark.parametrize("piece_bytes", [1, 200, 1 << 20])
def test_pieces(monkeypatch, dims, perm, dtype, piece_bytes):
    monkeypatch.setattr(lazy, "PIECE_BYTES", piece_bytes)
    array = np.arange(np.prod(dims)).reshape(dims).astype(dtype)
    expected = np.ascontiguousarray(array.transpose(perm))
    turned = Transposed(ir.tensor(array), perm)
    pieces = [piece.tobytes() for piece in turned.pieces()]
    assert b"".join(pieces) == expected.tobytes() == turned.tobytes()
    assert len(pieces) > 1 or piece_bytes > 1 or expected.size < 2 or expected.shape[0] == 1
    np.testing.assert_array_equal(turned.numpy(), expected)


@pytest.mark.parametrize("dtype", [np.float32, ml_dtypes.bfloat16, ml_dtypes.int4, np.bool_])
def test_saved_in_pieces(tmp_path, monkeypatch, dtype):
    monkeypatch.setattr(lazy, "PIECE_BYTES", 100)
    array = (np.arange(6000).reshape(60, 100) % 5).astype(dtype)
    model = model_with(transposed(ir.tensor(array), [1, 0]))
    save(model, tmp_path / "m.onnx", external=True)
    found = load(tmp_path / "m.onnx").graph.initializers["w"].const_value
    assert found is not None and found.numpy().tolist() == array.T.tolist()
