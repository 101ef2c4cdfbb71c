"""Rows of the targets' tables less their costs: which operators, from which version on, for which types."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Protocol

from onnx import defs

from graphopt.ir.own_operators import ACTIVATIONS, CONVOLUTIONS, DOMAIN, PRODUCTS, fully_connected

MICROSOFT = "com.microsoft"

# Names of the type that the main operand has, among those of a kernel's constraints.
_MAIN = ("TA", "T", "T1", "Tin", "TX", "V", "T2", "Tind", "I")

# What passes write of onnxruntime's own operators.
WRITTEN = (
    "Attention",
    "BiasGelu",
    "DynamicQuantizeMatMul",
    "FastGelu",
    "FusedConv",
    "FusedGemm",
    "FusedMatMul",
    "MatMulIntegerToFloat",
    "MatMulNBits",
    "QGemm",
    "QLinearAdd",
    "QLinearAveragePool",
    "QLinearConcat",
    "QLinearGlobalAveragePool",
    "QLinearLeakyRelu",
    "QLinearMul",
    "QLinearSigmoid",
    "QLinearSoftmax",
    "QLinearWhere",
    "QuickGelu",
    "SkipLayerNormalization",
)

# What becomes a weight when a model is loaded needs no kernel.
AT_LOAD = ("Constant",)

NEWEST = 1 << 20  # kernels without a last version say 2^31 - 1

Row = dict[str, object]


class Kernel(Protocol):
    """What onnxruntime says of one of its kernels."""

    @property
    def version_range(self) -> tuple[int, int]: ...
    @property
    def type_constraints(self) -> dict[str, list[str]]: ...


def standard_rows() -> dict[str, Row]:
    """Every operator of the standard's default domain, and ours, which are functions of those."""
    versions = _versions()
    found: dict[str, Row] = {}
    for name in sorted(versions):
        schemas = versions[name]
        last = schemas[-1]
        row: Row = {"since": schemas[0].since_version}
        if last.deprecated:
            row["until"] = last.since_version - 1
        found[name] = {**row, "dtypes": _joined(_main_types(schemas))}
    return {**found, **_own_rows()}


def kernel_rows() -> dict[str, Row]:
    """The same operators as the CPU kernels of the installed onnxruntime take them, and those of its own."""
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    kernels: dict[tuple[str, str], list[Kernel]] = defaultdict(list)
    for kernel in state.get_all_opkernel_def():
        if kernel.provider == "CPUExecutionProvider":
            kernels[kernel.domain, kernel.op_name].append(kernel)
    versions = _versions()
    found: dict[str, Row] = {}
    for name in sorted(versions):
        here = kernels["", name]
        found[name] = {**_range(versions[name], [k.version_range for k in here]), "dtypes": _taken(here)}
    for name in AT_LOAD:
        found[name]["dtypes"] = "*"
    for name in WRITTEN:
        here = kernels[MICROSOFT, name]
        found[f"{MICROSOFT}.{name}"] = {"since": 1, "dtypes": _taken(here)}
    return {**found, **_own_rows()}


def _range(schemas: Sequence[defs.OpSchema], kernels: Sequence[tuple[int, int]]) -> Row:
    """Versions of an operator that have a kernel or a body of others.

    A kernel without a last version is for the schema that it names: not for a later one, which may differ.
    An operator that none runs ends before it begins.
    """

    def is_run(schema: defs.OpSchema) -> bool:
        version = schema.since_version
        has_kernel = any(low == version or low <= version <= high < NEWEST for low, high in kernels)
        return has_kernel or _has_body(schema)

    if schemas[0].name in AT_LOAD:
        return {"since": schemas[0].since_version}
    run = [is_run(schema) for schema in schemas]
    if not any(run):
        return {"since": schemas[0].since_version, "until": schemas[0].since_version - 1}
    row: Row = {"since": schemas[run.index(True)].since_version}
    after = len(run) - run[::-1].index(True)
    if after < len(schemas):
        row["until"] = schemas[after].since_version - 1
    if any(_has_body(schema) for schema in schemas):
        row["body"] = True
    return row


def _own_rows() -> dict[str, Row]:
    names = [fully_connected(activation) for activation in ("", *ACTIVATIONS)]
    rows: dict[str, Row] = {name: {"since": 1, "body": True, "dtypes": "float"} for name in names}
    for product in PRODUCTS.values():
        types = "int8 uint8" if product.form == "Integer" else "float"
        rows[product.name] = {"since": 1, "body": True, "dtypes": types}
    rows |= {name: {"since": 1, "body": True, "dtypes": "float"} for name in CONVOLUTIONS}
    return {f"{DOMAIN}.{name}": row for name, row in rows.items()}


def _versions() -> dict[str, list[defs.OpSchema]]:
    """Schemas of the default domain by operator, oldest first."""
    found: dict[str, list[defs.OpSchema]] = defaultdict(list)
    for schema in defs.get_all_schemas_with_history():
        if schema.domain == "":
            found[schema.name].append(schema)
    return {name: sorted(given, key=lambda s: s.since_version) for name, given in found.items()}


def _has_body(schema: defs.OpSchema) -> bool:
    return bool(schema.has_function or schema.has_context_dependent_function)  # type: ignore[attr-defined]


def _main_types(schemas: Iterable[defs.OpSchema]) -> set[str]:
    """Element types of the first input (of the first output, where there is none)."""
    found: set[str] = set()
    for schema in schemas:
        formal = schema.inputs[0] if schema.inputs else schema.outputs[0] if schema.outputs else None
        found.update(formal.types if formal is not None else ())
    return found


def _constraint(constraints: dict[str, list[str]]) -> list[str]:
    name = next((n for n in _MAIN if n in constraints), next(iter(sorted(constraints)), ""))
    return constraints.get(name, ["tensor(all)"])


def _taken(kernels: Iterable[Kernel]) -> str:
    return _joined(t for kernel in kernels for t in _constraint(kernel.type_constraints))


def _joined(types: Iterable[str]) -> str:
    """Element types as one text: "double float"; "*" where the kernels name none."""
    names = {t.rpartition("(")[2].rstrip(")") for t in types}
    return "*" if "all" in names else " ".join(sorted(names))
