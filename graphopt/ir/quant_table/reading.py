"""Quant tables from JSON that was written, or edited by hand since; what no table may say is one line."""

from __future__ import annotations

import os
import zipfile
from typing import cast

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from graphopt.errors import UsageError
from graphopt.ir.json_file import Json, read_json
from graphopt.ir.quant_table.checking import check
from graphopt.ir.quant_table.plans import (
    CalibrationNote,
    Mode,
    ModelIdentity,
    Observed,
    OperatorPlan,
    QuantTable,
    Role,
    Scaling,
    TensorPlan,
)
from graphopt.ir.quant_table.writing import MARK, beside
from graphopt.ir.quantizing import LIMITS, Grid, limits_of

__all__ = ["read"]

Array = npt.NDArray[np.generic]
Floats = npt.NDArray[np.float32]
Integers = npt.NDArray[np.int64]
Entry = dict[str, Json]


def read(path: str | os.PathLike[str]) -> QuantTable:
    """Read a table that was written by `write`, or edited since.

    Raises:
        UsageError: There is none, or it says what no table may say.
    """
    target = os.fspath(path)
    found = read_json(target, missing="no quant table there")
    check(found, target)
    model = found["model"]
    note = found.get("calibration")
    arrays = _Arrays(target)
    return QuantTable(
        ModelIdentity(model["sha256"], model["opset"], model.get("pipeline", ""), model.get("tool", "")),
        {name: _tensor(name, entry, arrays) for name, entry in found["tensors"].items()},
        {name: _operator(entry) for name, entry in found["operators"].items()},
        None
        if note is None
        else CalibrationNote(note.get("samples", 0), note.get("observer", ""), note.get("seed", 0)),
        {name: _scalings(name, entry, arrays) for name, entry in found.get("scalings", {}).items()},
        {name: _correction(name, entry, arrays) for name, entry in found.get("corrections", {}).items()},
    )


class _Arrays:
    """The .npz file beside a table, opened when the first array is asked for."""

    def __init__(self, target: str) -> None:
        self.path = beside(target)
        self._content: dict[str, Array] | None = None

    def get(self, key: str) -> Array:
        if self._content is None:
            try:
                with np.load(self.path, allow_pickle=False) as content:
                    self._content = {name: content[name] for name in content.files}
            except (OSError, ValueError, EOFError, AttributeError, zipfile.BadZipFile) as error:
                raise UsageError(
                    f"{self.path}: the arrays of the quant table can't be read: {error}"
                ) from error
        if key not in self._content:
            raise UsageError(f"{self.path}: there is no array {key!r}, which the quant table names")
        return self._content[key]

    def numbers(self, what: str, given: Json) -> Array:
        """A number, a nested list of them, or an array of the file."""
        if isinstance(given, str):
            found = self.get(given.removeprefix(MARK))
        else:
            try:
                found = np.asarray(given)
            except ValueError as error:
                raise UsageError(f"quant table: {what}: lists of different lengths") from error
        if found.dtype.kind not in "iuf" and found.size:
            raise UsageError(f"quant table: {what}: an array of {found.dtype}, not of numbers")
        return found

    def floats(self, what: str, given: Json) -> Floats:
        """The same as float32; what is too large for it becomes infinite."""
        with np.errstate(over="ignore"):
            found: Floats = self.numbers(what, given).astype(np.float32)
        return found


def _tensor(name: str, entry: Entry, arrays: _Arrays) -> TensorPlan:
    grid = _grid(name, entry, arrays)
    bounds = cast("list[float] | None", entry.get("range"))
    seen = cast("dict[str, float] | None", entry.get("observed"))
    return TensorPlan(
        grid,
        cast(Role, entry.get("role", "activation")),
        None if bounds is None else (bounds[0], bounds[1]),
        cast("str | None", entry.get("group")),
        None
        if seen is None
        else Observed(
            seen.get("min", 0.0), seen.get("max", 0.0), int(seen.get("count", 0)), int(seen.get("zeros", 0))
        ),
        _codes(name, grid, arrays.numbers(f"tensor {name!r}", entry["codes"])) if "codes" in entry else None,
    )


