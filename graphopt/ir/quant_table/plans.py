"""What a quant table says of tensors, operators and the model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from graphopt.errors import UsageError
from graphopt.ir.quantizing import Grid

__all__ = [
    "CalibrationNote",
    "Mode",
    "ModelIdentity",
    "Observed",
    "OperatorPlan",
    "QuantTable",
    "Role",
    "Scaling",
    "TensorPlan",
]

Array = npt.NDArray[np.generic]
Floats = npt.NDArray[np.float32]
Role = Literal["activation", "weight", "bias"]
Mode = Literal["int8", "weight_only", "float16", "float"]

# Types and operators of these came with opset 21; a scale for each position of an axis with 13.
_SINCE_BLOCKS = 21
_SINCE_AXIS = 13
_RECENT = (ir.DataType.INT4, ir.DataType.UINT4, ir.DataType.INT16, ir.DataType.UINT16)


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
        codes: Of a weight, shaped like it, where they are not the nearest ones; None: they are.
    """

    grid: Grid
    role: Role = "activation"
    range: tuple[float, float] | None = None
    group: str | None = None
    observed: Observed | None = None
    codes: Array | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Scaling:
    """What a constant is multiplied by before anything is quantized.

    Attributes:
        axis: Each position along it has a factor.
        factors: Finite, not zero.
    """

    axis: int
    factors: Floats


@dataclass(frozen=True, slots=True)
class OperatorPlan:
    """What an operator does.

    Attributes:
        mode: "int8": on quantized inputs; "weight_only": its weight is stored as codes; "float16": so;
            both compute floats; "float": nothing changes.
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
    """A quantization of one model.

    Attributes:
        model: The model.
        tensors: By scoped name.
        operators: By scoped name.
        calibration: How the ranges were found; None: without samples.
        scalings: Of constants by scoped name, one for each axis; applied first.
        corrections: By an operator's scoped name: what is added to each of its output channels, last.
    """

    model: ModelIdentity
    tensors: Mapping[str, TensorPlan] = field(default_factory=dict)
    operators: Mapping[str, OperatorPlan] = field(default_factory=dict)
    calibration: CalibrationNote | None = None
    scalings: Mapping[str, tuple[Scaling, ...]] = field(default_factory=dict)
    corrections: Mapping[str, Floats] = field(default_factory=dict)

    def __str__(self) -> str:
        """Short: pipelines that have a table as an option are printed."""
        return f"of-{self.model.sha256[:12]}"

    @property
    def needed_opset(self) -> int:
        """The first opset that can say what the table asks for."""
        grids = [plan.grid for plan in self.tensors.values()]
        if not grids:
            return 1
        return _SINCE_BLOCKS if any(g.block_size or g.dtype in _RECENT for g in grids) else _SINCE_AXIS

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
