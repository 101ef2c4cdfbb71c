"""MNN's compression parameters: the JSON that its converter reads as `--compressionParamsFile`.

Codes are signed there, whatever they are here: zero points move with them. Weights are symmetric, a scale for
each output or for each block of it. A layer that is not named stays float.
"""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import onnx_ir as ir

from graphopt.errors import UsageError
from graphopt.ir.json_file import Json
from graphopt.ir.quant_table import QuantTable, TensorPlan
from graphopt.ir.quantizable import weight_of
from graphopt.quantization.exchange import grids
from graphopt.quantization.exchange.losses import Losses
from graphopt.quantization.exchange.tables import Restored
from graphopt.quantization.exchange.view import View

__all__ = ["export", "restore"]

VERSION = "2.0.0"
_EVEN = "ROUND_HALF_TO_EVEN"
_DEFAULT_ROUNDING = "ROUND_AWAY_FROM_ZERO"


def export(table: QuantTable, view: View, losses: Losses) -> Json:
    """A pipeline of one algorithm, quantization, with a layer for each operator."""
    layers: list[Json] = []
    for name, plan in table.operators.items():
        node = view.node(name)
        if plan.mode == "float":
            continue
        if plan.mode == "float16":
            losses.add("mode", name, "there is no float16 for one layer: the converter's --fp16 is for all")
            continue
        layer: dict[str, Json] = {"op_name": node.name or ""}
        scope = view.scope(node)
        if scope:
            layer["subgraph_name"] = scope.rstrip("/")
            losses.add("scope", name, "the converter gives bodies names of its own")
        weight = weight_of(node)
        weight_name = view.names.get(weight.value) if weight is not None else None
        if weight_name is not None and weight_name in table.tensors:
            entry = _weight(weight_name, table.tensors[weight_name], view, losses)
            if entry is None:
                continue
            layer["weight"] = [entry]
        for key, names in (("input", plan.inputs), ("output", plan.outputs)):
            entries = [_activation(n, table.tensors[n], view) for n in names if n in table.tensors]
            if entries:
                layer[key] = cast(Json, entries)
        layers.append(layer)
    return {
        "version": VERSION,
        "algo": [{"type": "QUANTIZE", "quant_params": {"round_mode": _EVEN, "layer": layers}}],
    }


def restore(found: Json, view: View, losses: Losses) -> Restored:
    """What layers say of tensors; layers that are not named stay float."""
    algorithms = found.get("algo") if isinstance(found, dict) else None
    if not isinstance(algorithms, list):
        raise UsageError("not MNN's compression parameters: there is no list 'algo'")
    restored, named = Restored(), set[str]()
    for algorithm in cast("list[dict[str, Any]]", algorithms):
        params = _of(algorithm, "quant_params")
        if not isinstance(params, dict):
            losses.add("algo", str(algorithm.get("type")), "it is no quantization")
            continue
        if _of(params, "round_mode", _DEFAULT_ROUNDING) != _EVEN:
            losses.add("round_mode", "all", "halves are rounded to even here")
        for layer in params.get("layer", []):
            named.add(_layer_name(layer))
            for key in ("input", "weight", "output"):
                for entry in layer.get(key, []):
                    _take(entry, key, layer, view, losses, restored)
    restored.floats |= {name for name, node in view.nodes.items() if _name(node, view) not in named}
    return restored


def _name(node: ir.Node, view: View) -> str:
    return f"{view.scope(node)}{node.name}"


def _layer_name(layer: dict[str, Any]) -> str:
    scope = str(_of(layer, "subgraph_name", ""))
    return f"{scope}/{_of(layer, 'op_name', '')}" if scope else str(_of(layer, "op_name", ""))


def _activation(name: str, plan: TensorPlan, view: View) -> Json:
    grid = plan.grid
    bits = grids.bits_of(grid)
    middle = 1 << (bits - 1)
    low, high = grids.limits(grid)
    moved = grids.shift(grid) - middle
    return {
        "name": view.values[name].name,
        "bits": bits,
        "scales": [float(str(s)) for s in grid.scale.reshape(-1)],
        "zero_point": int(grid.zero_point.reshape(-1)[0]) + moved,
        "clamp_min": low + moved,
        "clamp_max": high + moved,
    }


def _weight(name: str, plan: TensorPlan, view: View, losses: Losses) -> Json:
    grid = plan.grid
    bits = grids.bits_of(grid)
    middle = 1 << (bits - 1)
    if (grid.zero_point.astype(np.int64) + grids.shift(grid) != middle).any():
        losses.add("zero_point", name, "weights are symmetric; the layer is left out")
        return None
    expected = grids.block_axis_of if grid.block_size else grids.output_axis
    if grid.axis is not None and grid.axis != expected(name, view):
        losses.add("axis", name, "scales lie along another axis than MNN's; the layer is left out")
        return None
    low, high = grids.limits(grid)
    moved = grids.shift(grid) - middle
    entry: dict[str, Json] = {
        "name": view.values[name].name,
        "bits": bits,
        "scales": [float(str(s)) for s in grids.by_output(name, grid, grid.scale, view)],
        "clamp_min": low + moved,
        "clamp_max": high + moved,
    }
    if grid.block_size:
        entry["block_size"] = grid.block_size
    return entry


def _take(
    entry: dict[str, Any], key: str, layer: dict[str, Any], view: View, losses: Losses, restored: Restored
) -> None:
    """One tensor of a layer: of its own scope, or of one around it."""
    plain = str(entry.get("name", ""))
    scope = str(_of(layer, "subgraph_name", ""))
    name = next((n for n in _from_inside(scope, plain) if n in view.values), None)
    if name is None:
        losses.add("tensor", plain, "the model has none of that name")
        return
    if key == "weight" and entry.get("asymmetric"):
        losses.add("asymmetric", name, "its zero points are not in the file; the tensor is left out")
        return
    bits = int(entry.get("bits", 8))
    scales = np.ravel(np.asarray(entry.get("scales", []), np.float32))
    zero = int(_of(entry, "zero_point", 0)) + (1 << (bits - 1))
    if not scales.size:
        raise UsageError(f"MNN's compression parameters: {plain!r} has no scales")
    if key != "weight" and scales.size > 1:
        losses.add("scales", name, "an activation has one scale; the tensor is left out")
        return
    plan = grids.plan(
        name, bits, scales, np.asarray([zero]), view, losses, int(_of(entry, "block_size", 0) or 0)
    )
    if plan is not None:
        restored.tensors[name] = plan


def _from_inside(scope: str, plain: str) -> list[str]:
    """Scoped names that a name may stand for, the innermost first."""
    parts = scope.split("/") if scope else []
    return ["/".join([*parts[:i], plain]) for i in range(len(parts), -1, -1)]


def _of(entry: dict[str, Any], key: str, default: object = None) -> Any:
    """A field, as the format's file names it or as its JSON may: both are read there."""
    head, *rest = key.split("_")
    return entry.get(key, entry.get(head + "".join(part.title() for part in rest), default))
