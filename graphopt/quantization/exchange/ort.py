"""TensorQuantOverrides of `onnxruntime.quantization.quantize_static`.

The JSON has the arguments of that function that a table decides; `arguments` makes of it what the function
takes: types as its enumeration, scales and zero points as arrays. Only the main graph is quantized there.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import onnx_ir as ir

from graphopt.errors import UsageError
from graphopt.ir.json_file import Json
from graphopt.ir.quant_table import QuantTable, TensorPlan
from graphopt.ir.quantizing import LIMITS, Grid
from graphopt.quantization.exchange.losses import Losses
from graphopt.quantization.exchange.tables import Restored
from graphopt.quantization.exchange.view import View

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["arguments", "export", "restore"]

_TYPES = {
    ir.DataType.INT8: "QInt8",
    ir.DataType.UINT8: "QUInt8",
    ir.DataType.INT16: "QInt16",
    ir.DataType.UINT16: "QUInt16",
    ir.DataType.INT4: "QInt4",
    ir.DataType.UINT4: "QUInt4",
}
_BY_NAME = {name: dtype for dtype, name in _TYPES.items()}
# Lowest and highest code with "reduce_range".
_REDUCED = {
    ir.DataType.INT8: (-64, 64),
    ir.DataType.UINT8: (0, 127),
    ir.DataType.INT16: (-16384, 16384),
    ir.DataType.UINT16: (0, 32767),
    ir.DataType.INT4: (-4, 3),
    ir.DataType.UINT4: (0, 7),
}
_OPTIONS, _OVERRIDES = "extra_options", "TensorQuantOverrides"
_MAIN_ONLY = "its static quantizer leaves bodies alone"


def export(table: QuantTable, view: View, losses: Losses) -> Json:
    """Arguments of `quantize_static`; `arguments` reads them again."""
    chosen = _operators(table, view, losses)
    if not chosen:
        raise UsageError(
            "nothing of this table can be said in onnxruntime's: no int8 operator is in the main graph"
        )
    nodes = [view.node(name) for name in chosen]
    taken = {view.names.get(value) for node in nodes for value in (*node.inputs, *node.outputs) if value}
    overrides: dict[str, Json] = {}
    for name, plan in table.tensors.items():
        if name not in taken:
            losses.add("tensor", name, "no int8 operator of the main graph takes it")
            continue
        entries = _entries(name, plan, view, losses)
        if entries:
            overrides[name] = entries
    without_output = _without_output(table, chosen, view, losses)
    return {
        "per_channel": True,
        "nodes_to_quantize": cast(Json, chosen),
        _OPTIONS: {
            _OVERRIDES: overrides,
            "OpTypesToExcludeOutputQuantization": cast(Json, without_output),
            # It would change scales of weights.
            "QDQDisableWeightAdjustForInt32Bias": True,
        },
    }


def arguments(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Keyword arguments for `quantize_static`, from an exported file."""
    from onnxruntime.quantization import QuantType

    found: dict[str, Any] = json.loads(Path(path).read_text(encoding="utf-8"))
    for entries in found[_OPTIONS][_OVERRIDES].values():
        for entry in entries:
            dtype = _BY_NAME[entry["quant_type"]]
            entry["quant_type"] = QuantType[entry["quant_type"]]
            entry["scale"] = np.asarray(entry["scale"], np.float32)
            entry["zero_point"] = np.asarray(entry["zero_point"], dtype.numpy())
    return found


def restore(found: Json, view: View, losses: Losses) -> Restored:
    """What overrides say: our own export, extra options, or the overrides alone."""
    restored = Restored()
    if not isinstance(found, dict):
        raise UsageError("not onnxruntime's TensorQuantOverrides: no object")
    options = found.get(_OPTIONS, found)
    overrides = options.get(_OVERRIDES, options) if isinstance(options, dict) else None
    if not isinstance(overrides, dict):
        raise UsageError("not onnxruntime's TensorQuantOverrides: no object of that name")
    for name, entries in overrides.items():
        if name not in view.values:
            losses.add("tensor", name, "the model has none of that name")
            continue
        if not isinstance(entries, list) or not entries or not all(isinstance(e, dict) for e in entries):
            raise UsageError(f"TensorQuantOverrides: {name!r}: a list of objects is needed")
        plan = _plan(name, cast("list[dict[str, Any]]", entries), view, losses)
        if plan is not None:
            restored.tensors[name] = plan
    chosen = found.get("nodes_to_quantize")
    if isinstance(chosen, list) and chosen:
        restored.floats |= {name for name in view.nodes if name not in chosen}
    excluded = found.get("nodes_to_exclude")
    if isinstance(excluded, list):
        restored.floats |= {str(name) for name in excluded}
    return restored


# ------------------------------------------------------------------ export


