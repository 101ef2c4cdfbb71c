"""Signatures of models, for reports and diffs."""

from __future__ import annotations

from collections.abc import Iterable

import onnx_ir as ir

from graphopt.reporting.report import Signature, ValueSignature


def signature_of(model: ir.Model) -> Signature:
    """Inputs that must be fed, and outputs, in order."""
    required = (v for v in model.graph.inputs if v.name not in model.graph.initializers)
    return Signature(_values(required), _values(model.graph.outputs))


def _values(values: Iterable[ir.Value]) -> tuple[ValueSignature, ...]:
    return tuple(ValueSignature(v.name or "", type_name(v.type), _shape(v.shape)) for v in values)


def type_name(type_: ir.TypeProtocol | None) -> str:
    """Such as "float32", "sequence(int64)", "optional(float32)"; "unknown" where none is declared."""
    if type_ is None:
        return "unknown"
    if isinstance(type_, ir.SequenceType):
        return f"sequence({type_name(type_.elem_type)})"
    if isinstance(type_, ir.OptionalType):
        return f"optional({type_name(type_.elem_type)})"
    name = dtype_name(type_.dtype)
    return f"sparse({name})" if isinstance(type_, ir.SparseTensorType) else name


def dtype_name(dtype: ir.DataType) -> str:
    """The element type as numpy spells it: "float32", "bfloat16"."""
    if dtype == ir.DataType.FLOAT:
        return "float32"
    if dtype == ir.DataType.DOUBLE:
        return "float64"
    return dtype.name.lower()


def _shape(shape: ir.Shape | None) -> tuple[int | str | None, ...] | None:
    if shape is None:
        return None
    return tuple(d if isinstance(d, int) else d.value for d in shape)
