"""The facts of constant tensors and of declared types."""

from __future__ import annotations

import onnx_ir as ir

from graphopt.ir.dims import Dim
from graphopt.ir.fact import MAX_ELEMENTS, Element, Fact, OptionalFact, SequenceFact, TensorFact

__all__ = ["declared_fact", "tensor_fact"]


def tensor_fact(tensor: ir.TensorProtocol) -> TensorFact:
    """The fact of a constant tensor; contents only of small ones.

    Lazy and external floating-point data is not read: no shape was ever told by a bias.
    """
    dims = tuple([int(dim) for dim in tensor.shape.numpy()])
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


def declared_fact(declared: ir.TypeProtocol | None, dims: list[Dim] | None) -> Fact:
    """The fact of a declared type; `dims` are those of a tensor (a sequence's are not believed)."""
    if isinstance(declared, ir.SequenceType):
        return SequenceFact(declared_fact(declared.elem_type, None))
    if isinstance(declared, ir.OptionalType):
        return OptionalFact(declared_fact(declared.elem_type, dims))
    dtype = getattr(declared, "dtype", None)
    return TensorFact(dtype, None if dims is None else tuple(dims), None)
