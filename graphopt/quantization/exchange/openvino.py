"""OpenVINO's FakeQuantize: one for each tensor, by its limits.

    FakeQuantize(x) = round((x - low) / (high - low) * (levels - 1)) / (levels - 1) * (high - low) + low

Limits are shaped to broadcast with the tensor, as the operator takes them; the output's are the input's.
"""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import numpy.typing as npt

from graphopt.errors import UsageError
from graphopt.ir.json_file import Json
from graphopt.ir.quant_table import QuantTable, TensorPlan
from graphopt.quantization.exchange import grids
from graphopt.quantization.exchange.losses import Losses
from graphopt.quantization.exchange.tables import Restored
from graphopt.quantization.exchange.view import View

__all__ = ["export", "restore"]

_KEY = "fake_quantize"


def export(table: QuantTable, view: View, losses: Losses) -> Json:
    """Levels and limits of each tensor."""
    found: dict[str, Json] = {}
    for name, plan in table.tensors.items():
        entry = _entry(name, plan, view)
        found[name] = entry
        if view.scope(view.value(name)):
            losses.add("scope", name, "OpenVINO names values of bodies by numbers")
    for name, operator in table.operators.items():
        if operator.mode == "float16":
            losses.add("mode", name, "there is no float16 for one operator")
        elif operator.mode == "weight_only":
            losses.add("mode", name, "it is weight-only where none of its inputs is named")
    return {_KEY: found}


def restore(found: Json, view: View, losses: Losses) -> Restored:
    """Scales and zero points from levels and limits."""
    entries = found.get(_KEY) if isinstance(found, dict) else None
    if not isinstance(entries, dict):
        raise UsageError(f"not limits of FakeQuantize: there is no object {_KEY!r}")
    restored = Restored()
    for name, entry in entries.items():
        if name not in view.values:
            losses.add("tensor", name, "the model has none of that name")
            continue
        plan = _plan(name, cast("dict[str, Any]", entry), view, losses)
        if plan is not None:
            restored.tensors[name] = plan
    return restored


def _entry(name: str, plan: TensorPlan, view: View) -> Json:
    grid = plan.grid
    first, last = grids.limits(grid)
    scale, zero = grid.scale.astype(np.float64), grid.zero_point.astype(np.int64)
    low, high = (first - zero) * scale, (last - zero) * scale
    shape = view.shape(name)
    if grid.block_size and shape is not None and grid.axis is not None:
        low, high = (_spread(numbers, grid.block_size, grid.axis, shape) for numbers in (low, high))
    elif grid.axis is not None and shape is not None:
        dims = [n if i == grid.axis % len(shape) else 1 for i, n in enumerate(shape)]
        low, high = low.reshape(dims), high.reshape(dims)
    limits = {"input_low": low.tolist(), "input_high": high.tolist()}
    limits |= {"output_low": low.tolist(), "output_high": high.tolist()}
    entry: dict[str, Json] = {"levels": last - first + 1, **cast("dict[str, Json]", limits)}
    if grid.block_size:
        entry["x-block_size"] = grid.block_size
    return entry


def _spread(
    numbers: npt.NDArray[np.float64], block_size: int, axis: int, shape: tuple[int, ...]
) -> npt.NDArray[np.float64]:
    """A number for each element: FakeQuantize knows no blocks."""
    whole = np.repeat(numbers, block_size, axis)
    return np.take(whole, np.arange(shape[axis]), axis)


def _plan(name: str, entry: dict[str, Any], view: View, losses: Losses) -> TensorPlan | None:
    try:
        levels = int(entry["levels"])
        low, high = (np.asarray(entry[key], np.float64) for key in ("input_low", "input_high"))
        outputs = [np.asarray(entry.get(f"output_{end}", entry[f"input_{end}"])) for end in ("low", "high")]
    except (KeyError, TypeError, ValueError) as error:
        raise UsageError(f"FakeQuantize of {name!r}: levels and limits are needed: {error}") from error
    if not np.array_equal(low, outputs[0]) or not np.array_equal(high, outputs[1]):
        losses.add(
            "output_low", name, "output limits are other than the input's; those of the input are taken"
        )
    bits, is_narrow = (levels + 1).bit_length() - 1, levels & (levels - 1) != 0
    if levels not in ((1 << bits), (1 << bits) - 1) or not (high > low).all():
        losses.add(
            "levels", name, f"{levels} levels between such limits are no codes; the tensor is left out"
        )
        return None
    block_size = int(entry.get("x-block_size", 0))
    if block_size:
        axis, channels = grids.block_axis_of(name, view), grids.output_axis(name, view)
        if axis is None or channels is None:
            losses.add("x-block_size", name, "it is no weight that has blocks; the tensor is left out")
            return None
        low, high = (np.take(x, np.arange(0, x.shape[axis], block_size), axis) for x in (low, high))
        low, high = (np.moveaxis(x, channels, 0) for x in (low, high))
    scale = (high - low) / (levels - 1)
    zeros = np.rint(-low / scale).astype(np.int64) + int(is_narrow)
    return grids.plan(
        name, bits, scale.astype(np.float32).reshape(-1), zeros.reshape(-1), view, losses, block_size
    )