def _entries(name: str, plan: TensorPlan, view: View, losses: Losses) -> list[Json]:
    grid = plan.grid
    if grid.block_size:
        losses.add("block_size", name, "overrides have no blocks; the tensor is left out")
        return []
    if grid.dtype not in _TYPES:
        losses.add("type", name, f"there is no {grid.dtype.name.lower()}; the tensor is left out")
        return []
    if grid.bits and grid.bits < grid.dtype.bitwidth:
        losses.add("bits", name, "numbers beyond the range end at the type's last code")
    if grid.axis is not None and not view.is_weight(name):
        losses.add("axis", name, "only weights have a scale for each position; the tensor is left out")
        return []
    scales, zeros = grid.scale.reshape(-1), grid.zero_point.reshape(-1)
    entries: list[Json] = [
        {"quant_type": _TYPES[grid.dtype], "scale": float(str(s)), "zero_point": int(z)}
        for s, z in zip(scales, zeros, strict=True)
    ]
    if grid.axis is not None:
        for entry in entries:
            cast("dict[str, Json]", entry)["axis"] = grid.axis
    return entries


def _operators(table: QuantTable, view: View, losses: Losses) -> list[str]:
    """Names of the nodes that are to be quantized; with them activations that it drops behind them."""
    chosen: dict[str, None] = {}
    for name, plan in table.operators.items():
        node = view.node(name)
        if plan.mode == "float":
            continue
        if view.scope(node):
            losses.add("operator", name, _MAIN_ONLY)
        elif plan.mode != "int8":
            losses.add("mode", name, f"there is no {plan.mode} in it: the operator stays float32")
        else:
            chosen[name] = None
            for output in plan.outputs:
                maker = view.value(output).producer()
                if maker is not None and maker is not node and maker.name:
                    chosen[maker.name] = None
    return list(chosen)


def _without_output(table: QuantTable, chosen: list[str], view: View, losses: Losses) -> list[str]:
    """Kinds of operators whose outputs are not quantized: it is said of a kind, not of an operator."""
    plans = {name: table.operators[name] for name in chosen if name in table.operators}
    counts = {
        has: Counter(view.node(name).op_type for name, plan in plans.items() if bool(plan.outputs) is has)
        for has in (True, False)
    }
    for name, plan in plans.items():
        op_type = view.node(name).op_type
        if not plan.outputs and counts[True][op_type]:
            losses.add("outputs", name, f"other {op_type} have theirs quantized: so has this one")
    return sorted(op_type for op_type in counts[False] if not counts[True][op_type])


# ------------------------------------------------------------------ restore


def _plan(name: str, entries: list[dict[str, Any]], view: View, losses: Losses) -> TensorPlan | None:
    first = entries[0]
    is_weight = view.is_weight(name)
    default = "QInt8" if is_weight else "QUInt8"
    kind = str(first.get("quant_type", default)).rsplit(".", 1)[-1]
    dtype = _BY_NAME.get(kind)
    if dtype is None:
        losses.add("quant_type", name, f"there is no {kind} here; the tensor is left out")
        return None
    if "convert" in first:
        losses.add("convert", name, "a tensor has one type for all that take it")
    is_symmetric = is_weight and LIMITS[dtype][0] < 0
    pairs = [_pair(entry, dtype, is_symmetric=is_symmetric) for entry in entries]
    if any(pair is None for pair in pairs):
        losses.add("scale", name, "it has neither a scale nor a range; the tensor is left out")
        return None
    axis = first.get("axis")
    shape = view.shape(name)
    if axis is not None and shape is not None and len(pairs) == 1:
        pairs = pairs * shape[int(axis)]
    found = [pair for pair in pairs if pair is not None]
    scale = np.asarray([s for s, _ in found], np.float32)
    zero = np.asarray([z for _, z in found]).astype(dtype.numpy())
    if axis is None:
        scale, zero = scale.reshape(-1)[:1].reshape(()), zero.reshape(-1)[:1].reshape(())
    narrow = is_symmetric and not zero.any()
    grid = Grid(dtype, scale, zero, None if axis is None else int(axis), 0, narrow)
    return TensorPlan(grid, "weight" if is_weight else "activation")


def _pair(entry: Mapping[str, Any], dtype: ir.DataType, *, is_symmetric: bool) -> tuple[float, int] | None:
    """Scale and zero point, given or made of a range."""
    if "scale" in entry and "zero_point" in entry:
        scale, zero = np.ravel(entry["scale"]), np.ravel(entry["zero_point"])
        return float(scale[0]), int(zero[0])
    if "rmin" not in entry or "rmax" not in entry:
        return None
    low, high = min(float(entry["rmin"]), 0.0), max(float(entry["rmax"]), 0.0)
    first, last = _REDUCED[dtype] if entry.get("reduce_range") else LIMITS[dtype]
    if entry.get("symmetric", is_symmetric):
        first = -last if first < 0 and not entry.get("reduce_range") else first
        low, high = -max(-low, high), max(-low, high)
    step = (high - low) / (last - first)
    if not step:
        return 1.0, 0
    if entry.get("symmetric", is_symmetric):
        return step, int(np.rint((first + last) / 2))
    return step, int(np.rint(first - low / step))
