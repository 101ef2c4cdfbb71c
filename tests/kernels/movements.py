"""What the tests of movement kernels share: one call, element types, strided arrays."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from graphopt.kernels import _engine

# ONNX's numbers of the types that numpy has; bfloat16 and 8-bit floats move as integers of their size.
NUMBER_OF = {
    "float32": 1, "uint8": 2, "int8": 3, "uint16": 4, "int16": 5, "int32": 6, "int64": 7, "bool": 9, "float16": 10,
    "float64": 11, "uint32": 12, "uint64": 13, "complex64": 14, "complex128": 15,
}  # fmt: skip
# One of each element size.
SIZES = ("uint8", "int16", "float32", "int64", "complex128")

Array = np.ndarray
Dims = tuple[int, ...]


def number(dtype: np.dtype | str) -> int:
    return NUMBER_OF[np.dtype(dtype).name]


def call(
    name: str,
    inputs: Sequence[Array | None],
    outputs: Sequence[tuple[np.dtype | str, Dims | None] | tuple[np.dtype | str, Dims, Dims]],
    ints: Sequence[int] = (),
    floats: Sequence[float] = (),
    data: bytes = b"",
    threads: int = 1,
) -> list[Array]:
    """One kernel run once; strides of outputs count elements, dims of None are the kernel's to say."""
    given = [None if x is None else (x, number(x.dtype)) for x in inputs]
    wanted = [(number(o[0]), o[1], o[2] if len(o) == 3 else None) for o in outputs]
    return _engine.call_kernel(name, given, wanted, list(ints), list(floats), data, threads, 1)


def numbered(dims: Sequence[int], dtype: np.dtype | str) -> Array:
    """An array whose elements differ as far as the type allows."""
    n = int(np.prod(dims, dtype=np.int64))
    if np.dtype(dtype) == bool:
        return (np.arange(n) * 7 % 3 == 0).reshape(dims)
    return (
        (np.arange(n) % 251 if np.dtype(dtype).itemsize == 1 else np.arange(n) % 2039)
        .reshape(dims)
        .astype(dtype)
    )
