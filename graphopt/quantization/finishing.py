"""From a model with Q and DQ to what a target runs, and tables to what it likes.

The stages before work on the standard's form, which everything can run; what a target has operators of its
own for is written at last.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Literal

import numpy as np
import onnx_ir as ir

from graphopt import targets
from graphopt.ir.quant_table import QuantTable, TensorPlan
from graphopt.ir.quantizing import Grid, symmetric_scale
from graphopt.ir.verifier import verify
from graphopt.rewriting import Driver, Editor
from graphopt.rewriting import pipeline as pipelines
from graphopt.rewriting.opsets import OpsetPolicy

__all__ = ["Activations", "as_stored", "finished", "with_activations", "with_short_scales"]

Activations = Literal["u8", "s8"]

# Operators are optimized as with `graphopt optimize`.
LEVEL = 2


def finished(model: ir.Model, target: str) -> ir.Model:
    """A model with Q and DQ, in the operators of a target; it is changed in place.

    Products of floats with stored weights stay as they are for onnxruntime: when it loads a model it makes
    MatMulNBits of them in blocks of 32. `fuse-stored-products` writes blocks of 256, which take less time and
    round their inputs so much coarser that a recogniser's scores were a third farther off.
    """
    who = targets.find(target)
    meta = dict(model.meta)
    editor = Editor(model, target=who, opset_policy=OpsetPolicy("keep", who))
    Driver(editor, strict=True).run(pipelines.default(LEVEL, target))
    verify(editor.model)
    editor.model.meta.update(meta)
    return editor.model


def with_activations(table: QuantTable, kind: Activations) -> QuantTable:
    """A table whose activations are unsigned with a zero point, as they are made, or signed and symmetric."""
    if kind == "u8":
        return table
    return _changed(table, {name: _signed(plan) for name, plan in table.tensors.items()})


def _signed(plan: TensorPlan) -> TensorPlan:
    grid = plan.grid
    if plan.role != "activation" or grid.dtype is not ir.DataType.UINT8 or grid.axis is not None:
        return plan
    ends = plan.range
    if ends is None:
        scale, zero = float(grid.scale.reshape(-1)[0]), int(grid.zero_point.reshape(-1)[0])
        ends = (-zero * scale, (255 - zero) * scale)
    largest = max(abs(ends[0]), abs(ends[1]))
    made = Grid(
        ir.DataType.INT8, symmetric_scale(largest, ir.DataType.INT8), np.zeros((), np.int8), narrow=False
    )
    return replace(plan, grid=made, range=(-largest, largest))


def as_stored(table: QuantTable, target: str) -> QuantTable:
    """A table as a target stores it."""
    return with_short_scales(table) if target == "graphopt" else table


def with_short_scales(table: QuantTable) -> QuantTable:
    """A table whose weights' scales are float16 numbers, so that they can be stored as such.

    They are rounded up, or nothing larger than them could be said any more: by 2^-10 at most. Codes that the
    table has itself stay, with the nearest scale.
    """
    return _changed(table, {name: _short(plan) for name, plan in table.tensors.items()})


def _short(plan: TensorPlan) -> TensorPlan:
    grid = plan.grid
    if plan.role != "weight" or not grid.scale.size:
        return plan
    exact = np.asarray(grid.scale, np.float32)
    with np.errstate(over="ignore"):
        short = exact.astype(np.float16)
    lowest = float(np.finfo(np.float16).smallest_normal)
    if not np.isfinite(short).all() or float(exact.min()) < lowest:
        return plan
    if plan.codes is None:
        short = np.where(short.astype(np.float32) < exact, np.nextafter(short, np.float16(np.inf)), short)
        if not np.isfinite(short).all():
            return plan
    return replace(plan, grid=replace(grid, scale=short.astype(np.float32)))


def _changed(table: QuantTable, tensors: Mapping[str, TensorPlan]) -> QuantTable:
    return replace(table, tensors=dict(tensors))
