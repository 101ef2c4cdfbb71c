"""Equal tensors are found, and big files are hardly read for it."""

from __future__ import annotations

import os

import ml_dtypes
import numpy as np
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graphopt.ir import duplicates
from graphopt.ir.duplicates import PIECE_BYTES, find_duplicates
from graphopt.ir.lazy import transposed
from graphopt.ir.load import load
from graphopt.ir.save import save


def test_same_bytes_of_one_dtype_and_shape():
    ones = np.ones((4, 4), np.float32)
    tensors = [
        ir.tensor(ones),
        ir.tensor(ones.reshape(16)),
        ir.tensor(ones.copy()),
        ir.tensor(ones.astype(np.float64)),
        ir.tensor(np.zeros((4, 4), np.float32)),
        ir.tensor(ones.view(np.int32)),
        ir.tensor(np.zeros((4, 4), np.float32)),
    ]
    assert find_duplicates(tensors) == [(0, 2), (4, 6)]


def test_bits_count_not_values():
    nan = np.array([np.nan], np.float32)
    assert find_duplicates([ir.tensor(np.array([0.0])), ir.tensor(np.array([-0.0]))]) == []
    assert find_duplicates([ir.tensor(nan), ir.tensor(nan.copy())]) == [(0, 1)]


@pytest.mark.parametrize("dtype", [ml_dtypes.int4, ml_dtypes.bfloat16, np.bool_, ml_dtypes.float8_e4m3fn])
def test_narrow_types(dtype):
    values = np.array([0, 1, 1]).astype(dtype)
    others = np.array([1, 1, 1]).astype(dtype)
    tensors = [ir.tensor(values), ir.tensor(others), ir.tensor(values.copy())]
    assert find_duplicates(tensors) == [(0, 2)]


def test_empty_scalar_and_strided():
    square = np.arange(9, dtype=np.float32).reshape(3, 3)
    tensors = [
        ir.tensor(np.zeros((0, 3), np.float32)),
        ir.tensor(np.zeros((3, 0), np.float32)),
        ir.tensor(np.zeros((0, 3), np.float32)),
        ir.tensor(np.array(1.0, np.float32)),
        ir.tensor(np.array(1.0, np.float32)),
        ir.tensor(square.T),
        ir.tensor(np.ascontiguousarray(square.T)),
        ir.tensor(square),
    ]
    assert find_duplicates(tensors) == [(0, 2), (3, 4), (5, 6)]


def test_strings():
    def strings(*texts):
        return ir.StringTensor([text.encode() for text in texts], shape=ir.Shape([len(texts)]))

    assert find_duplicates([strings("ab", "c"), strings("a", "bc"), strings("ab", "c")]) == [(0, 2)]


def test_lazy_tensors_are_not_computed():
    def fail():
        raise AssertionError("computed")

    lazy = ir.LazyTensor(fail, dtype=ir.DataType.FLOAT, shape=ir.Shape([2]))
    other = ir.LazyTensor(fail, dtype=ir.DataType.FLOAT, shape=ir.Shape([2]))
    assert find_duplicates([lazy, other, ir.tensor(np.zeros(2, np.float32)), lazy]) == [(0, 3)]
    assert find_duplicates([transposed(ir.tensor(np.eye(2)), [1, 0])]) == []


def external(folder, arrays):
    path = folder / "weights.bin"
    path.write_bytes(b"".join(array.tobytes() for array in arrays))
    offset, tensors = 0, []
    for array in arrays:
        dtype = ir.DataType.from_numpy(array.dtype)
        tensors.append(
            ir.ExternalTensor(
                "weights.bin",
                offset,
                array.nbytes,
                dtype,
                shape=ir.Shape(array.shape),
                name="w",
                base_dir=folder,
            )
        )
        offset += array.nbytes
    return tensors


class Reads:
    """How many bytes were read from files."""

    def __init__(self, monkeypatch):
        self.total = 0
        pread = os.pread

        def counted(descriptor, length, offset):
            self.total += length
            return pread(descriptor, length, offset)

        monkeypatch.setattr(duplicates.os, "pread", counted)


def test_large_external_tensors_are_sampled(tmp_path, monkeypatch):
    generator = np.random.default_rng(0)
    arrays = [generator.normal(size=(1 << 19)).astype(np.float32) for _ in range(4)]
    tensors = external(tmp_path, arrays)
    reads = Reads(monkeypatch)
    assert find_duplicates(tensors) == []
    assert reads.total == 4 * 16 * 64


@pytest.mark.parametrize("changed", [0, 5000, (1 << 19) - 1])
def test_a_collision_of_samples_is_settled_by_all_bytes(tmp_path, changed):
    first = np.zeros(1 << 19, np.float32)
    second = first.copy()
    second[changed] = 1
    assert 2 * first.nbytes > PIECE_BYTES
    tensors = external(tmp_path, [first, second, first])
    assert find_duplicates(tensors) == [(0, 2)]
    assert find_duplicates([ir.tensor(first), *tensors]) == [(0, 1, 3)]


def test_one_place_in_a_file_is_one_tensor(tmp_path, monkeypatch):
    tensors = external(tmp_path, [np.zeros(1 << 19, np.float32)])
    reads = Reads(monkeypatch)
    assert find_duplicates(tensors * 3) == [(0, 1, 2)]
    assert reads.total == 3 * 16 * 64


def test_tensors_of_a_loaded_model(tmp_path):
    weights = np.random.default_rng(1).normal(size=(300, 300)).astype(np.float32)
    values = [ir.Value(name=name, const_value=ir.tensor(weights.copy(), name=name)) for name in ("a", "b")]
    nodes = [ir.node("Add", values, name="sum")]
    nodes[0].outputs[0].name = "y"
    graph = ir.Graph([], nodes[0].outputs, nodes=nodes, initializers=values, opset_imports={"": 17}, name="g")
    save(ir.Model(graph, ir_version=10), tmp_path / "m.onnx", external=True)
    loaded = load(tmp_path / "m.onnx")
    tensors = [value.const_value for value in loaded.graph.initializers.values()]
    assert find_duplicates(tensors) == [(0, 1)]


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from([np.int8, np.uint8, np.int16]), st.lists(st.integers(0, 2), max_size=3)),
        max_size=12,
    )
)
def test_groups_are_those_of_a_full_comparison(described):
    tensors = [ir.tensor(np.array(values, dtype)) for dtype, values in described]
    groups = {}
    for index, tensor in enumerate(tensors):
        groups.setdefault((tensor.dtype, tuple(tensor.shape), tensor.tobytes()), []).append(index)
    assert find_duplicates(tensors) == sorted(tuple(group) for group in groups.values() if len(group) > 1)
