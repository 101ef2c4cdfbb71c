"""Quant tables to JSON, and to the .npz file beside it."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import cast

import numpy as np
import numpy.typing as npt

from graphopt.errors import OutputError
from graphopt.ir.json_file import Json
from graphopt.ir.quant_table.checking import check
from graphopt.ir.quant_table.plans import OperatorPlan, QuantTable, Scaling, TensorPlan
from graphopt.ir.replacing import Replacement, write_all

__all__ = ["LONGEST", "MARK", "VERSION", "as_json", "beside", "staged", "write"]

Array = npt.NDArray[np.generic]

VERSION = 1
# Longer arrays would bury what a person wants to read.
LONGEST = 64
# What stands in the place of an array that lies in the .npz file, before its key there.
MARK = "npz:"


def as_json(table: QuantTable) -> tuple[dict[str, Json], dict[str, Array]]:
    """The JSON of a table, and the arrays that are too long for it."""
    arrays: dict[str, Array] = {}
    found: dict[str, Json] = {"version": VERSION}
    identity, note = table.model, table.calibration
    found["model"] = _given(
        sha256=identity.sha256,
        opset=identity.opset,
        pipeline=identity.pipeline or None,
        tool=identity.tool or None,
    )
    if note is not None:
        found["calibration"] = _given(samples=note.samples, observer=note.observer, seed=note.seed)
    if table.scalings:
        found["scalings"] = {name: _scalings(name, given, arrays) for name, given in table.scalings.items()}
    found["tensors"] = {name: _tensor(name, plan, arrays) for name, plan in table.tensors.items()}
    found["operators"] = {name: _operator(plan) for name, plan in table.operators.items()}
    if table.corrections:
        found["corrections"] = {
            name: _numbers(f"{name}#correction", given, arrays) for name, given in table.corrections.items()
        }
    return found, arrays


def write(table: QuantTable, path: str | os.PathLike[str]) -> None:
    """Write a table as JSON, its long arrays as .npz beside it; both or none.

    Raises:
        OutputError: It can't be written.
    """
    with staged(table, path) as commit:
        commit()


@contextmanager
def staged(table: QuantTable, path: str | os.PathLike[str]) -> Iterator[Callable[[], None]]:
    """Write a table under temporary names; it appears when what this gives is called, or not at all.

    Raises:
        OutputError: It can't be written.
    """
    target = os.fspath(path)
    found, arrays = as_json(table)
    check(found, target)
    with Replacement() as files:
        with _writing(target):
            if arrays:
                buffer = io.BytesIO()
                np.savez(buffer, **cast(dict[str, npt.ArrayLike], arrays))  # type: ignore[arg-type]
                write_all(files.create(str(beside(target))), buffer.getvalue())
            text = json.dumps(found, indent=1, ensure_ascii=False) + "\n"
            write_all(files.create(target), text.encode())

        def commit() -> None:
            with _writing(target):
                files.commit()

        yield commit


@contextmanager
def _writing(target: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise OutputError(f"{target}: can't be written: {error.strerror or error}") from error


def beside(target: str) -> Path:
    """The .npz file that belongs to a table."""
    return Path(target).with_suffix(".npz")


def _given(**entries: Json) -> dict[str, Json]:
    return {name: value for name, value in entries.items() if value is not None}


def _tensor(name: str, plan: TensorPlan, arrays: dict[str, Array]) -> dict[str, Json]:
    grid = plan.grid
    seen = plan.observed
    zero = codes = None
    if grid.zero_point.any():
        zero = _numbers(f"{name}#zero_point", grid.zero_point, arrays)
    if plan.codes is not None:
        arrays[f"{name}#codes"] = _plain(plan.codes)
        codes = f"{MARK}{name}#codes"
    return _given(
        role=plan.role,
        type=grid.dtype.name.lower(),
        bits=grid.bits or None,
        scale=_numbers(name, grid.scale, arrays),
        zero_point=zero,
        axis=grid.axis,
        block_size=grid.block_size or None,
        range=None if plan.range is None else [_short(x) for x in plan.range],
        narrow=grid.narrow or None,
        group=plan.group,
        codes=codes,
        observed=None
        if seen is None
        else {"min": _short(seen.min), "max": _short(seen.max), "count": seen.count, "zeros": seen.zeros},
    )


def _scalings(name: str, given: tuple[Scaling, ...], arrays: dict[str, Array]) -> Json:
    """One scaling as it is, several as a list."""
    found: list[Json] = [
        {"axis": one.axis, "factors": _numbers(f"{name}#factors{one.axis}", one.factors, arrays)}
        for one in given
    ]
    return found[0] if len(found) == 1 else found


def _operator(plan: OperatorPlan) -> dict[str, Json]:
    return _given(
        mode=plan.mode,
        bits=plan.bits,
        inputs=list(plan.inputs) or None,
        outputs=list(plan.outputs) or None,
        sensitivity=plan.sensitivity,
        bytes=plan.bytes,
        reason=plan.reason,
    )


def _short(number: float) -> float:
    """The shortest decimal that is the same float32."""
    return float(str(np.float32(number)))


def _numbers(key: str, array: Array, arrays: dict[str, Array]) -> Json:
    if array.size > LONGEST:
        arrays[key] = _plain(array)
        return f"{MARK}{key}"
    if array.dtype.kind == "f":
        nested = np.vectorize(_short, otypes=[np.float64])(array) if array.size else array
        return cast(Json, nested.tolist())
    return cast(Json, array.astype(np.int64).tolist())


def _plain(array: Array) -> Array:
    """As a type that numpy itself knows: integers of 4 bits would become unknown bytes in the file."""
    return array if array.dtype.isbuiltin == 1 else array.astype(np.int8)
