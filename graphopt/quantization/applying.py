"""From a prepared float model and a quant table to the quantized model."""

from __future__ import annotations

from typing import TYPE_CHECKING

import onnx_ir as ir

from graphopt import targets
from graphopt.errors import ModelError
from graphopt.ir.verifier import verify
from graphopt.rewriting import Driver, Editor, registry
from graphopt.rewriting.opsets import OpsetPolicy
from graphopt.rewriting.pipeline import Group, Pipeline

if TYPE_CHECKING:
    from graphopt.ir.quant_table import QuantTable
    from graphopt.rewriting import Pass

__all__ = ["TARGET", "applied", "compressed", "raise_opset", "scaled", "with_table"]

TARGET = "onnx"


def with_table(prepared: ir.Model, table: QuantTable) -> ir.Model:
    """A copy of a model with a quant table applied; its opset is raised where the table needs that.

    Raises:
        UsageError: The table names what the model does not have.
        ModelError: The opset can't be raised.
    """
    copy = scaled(prepared, table)
    if table.corrections:
        copy = applied(copy, registry.find("correct-biases")(table=table))  # type: ignore[call-arg]
    return applied(copy, registry.find("insert-qdq")(table=table))  # type: ignore[call-arg]


def scaled(prepared: ir.Model, table: QuantTable) -> ir.Model:
    """A copy of a float model in the opset that a table needs, its constants multiplied as the table says."""
    copy = _copy(prepared)
    raise_opset(copy, table.needed_opset)
    if not table.scalings:
        return copy
    return applied(copy, registry.find("scale-weights")(table=table))  # type: ignore[call-arg]


def compressed(prepared: ir.Model, weights: str | None) -> ir.Model:
    """A copy of a model whose weights are stored in 8 bits, or "int4"."""
    step = registry.find("compress-weights")(bits=4 if weights == "int4" else 8)  # type: ignore[call-arg]
    return applied(_copy(prepared), step)


def _copy(model: ir.Model) -> ir.Model:
    copy = model.clone()
    copy.meta.update(model.meta)
    return copy


def applied(model: ir.Model, step: Pass) -> ir.Model:
    """A model after one pass; it is changed in place."""
    target = targets.find(TARGET)
    meta = dict(model.meta)
    editor = Editor(model, target=target, opset_policy=OpsetPolicy("keep", target))
    Driver(editor, strict=True).run(Pipeline((Group((step,)),)))
    verify(editor.model)
    editor.model.meta.update(meta)
    return editor.model


def raise_opset(model: ir.Model, needed: int) -> None:
    """Convert a model to an opset, if its own is lower.

    Raises:
        ModelError: Something in it can't be converted.
    """
    from graphopt.ir import opset_conversion

    current = model.graph.opset_imports.get("", 1)
    if current >= needed:
        return
    blockers = opset_conversion.can_convert(model, needed)
    if blockers:
        raise ModelError(
            f"opset {needed} is needed, and the model at {current} can't be converted: {blockers[0]}"
        )
    opset_conversion.convert(model, needed)
