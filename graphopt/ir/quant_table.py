"""The quant table: which tensors are quantized, how, and what each operator does with them.

It lies between the decision and the graph: a JSON file that a person can read and edit, and that is applied
again without data. Names are those that values and nodes have once the pipeline that the table names has run
on the model whose hash it has; those of bodies are written `loop_node:body/value`. Arrays of more than
`LONGEST` numbers go to an .npz file beside it.
"""

from __future__ import annotations

import io
import json
import os
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Literal, cast

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from graphopt.errors import OutputError, UsageError
from graphopt.ir.quantizing import LIMITS, Grid
from graphopt.ir.replacing import Replacement

__all__ = [
    "CalibrationNote",
    "ModelIdentity",
    "Observed",
    "OperatorPlan",
    "QuantTable",
    "TensorPlan",
    "read",
    "schema",
    "write",
]

Json = bool | int | float | str | list["Json"] | dict[str, "Json"] | None
Array = npt.NDArray[np.generic]
Floats = npt.NDArray[np.float32]
Integers = npt.NDArray[np.int64]
Role = Literal["activation", "weight", "bias"]
Mode = Literal["int8", "weight_only", "float16", "float"]

VERSION = 1
# Longer arrays would bury what a person wants to read.
LONGEST = 64
_MARK = "npz:"


@dataclass(frozen=True, slots=True)
class Observed:
    """What calibration has seen of a tensor.

    Attributes:
        min: Lowest finite number.
        max: Highest finite number.
        count: How many finite numbers.
        zeros: How many of them were exactly zero.
    """

    min: float
    max: float
    count: int
    zeros: int


@dataclass(frozen=True, slots=True)
class TensorPlan:
    """How a tensor is quantized.

    Attributes:
        grid: Type, scales and zero points.
        role: What it is.
        range: The numbers that the codes span, lowest and highest; None where that says nothing new.
        group: Tensors of one group have one scale; None: it is alone.
        observed: What calibration has seen; None for weights.
    """

    grid: Grid
    role: Role = "activation"
    range: tuple[float, float] | None = None
    group: str | None = None
    observed: Observed | None = None


@dataclass(frozen=True, slots=True)
class OperatorPlan:
    """What an operator does.

    Attributes:
        mode: "int8": on quantized inputs; "weight_only": its weight is stored so; "float": nothing changes.
        bits: Of its weight; None: as the weight's type says.
        inputs: Which of its inputs it takes quantized.
        outputs: Which of its outputs are quantized for all that take them.
        sensitivity: What quantizing it alone does; None: not measured.
        bytes: Of its weights as stored; None: not counted.
        reason: Why it is so, where that was a choice.
    """

    mode: Mode
    bits: int | None = None
    inputs: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()
    sensitivity: float | None = None
    bytes: int | None = None
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class ModelIdentity:
    """The model that a table is for.

    Attributes:
        sha256: Of the input file.
        opset: Of the graph that the names are from.
        pipeline: What ran on it before, as text; "" for nothing.
        tool: Name and version of what made the table.
    """

    sha256: str
    opset: int
    pipeline: str = ""
    tool: str = ""


@dataclass(frozen=True, slots=True)
class CalibrationNote:
    """How the ranges were found."""

    samples: int
    observer: str
    seed: int = 0


