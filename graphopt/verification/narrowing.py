"""Candidates whose floats are shorter than the original's: how they are fed, and what is asked of them.

Converting to half precision changes answers by its rounding, which is what its user wants: such a candidate
is held to the tolerance of the shorter type, and where its inputs and outputs are shorter too, samples are
rounded to them and answers compared as the original's type.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx_ir as ir

from graphopt.ir.graphs import nodes_in
from graphopt.verification.compare import TOLERANCES, Answer, Tolerance

__all__ = ["NARROWED_NOTE", "as_wide_as", "fed_to", "narrowed_tolerances"]

NARROWED_NOTE = "the result computes in {}: held to {:g} % of an output's largest value"

# Rounding adds up over the depth of a model: twice the tolerance of a model written in the short type.
DEPTH = 2.0

_SHORT = (ir.DataType.BFLOAT16, ir.DataType.FLOAT16)


def narrowed_tolerances(original: ir.Model, candidate: ir.Model) -> tuple[str, dict[str, Tolerance]] | None:
    """The short type that only the candidate casts to, and the tolerances for it."""
    added = _casts_to(candidate) - _casts_to(original)
    for dtype in _SHORT:
        if dtype in added:
            name = dtype.name.lower()
            own = TOLERANCES[name]
            wide = Tolerance(own.relative * DEPTH, own.scaled * DEPTH)
            return name, TOLERANCES | {"float32": wide, "float16": wide, "bfloat16": wide}
    return None


def _casts_to(model: ir.Model) -> set[ir.DataType]:
    """The short types that casts, constants and inputs of a model have."""
    graph = model.graph
    found = {ir.DataType(attr.as_int()) for node in nodes_in(graph) if (attr := _target(node)) is not None}
    found |= {v.dtype for v in (*graph.inputs, *graph.initializers.values()) if v.dtype is not None}
    return found & set(_SHORT)


def _target(node: ir.Node) -> ir.Attr | None:
    attr = node.attributes.get("to") if node.op_type == "Cast" else None
    return None if attr is None or attr.is_ref() else attr


def fed_to(candidate: ir.Model, feeds: Mapping[str, Answer]) -> dict[str, Answer]:
    """Samples in the types that the candidate's inputs have."""
    types = {v.name: v.dtype for v in candidate.graph.inputs if v.dtype in _SHORT}
    return {
        name: given.astype(types[name].numpy()) if name in types and _is_float(given) else given  # type: ignore[union-attr]
        for name, given in feeds.items()
    }


def as_wide_as(wanted: Answer, got: Answer) -> Answer:
    """An answer in the type of the original's, where it is shorter."""
    if _is_float(wanted) and isinstance(got, np.ndarray) and got.dtype.name in ("float16", "bfloat16"):
        return got.astype(wanted.dtype)  # type: ignore[union-attr]
    return got


def _is_float(value: Answer) -> bool:
    return isinstance(value, np.ndarray) and value.dtype.name in ("float32", "float64")
