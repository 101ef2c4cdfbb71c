"""The fact of a constant tensor."""

from __future__ import annotations

import onnx_ir as ir

from graphopt.ir.fact import MAX_ELEMENTS, Element, TensorFact

__all__ = ["tensor_fact"]


def tensor_fact(tensor: ir.TensorProtocol) -> TensorFact:
    """The fact of a constant tensor; contents only of small ones.

    Lazy and external floating-point data is not read: no shape was ever told by a bias.
    """
    dims = tuple([int(dim) for dim in tensor.shape])
    dtype = tensor.dtype
    size = 1
    for dim in dims:
        size *= dim
    if size > MAX_ELEMENTS:
        return TensorFact(dtype, dims, None)
    return TensorFact(dtype, dims, _contents(tensor, dtype))


def _contents(tensor: ir.TensorProtocol, dtype: ir.DataType) -> tuple[Element, ...] | None:
    if dtype.is_floating_point():
        if isinstance(tensor, (ir.ExternalTensor, ir.LazyTensor)):
            return None
        return tuple([float(element) for element in tensor.numpy().reshape(-1)])
    if dtype is ir.DataType.STRING:
        strings = tensor.numpy().reshape(-1).tolist()
        return tuple([text.decode() if isinstance(text, bytes) else text for text in strings])
    if dtype is ir.DataType.BOOL:
        return tuple(tensor.numpy().reshape(-1).tolist())
    if dtype in (ir.DataType.COMPLEX64, ir.DataType.COMPLEX128, ir.DataType.UNDEFINED):
        return None
    return tuple([int(element) for element in tensor.numpy().reshape(-1)])
