"""What the standard says of an operator's signature, read once from `onnx.defs` and kept in plain Python."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Literal

import onnx_ir as ir
from onnx import defs

Option = Literal["single", "optional", "variadic"]

_OPTIONS: dict[defs.OpSchema.FormalParameterOption, Option] = {
    defs.OpSchema.FormalParameterOption.Single: "single",
    defs.OpSchema.FormalParameterOption.Optional: "optional",
    defs.OpSchema.FormalParameterOption.Variadic: "variadic",
}


@dataclass(frozen=True, slots=True)
class Parameter:
    """One formal input or output.

    Attributes:
        type_variable: Name of the type it shares with others ("T"), or None where it stands alone.
        types: The types it may have, as the standard writes them: "tensor(float)".
    """

    name: str
    option: Option
    type_variable: str | None
    types: frozenset[str]


@dataclass(frozen=True, slots=True)
class Schema:
    """Signature of an operator in one version."""

    since: int
    deprecated: bool
    inputs: tuple[Parameter, ...]
    outputs: tuple[Parameter, ...]
    min_inputs: int
    max_inputs: int
    min_outputs: int
    max_outputs: int
    attributes: dict[str, ir.AttributeType]
    required: tuple[str, ...]


# Opsets of the standard that first have an operator which onnxruntime's optimizer writes into older ones too.
_ALSO_BEFORE = {"LayerNormalization": 17}


def definition(domain: str, op_type: str, version: int) -> defs.OpSchema | None:
    """What `onnx.defs` says of an operator; None where there is no such one."""
    if domain == "":
        version = max(version, _ALSO_BEFORE.get(op_type, 0))
    try:
        return defs.get_schema(op_type, version, domain)
    except defs.SchemaError:
        return None


@cache
def schema(domain: str, op_type: str, version: int) -> Schema | None:
    """The signature of `op_type` in opset `version` of `domain`; None where there is no such operator."""
    found = definition(domain, op_type, version)
    if found is None:
        return None
    return Schema(
        since=found.since_version,
        deprecated=found.deprecated,
        inputs=tuple(map(_parameter, found.inputs)),
        outputs=tuple(map(_parameter, found.outputs)),
        min_inputs=found.min_input,
        max_inputs=found.max_input,
        min_outputs=found.min_output,
        max_outputs=found.max_output,
        attributes={
            name: ir.AttributeType[a.type.name]  # type: ignore[attr-defined]
            for name, a in found.attributes.items()
        },
        required=tuple(sorted(name for name, a in found.attributes.items() if a.required)),
    )


@cache
def is_standard(domain: str) -> bool:
    """Whether `onnx.defs` defines the operators of a domain, so that an unknown name in it is a fault."""
    return domain in defs.C.schema_version_map()


def type_name(declared: ir.TypeProtocol | None) -> str | None:
    """How the standard writes a type: "tensor(float)", "seq(tensor(int64))"; None where it is not known."""
    # Asked of every value of a model; isinstance takes 4 us here, as these classes are protocols too.
    kind = type(declared)
    if kind is ir.TensorType:
        return _tensor_name(declared.dtype)  # type: ignore[union-attr]
    outer = _CONTAINERS.get(kind)
    if outer is None or declared is None:
        return None
    if isinstance(declared, ir.SparseTensorType):
        inner = _element_name(declared.dtype)
    else:
        inner = type_name(declared.elem_type)  # type: ignore[arg-type]
    return f"{outer}({inner})" if inner is not None else None


_CONTAINERS: dict[type, str] = {
    ir.SequenceType: "seq",
    ir.OptionalType: "optional",
    ir.SparseTensorType: "sparse_tensor",
}


def _element_name(dtype: ir.DataType) -> str | None:
    return None if dtype == ir.DataType.UNDEFINED else dtype.name.lower()


@cache
def _tensor_name(dtype: ir.DataType) -> str | None:
    element = _element_name(dtype)
    return None if element is None else f"tensor({element})"


def _parameter(formal: defs.OpSchema.FormalParameter) -> Parameter:
    shared = formal.is_homogeneous and "(" not in formal.type_str
    return Parameter(
        name=formal.name,
        option=_OPTIONS[formal.option],
        type_variable=formal.type_str if shared else None,
        types=frozenset(formal.types),
    )
