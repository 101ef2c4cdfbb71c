"""The tensors behind values that never change: initializers and Constant nodes."""

from __future__ import annotations

from typing import cast

import numpy as np
import onnx_ir as ir

__all__ = ["array", "constant", "node_constant", "shape_of", "uniform"]

# Looking for a tensor that is one number all over ends here: what is larger is a weight.
UNIFORM_BYTES = 64 << 10


def constant(value: ir.Value | None) -> ir.TensorProtocol | None:
    """The tensor of an initializer that no input can override, or of a Constant node.

    None for everything else. The bytes are not read.
    """
    if value is None:
        return None
    node = value.producer()
    if node is not None:
        return node_constant(node) if node.op_type == "Constant" and node.domain == "" else None
    if value.const_value is None or not value.is_initializer() or value.is_graph_input():
        return None
    return value.const_value


def node_constant(node: ir.Node) -> ir.TensorProtocol | None:
    """The tensor of a Constant node in whichever attribute it is kept.

    None where the attribute refers to one of a function, and for sparse tensors.
    """
    for name, attr in node.attributes.data.items():
        if attr.value is not None and (name == "value" or name.startswith("value_")):
            return _tensor(name, attr.value)
    return None


def _tensor(
    name: str, value: ir.TensorProtocol | float | bytes | str | tuple[float | bytes | str, ...]
) -> ir.TensorProtocol:
    """The value of attribute `name` of a Constant as a tensor."""
    if name == "value":
        # The checker has seen the attribute's type, and asking a protocol takes 65 us a Constant.
        return cast("ir.TensorProtocol", value)
    dims = (len(value),) if isinstance(value, tuple) else ()
    if "string" in name:
        texts = value if isinstance(value, tuple) else (value,)
        return ir.StringTensor([_bytes(text) for text in texts], shape=ir.Shape(dims))  # type: ignore[arg-type]
    dtype = np.float32 if "float" in name else np.int64
    return ir.Tensor(np.array(value, dtype=dtype).reshape(dims))


def array(value: ir.Value | None) -> np.ndarray | None:
    """The contents of a constant value; reads the bytes. None where `constant` gives None."""
    tensor = constant(value)
    return None if tensor is None else tensor.numpy()


def shape_of(tensor: ir.TensorProtocol) -> tuple[int, ...]:
    """The tensor's dims as numbers."""
    return tuple([dim for dim in tensor.shape if isinstance(dim, int)])


def uniform(value: ir.Value | None) -> float | int | bool | None:
    """The number that every element of a constant is; the sign of a zero counts.

    None for other values, for empty, large or non-numeric ones, and for tensors not computed yet.
    """
    tensor = constant(value)
    if tensor is None or not 0 < tensor.nbytes <= UNIFORM_BYTES or isinstance(tensor, ir.LazyTensor):
        return None
    elements = tensor.numpy().reshape(-1)
    first = elements[0]
    if elements.dtype.kind not in "fiubV" or (elements.size > 1 and not bool((elements == first).all())):
        return None
    if first == 0 and elements.dtype.kind not in "iub":
        signs = np.signbit(elements.astype(np.float32))
        if signs.any() != signs.all():
            return None
    number: float | int | bool = first.item() if elements.dtype.kind != "V" else float(first)
    return number


def _bytes(text: str | bytes) -> bytes:
    return text if isinstance(text, bytes) else text.encode()
