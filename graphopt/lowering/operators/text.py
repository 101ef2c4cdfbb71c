"""Strings and labels."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from graphopt.ir.attributes import attribute
from graphopt.lowering.builder import Builder
from graphopt.lowering.kernels import Layout, declare
from graphopt.lowering.registry import NotLowered, lowers

__all__: list[str] = []

declare("string_concat", inputs=Layout.ANY, outputs=Layout.ANY)
declare("label_encoder", inputs={0: Layout.ANY}, outputs=Layout.ANY)

_T = ir.DataType
# How attributes spell their element type, and what stands for a label that is not known.
_SPELLINGS = {"int64s": (_T.INT64, -1), "floats": (_T.FLOAT, -0.0), "strings": (_T.STRING, "_Unused")}
_TYPES = frozenset({_T.STRING, _T.FLOAT, _T.DOUBLE, _T.INT64, _T.INT32, _T.INT16})


@lowers("StringConcat")
def string_concat(build: Builder, node: ir.Node) -> NotLowered | None:
    """Element by element."""
    build.emit("string_concat", [build.register(value) for value in node.inputs], [build.output(node)])
    return None


@lowers("LabelEncoder", domain="ai.onnx.ml")
def label_encoder(build: Builder, node: ir.Node) -> NotLowered | None:
    """A table that is sorted here and searched while it runs."""
    keys, values = _column(node, "keys"), _column(node, "values")
    if keys is None or values is None or keys[0].size != values[0].size:
        return NotLowered("a table that is not given by keys and values")
    if keys[1] not in _TYPES or values[1] not in _TYPES:
        return NotLowered("element type")
    (labels, key_type), (names, value_type) = keys, values
    if key_type is _T.STRING:
        order = np.array(sorted(range(labels.size), key=lambda i: labels[i]), np.int64)
    else:
        order = np.argsort(labels, kind="stable")
    default = _default(node, value_type)
    if default is None:
        return NotLowered("a default that is not one element")
    table = [
        build.constant_register(labels[order], key_type),
        build.constant_register(names[order], value_type),
        build.constant_register(default, value_type),
    ]
    build.emit("label_encoder", [build.register(node.inputs[0]), *table], [build.output(node)])
    return None


def _column(node: ir.Node, side: str) -> tuple[npt.NDArray[np.generic], ir.DataType] | None:
    """One column of the table; None where it is not given. Strings are bytes."""
    for spelling, (dtype, _) in _SPELLINGS.items():
        given = attribute(node, f"{side}_{spelling}")
        if isinstance(given, tuple):
            return _array(given, dtype), dtype
    tensor = attribute(node, f"{side}_tensor")
    if isinstance(tensor, ir.TensorProtocol):
        return _array(tensor.numpy().reshape(-1).tolist(), tensor.dtype), tensor.dtype
    return None


def _default(node: ir.Node, dtype: ir.DataType) -> npt.NDArray[np.generic] | None:
    tensor = attribute(node, "default_tensor")
    if isinstance(tensor, ir.TensorProtocol):
        return _array(tensor.numpy().reshape(-1).tolist(), dtype) if tensor.dtype == dtype else None
    names = {_T.INT64: "default_int64", _T.FLOAT: "default_float", _T.STRING: "default_string"}
    if dtype not in names:
        return _array([-1], dtype)
    ordinary = next(default for of, default in _SPELLINGS.values() if of is dtype)
    return _array([attribute(node, names[dtype], ordinary)], dtype)


def _array(elements: object, dtype: ir.DataType) -> npt.NDArray[np.generic]:
    assert isinstance(elements, list | tuple)
    if dtype is _T.STRING:
        found = np.empty(len(elements), object)
        found[:] = [e.encode() if isinstance(e, str) else e for e in elements]
        return found
    return np.array(elements, dtype.numpy())