def _grid(name: str, entry: Entry, arrays: _Arrays) -> Grid:
    def wrong(message: str) -> UsageError:
        return UsageError(f"quant table: tensor {name!r}: {message}")

    dtype = ir.DataType[cast(str, entry["type"]).upper()]
    bits = cast(int, entry.get("bits", 0))
    if dtype not in LIMITS:
        raise wrong(f"type {entry['type']} can't be applied")
    if bits > dtype.bitwidth:
        raise wrong(f"{entry['type']} has no {bits} bits")
    axis = cast("int | None", entry.get("axis"))
    block_size = cast("int | None", entry.get("block_size")) or 0
    narrow = bool(entry.get("narrow", False))
    scale = arrays.floats(f"tensor {name!r}", entry["scale"])
    if not (np.isfinite(scale) & (scale > 0)).all():
        raise wrong("a scale must be a positive number")
    if axis is None and (scale.size != 1 or block_size):
        raise wrong("several scales need an axis")
    if axis is None:
        scale = scale.reshape(())
    elif (scale.ndim != 1 and not block_size) or not scale.ndim:
        raise wrong("an axis needs a list of scales, one for each position; blocks one list an axis")
    given = arrays.numbers(f"tensor {name!r}", entry.get("zero_point", 0))
    zero: Integers = given.astype(np.int64)
    if zero.size == 1:
        zero = np.broadcast_to(zero.reshape(()), scale.shape)
    low, high = limits_of(dtype, bits=bits)
    if zero.shape != scale.shape or ((zero < low) | (zero > high)).any():
        raise wrong("its zero point does not fit its scale or type")
    return Grid(dtype, scale, zero.astype(dtype.numpy()), axis, block_size, narrow, bits)


def _codes(name: str, grid: Grid, given: Array) -> Array:
    low, high = limits_of(grid.dtype, narrow=grid.narrow, bits=grid.bits)
    wide: Integers = given.astype(np.int64)
    if given.dtype.kind not in "iu" or ((wide < low) | (wide > high)).any():
        raise UsageError(f"quant table: tensor {name!r}: its codes must be integers from {low} to {high}")
    found: Array = wide.astype(grid.dtype.numpy())
    return found


def _operator(entry: Entry) -> OperatorPlan:
    return OperatorPlan(
        cast(Mode, entry["mode"]),
        cast("int | None", entry.get("bits")),
        tuple(cast("list[str]", entry.get("inputs", []))),
        tuple(cast("list[str]", entry.get("outputs", []))),
        cast("float | None", entry.get("sensitivity")),
        cast("int | None", entry.get("bytes")),
        cast("str | None", entry.get("reason")),
    )


def _scalings(name: str, entry: Entry | list[Entry], arrays: _Arrays) -> tuple[Scaling, ...]:
    given = entry if isinstance(entry, list) else [entry]
    return tuple(_scaling(name, one, arrays) for one in given)


def _scaling(name: str, entry: Entry, arrays: _Arrays) -> Scaling:
    factors = _list(f"scaling {name!r}", entry["factors"], arrays)
    if (factors == 0).any():
        raise UsageError(f"quant table: scaling {name!r}: a factor of zero can't be undone")
    return Scaling(cast(int, entry["axis"]), factors)


def _correction(name: str, entry: Json, arrays: _Arrays) -> Floats:
    return _list(f"correction {name!r}", entry, arrays)


def _list(what: str, given: Json, arrays: _Arrays) -> Floats:
    found = arrays.floats(what, given)
    if found.ndim != 1 or not np.isfinite(found).all():
        raise UsageError(f"quant table: {what}: one list of finite numbers is needed")
    return found
