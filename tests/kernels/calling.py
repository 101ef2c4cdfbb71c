"""Calls of single kernels, and arrays to call them with."""

from __future__ import annotations

from collections.abc import Sequence

import ml_dtypes
import numpy as np

from graphopt.kernels import _engine

NUMBERS = {
    np.dtype(np.float32): 1,
    np.dtype(np.uint8): 2,
    np.dtype(np.int8): 3,
    np.dtype(np.uint16): 4,
    np.dtype(np.int16): 5,
    np.dtype(np.int32): 6,
    np.dtype(np.int64): 7,
    np.dtype(np.bool_): 9,
    np.dtype(np.float16): 10,
    np.dtype(np.float64): 11,
    np.dtype(np.uint32): 12,
    np.dtype(np.uint64): 13,
    np.dtype(ml_dtypes.bfloat16): 16,
}
FLOATS = [np.dtype(np.float32), np.dtype(np.float64), np.dtype(np.float16), np.dtype(ml_dtypes.bfloat16)]
# Half the distance of neighbouring values around 1.
ROUNDING = {FLOATS[0]: 2.0**-24, FLOATS[1]: 2.0**-53, FLOATS[2]: 2.0**-11, FLOATS[3]: 2.0**-8}

Output = tuple[np.dtype | type, Sequence[int] | None] | tuple[np.dtype | type, Sequence[int], Sequence[int]]


def call(
    kernel: str,
    inputs: Sequence[np.ndarray | None],
    outputs: Sequence[Output],
    ints: Sequence[int] = (),
    floats: Sequence[float] = (),
    threads: int = 1,
) -> list[np.ndarray]:
    """Run a kernel once. An output is (element type, dims or None, strides in elements if not dense)."""
    given = [
        None if x is None else (x.view(np.uint16) if x.dtype == ml_dtypes.bfloat16 else x, NUMBERS[x.dtype])
        for x in inputs
    ]
    asked = [
        (NUMBERS[np.dtype(o[0])], None if o[1] is None else list(o[1]), list(o[2]) if len(o) == 3 else None)
        for o in outputs
    ]
    got = _engine.call_kernel(kernel, given, asked, [int(i) for i in ints], list(floats), b"", threads, 1)
    return [y.view(o[0]) if y.dtype != np.dtype(o[0]) else y for y, o in zip(got, outputs, strict=True)]


def numbers(rng: np.random.Generator, dims: Sequence[int], dtype: np.dtype | type = np.float32) -> np.ndarray:
    """Normal numbers, small integers, or booleans."""
    dtype = np.dtype(dtype)
    if dtype == np.bool_:
        return rng.integers(0, 2, dims).astype(np.bool_)
    if dtype.kind in "iu":
        return rng.integers(0 if dtype.kind == "u" else -9, 10, dims).astype(dtype)
    return rng.standard_normal(dims).astype(dtype)


def apart(array: np.ndarray, axis: int = -1) -> np.ndarray:
    """The same array with gaps: every second element along an axis of a larger one, its dims reversed in memory."""
    if array.ndim == 0:
        return array
    dims = list(array.shape)
    dims[axis] *= 2
    larger = np.zeros(dims[::-1], array.dtype).transpose()
    index = [slice(None)] * array.ndim
    index[axis] = slice(None, None, 2)
    larger[tuple(index)] = array
    return larger[tuple(index)]
