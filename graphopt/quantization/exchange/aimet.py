"""Encodings of AIMET: 1.0.0 is written, that and 0.6.1 are read.

An offset there is the code of zero, counted from the lowest code and negated: -128 for int8 around zero.
Scales of a weight lie along its output axis, blocks along the axis that is summed; neither is said.
"""

from __future__ import annotations

from typing import Any, cast

import numpy as np

from graphopt.errors import UsageError
from graphopt.ir.json_file import Json
from graphopt.ir.quant_table import QuantTable, TensorPlan
from graphopt.quantization.exchange import grids
from graphopt.quantization.exchange.losses import Losses
from graphopt.quantization.exchange.tables import Restored
from graphopt.quantization.exchange.view import View

__all__ = ["export", "restore"]

VERSION = "1.0.0"
_PARTS = ("activation_encodings", "param_encodings")


def export(table: QuantTable, view: View, losses: Losses) -> Json:
    """Encodings of version 1.0.0."""
    found: dict[str, list[Json]] = {part: [] for part in _PARTS}
    half = _half_weights(table, view)
    for name, plan in table.tensors.items():
        if view.scope(view.value(name)):
            losses.add("tensor", name, "encodings have no names for bodies")
            continue
        entry = _entry(name, plan, view, losses)
        if entry is not None and name not in half:
            found[_PARTS[view.is_weight(name)]].append(entry)
    for name in half:
        found["param_encodings"].append({"name": name, "dtype": "FLOAT", "bw": 16, "enc_type": "PER_TENSOR"})
    for name, operator in table.operators.items():
        if operator.mode == "float":
            losses.add("mode", name, "an operator is float where none of its tensors is named")
    return {"version": VERSION, **{part: cast(Json, entries) for part, entries in found.items()}}


def restore(found: Json, view: View, losses: Losses) -> Restored:
    """What encodings say."""
    if not isinstance(found, dict) or not any(part in found for part in _PARTS):
        raise UsageError("not AIMET's encodings: neither activation_encodings nor param_encodings")
    restored = Restored()
    for part in _PARTS:
        for name, entry in _entries(part, found.get(part) or []):
            if name not in view.values:
                losses.add("tensor", name, "the model has none of that name")
            elif str(entry.get("dtype", "INT")).upper() != "INT":
                losses.add("dtype", name, "it is no integer; the tensor is left out")
            else:
                plan = _plan(name, entry, view, losses)
                if plan is not None:
                    restored.tensors[name] = plan
    return restored


def _entry(name: str, plan: TensorPlan, view: View, losses: Losses) -> Json:
    grid = plan.grid
    if grid.axis is not None:
        expected = grids.block_axis_of if grid.block_size else grids.output_axis
        if grid.axis != expected(name, view):
            losses.add("axis", name, "scales lie along another axis than AIMET's; the tensor is left out")
            return None
    if not view.is_weight(name) and grids.shift(grid):
        losses.add("type", name, "whether codes are signed is not said")
    if grid.narrow:
        losses.add("narrow", name, "the lowest code is used as well")
    offsets = -(grid.zero_point.astype(np.int64) + grids.shift(grid))
    middle = -(1 << (grids.bits_of(grid) - 1))
    kind = "PER_BLOCK" if grid.block_size else "PER_TENSOR" if grid.axis is None else "PER_CHANNEL"
    entry: dict[str, Json] = {
        "name": name,
        "dtype": "INT",
        "bw": grids.bits_of(grid),
        "enc_type": kind,
        "is_sym": bool((offsets == middle).all()),
        "scale": [float(str(s)) for s in grids.by_output(name, grid, grid.scale, view)],
        "offset": cast(Json, grids.by_output(name, grid, offsets, view).tolist()),
    }
    if grid.block_size:
        entry["block_size"] = grid.block_size
    return entry


def _half_weights(table: QuantTable, view: View) -> list[str]:
    """Weights that are stored as float16."""
    halves = [view.node(name) for name, plan in table.operators.items() if plan.mode == "float16"]
    found = {name: None for name, weight in view.weights.items() if weight.node in halves}
    return [name for name in found if not view.scope(view.value(name))]


def _entries(part: str, given: Json) -> list[tuple[str, dict[str, Any]]]:
    """Name and entry; of version 0.6.1, where there is one entry for each output, as in 1.0.0."""
    found: list[tuple[str, dict[str, Any]]] = []
    if isinstance(given, dict):
        for name, channels in given.items():
            entries = [c for c in channels if isinstance(c, dict)] if isinstance(channels, list) else []
            if not entries:
                raise UsageError(f"AIMET's encodings: {part}: {name!r} has no list of objects")
            first: dict[str, Any] = entries[0]
            if str(first.get("dtype", "int")).lower() == "int":
                merged = {key: [entry.get(key) for entry in entries] for key in ("scale", "offset")}
            else:
                merged = {}
            found.append((name, {"bw": first.get("bitwidth"), "dtype": first.get("dtype", "int"), **merged}))
        return found
    if not isinstance(given, list) or not all(isinstance(e, dict) and "name" in e for e in given):
        raise UsageError(f"AIMET's encodings: {part} is no list of objects with names")
    return [(str(entry["name"]), entry) for entry in cast("list[dict[str, Any]]", given)]


def _plan(name: str, entry: dict[str, Any], view: View, losses: Losses) -> TensorPlan | None:
    try:
        bits = int(entry["bw"])
        scales = np.ravel(np.asarray(entry["scale"], np.float32))
        offsets = np.ravel(np.asarray(entry["offset"], np.float64))
        block_size = int(entry.get("block_size", 0))
    except (KeyError, TypeError, ValueError) as error:
        raise UsageError(f"AIMET's encodings: {name!r}: bw, scale and offset are needed: {error}") from error
    zeros = np.rint(-offsets).astype(np.int64)
    if zeros.size not in (1, scales.size):
        raise UsageError(f"AIMET's encodings: {name!r}: {scales.size} scales and {zeros.size} offsets")
    return grids.plan(name, bits, scales, zeros, view, losses, block_size)