@dataclass(frozen=True, slots=True)
class QuantTable:
    """A quantization of one model; `tensors` and `operators` by their scoped names."""

    model: ModelIdentity
    tensors: Mapping[str, TensorPlan] = field(default_factory=dict)
    operators: Mapping[str, OperatorPlan] = field(default_factory=dict)
    calibration: CalibrationNote | None = None

    def to_dict(self) -> tuple[dict[str, Json], dict[str, Array]]:
        """The JSON of the table, and the arrays that are too long for it."""
        arrays: dict[str, Array] = {}
        found: dict[str, Json] = {"version": VERSION}
        identity = self.model
        found["model"] = _given(
            sha256=identity.sha256,
            opset=identity.opset,
            pipeline=identity.pipeline or None,
            tool=identity.tool or None,
        )
        note = self.calibration
        if note is not None:
            found["calibration"] = _given(samples=note.samples, observer=note.observer, seed=note.seed)
        found["tensors"] = {name: _tensor_json(name, plan, arrays) for name, plan in self.tensors.items()}
        found["operators"] = {name: _operator_json(plan) for name, plan in self.operators.items()}
        return found, arrays

    def __str__(self) -> str:
        """Short: pipelines that have a table as an option are printed."""
        return f"of-{self.model.sha256[:12]}"

    def check_model(self, sha256: str) -> None:
        """Make sure that the table is for the model with this hash.

        Raises:
            UsageError: It is for another one.
        """
        if sha256 != self.model.sha256:
            raise UsageError(
                f"the quant table is for another model: sha256 {self.model.sha256[:12]}..., "
                f"this one has {sha256[:12]}...",
                hint="calibrate this one with --data",
            )


def write(table: QuantTable, path: str | os.PathLike[str]) -> None:
    """Write a table as JSON, its long arrays as .npz beside it; both or none.

    Raises:
        OutputError: It can't be written.
    """
    target = os.fspath(path)
    found, arrays = table.to_dict()
    _check(found, target)
    try:
        with Replacement() as replacement:
            if arrays:
                buffer = io.BytesIO()
                np.savez(buffer, **cast(dict[str, npt.ArrayLike], arrays))  # type: ignore[arg-type]
                _write_all(replacement.create(str(_beside(target))), buffer.getvalue())
            text = json.dumps(found, indent=1, ensure_ascii=False) + "\n"
            _write_all(replacement.create(target), text.encode())
            replacement.commit()
    except OSError as error:
        raise OutputError(f"{target}: can't be written: {error.strerror or error}") from error


def read(path: str | os.PathLike[str]) -> QuantTable:
    """Read a table that was written by `write`, or edited since.

    Raises:
        UsageError: There is none, or it says what no table may say.
    """
    target = os.fspath(path)
    try:
        text = Path(target).read_text(encoding="utf-8")
        found = json.loads(text)
    except OSError as error:
        raise UsageError(f"{target}: no quant table there: {error.strerror or error}") from error
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{target}: not JSON: {error}") from error
    _check(found, target)
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
    )


@cache
def schema() -> dict[str, Json]:
    """The JSON Schema of tables."""
    text = files("graphopt.ir").joinpath("quant_table.schema.json").read_text(encoding="utf-8")
    return cast(dict[str, Json], json.loads(text))


# ------------------------------------------------------------------ to JSON


def _given(**entries: Json) -> dict[str, Json]:
    return {name: value for name, value in entries.items() if value is not None}


def _tensor_json(name: str, plan: TensorPlan, arrays: dict[str, Array]) -> dict[str, Json]:
    grid = plan.grid
    seen = plan.observed
    zero = None
    if grid.zero_point.any():
        zero = _numbers(f"{name}#zero_point", grid.zero_point, arrays)
    return _given(
        role=plan.role,
        type=grid.dtype.name.lower(),
        scale=_numbers(name, grid.scale, arrays),
        zero_point=zero,
        axis=grid.axis,
        block_size=grid.block_size or None,
        range=None if plan.range is None else [_short(x) for x in plan.range],
        narrow=grid.narrow or None,
        group=plan.group,
        observed=None
        if seen is None
        else {"min": _short(seen.min), "max": _short(seen.max), "count": seen.count, "zeros": seen.zeros},
    )


def _operator_json(plan: OperatorPlan) -> dict[str, Json]:
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
        arrays[key] = array
        return f"{_MARK}{key}"
    if array.dtype.kind == "f":
        nested = np.vectorize(_short, otypes=[np.float64])(array) if array.size else array
        return cast(Json, nested.tolist())
    return cast(Json, array.astype(np.int64).tolist())


