"""Operators that make tensors from numbers: constants, ranges, shapes."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from graphopt.ir.attributes import attribute, attribute_int
from graphopt.lowering.builder import Builder
from graphopt.lowering.kernels import Layout, declare
from graphopt.lowering.registry import NotLowered, lowers

__all__: list[str] = []

for _kernel in ("range", "eye_like", "shape_of", "size_of"):
    declare(_kernel, inputs=Layout.ANY, outputs=Layout.ANY)

# A run reads at most so many dims.
ALL_DIMS = 1 << 30


@lowers("ConstantOfShape")
def constant_of_shape(build: Builder, node: ir.Node) -> NotLowered | None:
    """One element everywhere."""
    given = attribute(node, "value")
    element = given.numpy() if isinstance(given, ir.TensorProtocol) else np.zeros(1, np.float32)
    data = _bytes_of(element)
    dims = build.dims(node.outputs[0])
    is_known = dims is not None and all(map(build.is_defined, dims))
    operands = [] if is_known else [build.register(node.inputs[0])]
    build.emit("fill", operands, [build.output(node)], data=data)
    return None


def _bytes_of(array: npt.NDArray[np.generic]) -> bytes:
    """The one element of an array as the engine has it; a string as its text."""
    if array.dtype == object:
        text = array.reshape(-1)[0]
        return text if isinstance(text, bytes) else str(text).encode()
    return array.reshape(-1)[:1].tobytes()


@lowers("Range")
def range_(build: Builder, node: ir.Node) -> NotLowered | None:
    """start, start + delta, ..."""
    if build.dtype(node.inputs[0]) is None:
        return NotLowered("unknown element type")
    build.emit("range", [build.register(value) for value in node.inputs], [build.output(node)])
    return None


@lowers("EyeLike")
def eye_like(build: Builder, node: ir.Node) -> NotLowered | None:
    """Ones on a diagonal."""
    ints = [attribute_int(node, "k")]
    build.emit("eye_like", [build.register(node.inputs[0])], [build.output(node)], ints=ints)
    return None


@lowers("Shape")
def shape(build: Builder, node: ir.Node) -> NotLowered | None:
    """The dims as they are found; expressions where they are known before."""
    if isinstance(build.dtype(node.inputs[0]), ir.DataType):
        ints = [attribute_int(node, "start"), attribute_int(node, "end", ALL_DIMS)]
        build.emit("shape_of", [build.register(node.inputs[0])], [build.output(node)], ints=ints)
        return None
    return NotLowered("not a tensor")


@lowers("Size")
def size(build: Builder, node: ir.Node) -> NotLowered | None:
    """How many elements."""
    if isinstance(build.dtype(node.inputs[0]), ir.DataType):
        build.emit("size_of", [build.register(node.inputs[0])], [build.output(node)])
        return None
    return NotLowered("not a tensor")
