"""Tensors that are expressions over others: computed when they are saved, not when they are made.

Making one reads no bytes of its sources, so a pass over a model with gigabytes of external weights costs
nothing until the result streams to disk.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

__all__ = ["Transposed", "mapped", "reshaped", "transposed"]

Array = npt.NDArray[np.generic]

# One line of a cache: a copy that fills lines whole takes a quarter of the time.
LINE_BYTES = 64

# How much of a tensor is computed before it is written: long runs of the source, and little memory.
PIECE_BYTES = 8 << 20


class Transposed(ir.LazyTensor):
    """Another tensor with its axes in another order.

    Attributes:
        source: The other tensor.
        perm: For each axis the source's axis that it is.
    """

    __slots__ = ("perm", "source")

    def __init__(self, source: ir.TensorProtocol, perm: tuple[int, ...]) -> None:
        dims = _dims(source)
        super().__init__(
            self._computed, dtype=source.dtype, shape=ir.Shape([dims[axis] for axis in perm]), cache=False
        )
        self.source = source
        self.perm = perm

    def _computed(self) -> ir.TensorProtocol:
        view = np.transpose(self.source.numpy(), self.perm)
        found = np.empty(view.shape, view.dtype)
        _copy_by_lines(found, view)
        return ir.Tensor(found, dtype=self.dtype, name=self.name)

    def pieces(self) -> Iterator[Array]:
        """The elements in order, contiguous, some megabytes at a time; each is gone when the next is made."""
        view = np.transpose(self.source.numpy(), self.perm)
        view = view.reshape(1) if not view.ndim else view
        # Axes of one element say nothing, and the first is the one to cut.
        view = view.reshape([n for n in view.shape if n != 1] or [1]) if view.size else view
        rows = max(1, PIECE_BYTES // max(1, view[:1].nbytes))
        buffer = np.empty((min(rows, len(view)), *view.shape[1:]), view.dtype)
        for start in range(0, len(view), rows):
            part = view[start : start + rows]
            found = buffer[: len(part)]
            _copy_by_lines(found, part)
            yield found


def _copy_by_lines(target: Array, view: Array) -> None:
    """Copy a transposed view into a contiguous array, so that each line of the target is filled at once."""
    step = LINE_BYTES // target.itemsize
    if not target.ndim or not step or view.strides[-1] <= view.itemsize:
        target[...] = view
        return
    for start in range(0, target.shape[-1], step):
        target[..., start : start + step] = view[..., start : start + step]


def transposed(tensor: ir.TensorProtocol, perm: Sequence[int]) -> ir.TensorProtocol:
    """`tensor` with its axes in the order `perm`; the tensor itself where that changes nothing.

    Raises:
        ValueError: `perm` is no order of the tensor's axes.
    """
    order = tuple(perm)
    dims = _dims(tensor)
    if sorted(order) != list(range(len(dims))):
        raise ValueError(f"perm {list(order)} is no order of the axes of {list(dims)}")
    if isinstance(tensor, Transposed):
        inner = tensor.perm
        tensor, order = tensor.source, tuple(inner[axis] for axis in order)
    return tensor if order == tuple(range(len(order))) else Transposed(tensor, order)


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
