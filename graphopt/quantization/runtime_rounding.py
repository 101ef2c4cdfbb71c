"""What a runtime rounds besides what the model says: inputs of products with stored weights.

onnxruntime multiplies floats with weights of 8 or 4 bits by codes of its own: it rounds each row of the input
to 8 bits around zero, in blocks along the summed axis. A point that falls back is worth what it is there, so
noise is measured with the same rounding.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from graphopt.ir import constants, scopes
from graphopt.ir.attributes import attribute_int
from graphopt.ir.names import Names
from graphopt.ir.quantization import is_dequantize

__all__ = ["block_of", "rounded_in_blocks", "with_runtime_rounding"]

Floats = npt.NDArray[np.float32]

# Numbers of a block. Models for any runtime are measured as the widest spread one runs them.
_BLOCKS: Mapping[str, int] = {"onnx": 32, "onnxruntime": 32}
_LARGEST = 127
_TINY = float(np.finfo(np.float32).tiny)
_AXES_ARE_AN_INPUT = 18


def block_of(target: str, depth: int) -> int | None:
    """Over how many numbers of a row a product with a stored weight rounds its input; None: it does not.

    Args:
        target: Who runs it.
        depth: Length of a row.
    """
    most = _BLOCKS.get(target)
    return None if most is None else min(most, max(depth, 1))


def rounded_in_blocks(rows: Floats, block: int) -> Floats:
    """Rows as they are rounded; the last block may be short.

    Args:
        rows: Numbers along the last axis.
        block: How many share a scale.
    """
    depth = rows.shape[-1]
    padding = -depth % block
    padded = np.pad(rows, [(0, 0)] * (rows.ndim - 1) + [(0, padding)])
    blocks = padded.reshape(*rows.shape[:-1], (depth + padding) // block, block)
    scale = np.maximum(np.abs(blocks).max(-1, keepdims=True) / np.float32(_LARGEST), np.float32(_TINY))
    found: Floats = (np.rint(blocks / scale) * scale).reshape(padded.shape)[..., :depth]
    return found


def with_runtime_rounding(model: ir.Model, target: str) -> ir.Model:
    """A model with Q and DQ that rounds what a target's runtime will; it is changed in place."""
    if target not in _BLOCKS:
        return model
    names = Names(model)
    for graph in scopes.nested(model.graph):
        for node in list(graph):
            depth = _depth(node)
            if depth is not None:
                _Rounding(model, names, node).round(depth, block_of(target, depth) or depth)
    return model


def _depth(node: ir.Node) -> int | None:
    """Length of the rows that a product of floats with a stored weight takes; None for other operators."""
    if node.op_type not in ("MatMul", "Gemm") or node.domain != "" or attribute_int(node, "transA"):
        return None
    x, weight = node.inputs[:2]
    source = weight.producer() if weight is not None else None
    if x is None or source is None or not is_dequantize(source) or is_dequantize(x.producer()):
        return None
    codes = constants.constant(source.inputs[0]) if source.inputs[0] is not None else None
    if codes is None or len(constants.shape_of(codes)) != 2 or x.dtype not in (None, ir.DataType.FLOAT):
        return None
    return int(constants.shape_of(codes)[attribute_int(node, "transB")])


class _Rounding:
    """Operators before one product."""

    def __init__(self, model: ir.Model, names: Names, product: ir.Node) -> None:
        self.opset = model.graph.opset_imports.get("", 1)
        self.names = names
        self.product = product
        self.made: list[ir.Node] = []

    def round(self, depth: int, block: int) -> None:
        """Round its input in blocks; the last one may be short."""
        x, graph = self.product.inputs[0], self.product.graph
        assert x is not None and graph is not None
        whole = depth // block * block
        if whole == depth:
            found = self._rounded(x, block)
        else:
            parts = ((0, whole, block), (whole, depth, depth - whole))
            rounded = [
                self._rounded(
                    self._make("Slice", [x, self._integers(a), self._integers(b), self._integers(-1)]), size
                )
                for a, b, size in parts
                if b > a
            ]
            found = self._make("Concat", rounded, [ir.AttrInt64("axis", -1)])
        graph.insert_before(self.product, self.made)
        self.product.replace_input_with(0, found)

    def _rounded(self, x: ir.Value, block: int) -> ir.Value:
        blocks = self._make("Reshape", [x, self._integers(-1, block)])
        sizes = self._make("Abs", [blocks])
        if self.opset >= _AXES_ARE_AN_INPUT:
            largest = self._make("ReduceMax", [sizes, self._integers(1)])
        else:
            largest = self._make("ReduceMax", [sizes], [ir.AttrInt64s("axes", [1])])
        scale = self._make("Max", [self._make("Div", [largest, self._float(_LARGEST)]), self._float(_TINY)])
        codes = self._make("Round", [self._make("Div", [blocks, scale])])
        near = self._make("Mul", [codes, scale])
        return self._make("Reshape", [near, self._make("Shape", [x])])

    def _make(self, op_type: str, inputs: Sequence[ir.Value], attributes: Sequence[ir.Attr] = ()) -> ir.Value:
        node = ir.Node("", op_type, inputs, attributes, name=self.names.unique("rounding"))
        node.outputs[0].name = self.names.unique("rounding")
        self.made.append(node)
        return node.outputs[0]

    def _integers(self, *numbers: int) -> ir.Value:
        return self._constant(ir.tensor(np.asarray(numbers, np.int64)))

    def _float(self, number: float) -> ir.Value:
        return self._constant(ir.tensor(np.asarray(number, np.float32)))

    def _constant(self, tensor: ir.TensorProtocol) -> ir.Value:
        value = ir.Value(
            name=self.names.unique("rounding"),
            const_value=tensor,
            type=ir.TensorType(tensor.dtype),
            shape=ir.Shape(list(tensor.shape.numpy())),
        )
        assert self.product.graph is not None
        self.product.graph.register_initializer(value)
        return value