def _beside(target: str) -> Path:
    return Path(target).with_suffix(".npz")


def _write_all(file: int, content: bytes) -> None:
    left = memoryview(content)
    while left:
        left = left[os.write(file, left) :]


# ------------------------------------------------------------------ from JSON


def _check(found: Json, target: str) -> None:
    """Raise where the schema is not met; the first fault in the order of the file."""
    import jsonschema

    errors = list(jsonschema.Draft202012Validator(schema()).iter_errors(found))
    if errors:
        error = errors[0]
        where = "/".join(str(part) for part in error.absolute_path) or "the table"
        raise UsageError(f"{target}: {where}: {error.message}")


class _Arrays:
    """The .npz file beside a table, opened when the first array is asked for."""

    def __init__(self, target: str) -> None:
        self.path = _beside(target)
        self._content: dict[str, Array] | None = None

    def get(self, key: str) -> Array:
        if self._content is None:
            try:
                with np.load(self.path, allow_pickle=False) as content:
                    self._content = {name: content[name] for name in content.files}
            except (OSError, ValueError, zipfile.BadZipFile) as error:
                raise UsageError(
                    f"{self.path}: the arrays of the quant table can't be read: {error}"
                ) from error
        if key not in self._content:
            raise UsageError(f"{self.path}: there is no array {key!r}, which the quant table names")
        return self._content[key]


def _tensor(name: str, entry: dict[str, Json], arrays: _Arrays) -> TensorPlan:
    dtype = ir.DataType[cast(str, entry["type"]).upper()]
    if dtype not in LIMITS:
        raise UsageError(f"quant table: tensor {name!r}: type {entry['type']} can't be applied")
    scale: Floats = _array(name, entry["scale"], arrays).astype(np.float32)
    if not (np.isfinite(scale) & (scale > 0)).all():
        raise UsageError(f"quant table: tensor {name!r}: a scale must be a positive number")
    zero: Integers = _array(name, entry.get("zero_point", 0), arrays).astype(np.int64)
    if zero.size == 1 and scale.size != 1:
        zero = np.broadcast_to(zero.reshape(()), scale.shape)
    low, high = LIMITS[dtype]
    if zero.shape != scale.shape or ((zero < low) | (zero > high)).any():
        raise UsageError(f"quant table: tensor {name!r}: its zero point does not fit its scale or type")
    axis = cast("int | None", entry.get("axis"))
    if axis is None and scale.size != 1:
        raise UsageError(f"quant table: tensor {name!r}: several scales need an axis")
    bounds = cast("list[float] | None", entry.get("range"))
    seen = cast("dict[str, float] | None", entry.get("observed"))
    return TensorPlan(
        Grid(
            dtype,
            scale,
            zero.astype(dtype.numpy()),
            axis,
            cast("int | None", entry.get("block_size")) or 0,
            bool(entry.get("narrow", False)),
        ),
        cast(Role, entry.get("role", "activation")),
        None if bounds is None else (bounds[0], bounds[1]),
        cast("str | None", entry.get("group")),
        None
        if seen is None
        else Observed(
            seen.get("min", 0.0), seen.get("max", 0.0), int(seen.get("count", 0)), int(seen.get("zeros", 0))
        ),
    )


def _array(name: str, given: Json, arrays: _Arrays) -> Array:
    if isinstance(given, str):
        return arrays.get(given.removeprefix(_MARK))
    try:
        return np.asarray(given)
    except ValueError as error:
        raise UsageError(f"quant table: tensor {name!r}: lists of different lengths") from error


def _operator(entry: dict[str, Json]) -> OperatorPlan:
    return OperatorPlan(
        cast(Mode, entry["mode"]),
        cast("int | None", entry.get("bits")),
        tuple(cast("list[str]", entry.get("inputs", []))),
        tuple(cast("list[str]", entry.get("outputs", []))),
        cast("float | None", entry.get("sensitivity")),
        cast("int | None", entry.get("bytes")),
        cast("str | None", entry.get("reason")),
    )
