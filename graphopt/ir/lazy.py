"""Tensors that are expressions over others: computed when they are saved, not when they are made.

Making one reads no bytes of its sources, so a pass over a model with gigabytes of external weights costs
nothing until the result streams to disk.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

__all__ = ["mapped", "reshaped", "transposed"]

Array = npt.NDArray[np.generic]


def transposed(tensor: ir.TensorProtocol, perm: Sequence[int]) -> ir.LazyTensor:
    """`tensor` with its axes in the order `perm`.

    Raises:
        ValueError: `perm` is no order of the tensor's axes.
    """
    order = tuple(perm)
    dims = _dims(tensor)
    if sorted(order) != list(range(len(dims))):
        raise ValueError(f"perm {list(order)} is no order of the axes of {list(dims)}")
    return mapped(
        (tensor,), lambda array: np.transpose(array, order), tensor.dtype, [dims[axis] for axis in order]
    )


def reshaped(tensor: ir.TensorProtocol, dims: Sequence[int]) -> ir.LazyTensor:
    """The same elements in another shape; all dims written out.

    Raises:
        ValueError: The number of elements differs.
    """
    target = tuple(dims)
    if min(target, default=0) < 0 or math.prod(target) != math.prod(_dims(tensor)):
        raise ValueError(f"{list(_dims(tensor))} can't be reshaped to {list(target)}")
    return mapped((tensor,), lambda array: np.reshape(array, target), tensor.dtype, target)


def mapped(
    tensors: Sequence[ir.TensorProtocol],
    function: Callable[..., Array],
    dtype: ir.DataType,
    dims: Sequence[int],
    *,
    name: str | None = None,
) -> ir.LazyTensor:
    """`function` of the tensors' arrays, one argument each.

    Nothing is kept: a source that is lazy itself is computed anew, and the result is dropped once written.
    Narrow types are arrays of ml_dtypes, in and out; bools and integers may be any numpy dtype of their own.

    Raises:
        ValueError: When it is computed: what `function` gives has another dtype or shape than said.
    """
    sources, target = tuple(tensors), tuple(int(dim) for dim in dims)

    def compute() -> ir.TensorProtocol:
        array = np.asarray(function(*[source.numpy() for source in sources]))
        if array.shape != target or array.dtype != dtype.numpy():
            raise ValueError(
                f"computed {array.dtype}{list(array.shape)}, declared {dtype.numpy()}{list(target)}"
            )
        return ir.Tensor(np.ascontiguousarray(array).reshape(target), dtype=dtype, name=name)

    return ir.LazyTensor(compute, dtype=dtype, shape=ir.Shape(target), name=name)


def _dims(tensor: ir.TensorProtocol) -> tuple[int, ...]:
    return tuple(tensor.shape.numpy())
