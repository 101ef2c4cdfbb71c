"""Moved data is onnxruntime's, in all spellings; what it refuses is refused."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graphopt.ir.evaluate import CannotEvaluate
from tests.ir.evaluate.judging import agrees, compute

DATA = np.arange(24, dtype=np.float32).reshape(2, 3, 4)


def ints(*values):
    return np.array(values, np.int64)


@pytest.mark.parametrize(
    ("op", "arrays", "attributes"),
    [
        ("Identity", [DATA], {}),
        ("Shape", [DATA], {}),
        ("Shape", [DATA], {"start": 1}),
        ("Shape", [DATA], {"start": -2, "end": -1}),
        ("Shape", [DATA], {"start": -9, "end": 9}),
        ("Size", [DATA], {}),
        ("Reshape", [DATA, ints(4, 6)], {}),
        ("Reshape", [DATA, ints(0, -1)], {}),
        ("Reshape", [DATA[:0], ints(0, 3)], {"allowzero": 1}),
        ("Transpose", [DATA], {}),
        ("Transpose", [DATA], {"perm": [1, 2, 0]}),
        ("Flatten", [DATA], {}),
        ("Flatten", [DATA], {"axis": 0}),
        ("Flatten", [DATA], {"axis": -1}),
        ("Flatten", [DATA[:, :0]], {"axis": 2}),
        ("Squeeze", [DATA[:1], ints(0)], {}),
        ("Squeeze", [DATA[:1, :1]], {}),
        ("Unsqueeze", [DATA, ints(0, -1)], {}),
        ("Unsqueeze", [DATA, ints(2, 0)], {}),
        ("Expand", [DATA, ints(5, 1, 1, 4)], {}),
        ("Expand", [DATA[:1], ints(0, 3, 1)], {}),
        ("Tile", [DATA, ints(1, 2, 0)], {}),
        ("Tile", [DATA, ints(2, 1, 3)], {}),
        ("Concat", [DATA, DATA[:, :1], DATA[:, :0]], {"axis": 1}),
        ("Concat", [DATA, DATA], {"axis": -1}),
        ("Gather", [DATA, ints(1, -1, 0)], {"axis": 1}),
        ("Gather", [DATA, np.array(-1, np.int32)], {"axis": -1}),
        ("Gather", [DATA, np.zeros((2, 0), np.int64)], {}),
        ("GatherElements", [DATA, np.array([[[0, -1]]], np.int64)], {"axis": 2}),
        ("GatherElements", [DATA, np.array([[[1], [-3]]], np.int64)], {"axis": 1}),
        ("Where", [DATA > 5, DATA, -DATA[:1]], {}),
        ("Pad", [DATA, ints(0, 1, 2, 0, 0, 3)], {}),
        ("Pad", [DATA, ints(1, 0, 0, 2), np.array(7, np.float32), ints(0, -1)], {}),
        ("ConstantOfShape", [ints(2, 0)], {}),
        ("ConstantOfShape", [ints()], {"value": onnx.numpy_helper.from_array(ints(4))}),
        ("Range", [np.array(2), np.array(9), np.array(3)], {}),
        ("Range", [np.array(9), np.array(2), np.array(-2)], {}),
        ("Range", [np.array(9), np.array(2), np.array(2)], {}),
        ("NonZero", [DATA % 3], {}),
    ],
)
def test_operators(op, arrays, attributes):
    agrees(op, *arrays, **attributes)


@pytest.mark.parametrize(
    ("op", "arrays", "attributes", "opset"),
    [
        ("Squeeze", [DATA[:1]], {"axes": [0]}, 11),
        ("Unsqueeze", [DATA], {"axes": [0, 4]}, 11),
        ("Slice", [DATA], {"starts": [1, -2], "ends": [2, 100], "axes": [0, 2]}, 9),
        ("Split", [DATA], {"axis": 1, "split": [1, 2], "outputs": 2}, 11),
    ],
)
def test_older_spellings(op, arrays, attributes, opset):
    agrees(op, *arrays, opset=opset, **attributes)


def test_split():
    agrees("Split", DATA, ints(1, 0, 2), axis=1, outputs=3)
    agrees("Split", DATA, axis=2, outputs=2, opset=13)
    agrees("Split", DATA, axis=1, outputs=2, num_outputs=2)
    agrees("Split", DATA, axis=-1, outputs=3, num_outputs=3)


bounds = st.integers(-8, 8) | st.sampled_from([-(2**63), 2**63 - 1, -(2**31), 2**31 - 1])


@settings(max_examples=300, deadline=None)
@given(size=st.integers(0, 5), start=bounds, end=bounds, step=st.sampled_from([1, 2, 3, 7, -1, -2, -3, -7]))
def test_slices_of_any_bounds(size, start, end, step):
    data = np.arange(2 * size, dtype=np.float32).reshape(2, size)
    direct = not (step < 0 and end >= 2**31 - 1)
    agrees("Slice", data, ints(start), ints(end), ints(-1), ints(step), direct=direct)


@pytest.mark.parametrize(
    ("op", "arrays", "attributes"),
    [
        ("Reshape", [DATA, ints(5, 5)], {}),
        ("Reshape", [DATA, ints(2, 3, 4, 0)], {}),
        ("Squeeze", [DATA, ints(0)], {}),
        ("Expand", [DATA, ints(5, 4)], {}),
        ("Concat", [DATA, DATA[:, :1]], {"axis": 0}),
        ("Gather", [DATA, ints(3)], {"axis": 1}),
        ("Gather", [DATA, ints(-4)], {"axis": 1}),
        ("GatherElements", [DATA, np.array([[[4]]], np.int64)], {"axis": 2}),
        ("Split", [DATA, ints(1, 1)], {"axis": 1, "outputs": 2}),
        ("Slice", [DATA, ints(0), ints(1), ints(3)], {}),
        ("Slice", [DATA, ints(0), ints(1), ints(0), ints(0)], {}),
        ("ConstantOfShape", [ints(-1)], {}),
        ("Pad", [DATA, ints(0, 1)], {}),
        ("Where", [DATA > 5, DATA, DATA[:, :2]], {}),
        ("Transpose", [DATA], {"perm": [0, 1]}),
        ("Gather", [DATA, ints(0)], {"axis": 3}),
    ],
)
def test_what_fails_at_run_time_is_refused(op, arrays, attributes):
    with pytest.raises(CannotEvaluate, match=rf"node 'here' \({op}\): "):
        compute(op, *arrays, **attributes)


@pytest.mark.parametrize(
    "dtype", [ml_dtypes.bfloat16, ml_dtypes.float8_e5m2, ml_dtypes.int4, np.bool_, np.float16]
)
def test_narrow_types_move_like_others(dtype):
    data = (DATA % 7).astype(dtype)
    assert compute("Transpose", data)[0].tolist() == np.transpose(data).tolist()
    padded = compute("Pad", data, ints(0, 0, 1, 0, 0, 1))[0]
    assert padded.dtype == dtype and padded.shape == (2, 3, 6) and not padded[..., 0].astype(np.float32).any()
    assert compute("Gather", data, ints(1), axis=2)[0].dtype == dtype
