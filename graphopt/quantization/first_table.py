"""The first quant table: everything in 8 bits that may be, with ranges as calibration saw them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from graphopt.ir.quant_table import CalibrationNote, ModelIdentity, QuantTable
from graphopt.quantization import planning
from graphopt.quantization.calibration import Calibration, calibrate
from graphopt.quantization.checkpoint import Checkpoint
from graphopt.quantization.observers import Method
from graphopt.quantization.ranges import DEFAULT, choose_ranges
from graphopt.quantization.remarks import remarks
from graphopt.quantization.samples import count_of, samples_of
from graphopt.quantization.statistics import Statistics

__all__ = ["FirstTable", "Observing", "Seen", "first_table", "see"]

Array = npt.NDArray[np.generic]
Data = Path | str | Iterable[Mapping[str, Array]]
# One way for all ranges, or for each the one that its consumers' outputs ask for.
Observing = Method | Literal["auto"]


@dataclass(frozen=True)
class FirstTable:
    """What calibration gives to the stages that come.

    Attributes:
        table: Everything quantized that may be.
        statistics: Of the inputs of operators with weights.
        warnings: One line each.
        per_tensor: Whether weights have one scale each, not one for each output.
    """

    table: QuantTable
    statistics: Statistics
    warnings: tuple[str, ...]
    per_tensor: bool = False


@dataclass(frozen=True)
class Seen:
    """What calibration has seen of a model.

    Attributes:
        model: The model.
        calibration: Of all values that may be quantized.
        statistics: Of the inputs of operators with weights.
    """

    model: ir.Model
    calibration: Calibration
    statistics: Statistics

    def first_table(
        self, identity: ModelIdentity, observer: Observing = "auto", *, per_tensor: bool = False
    ) -> FirstTable:
        """Everything in 8 bits that may be.

        Args:
            identity: Of the file that the model was made of; the opset is the model's.
            observer: How ranges are chosen.
            per_tensor: Whether weights get one scale each, for kernels that know no other.
        """
        found = planning.candidates(self.model)
        others = planning.between(self.model, found)
        observers, statistics = self.calibration.observers, self.statistics
        ranges = choose_ranges(found, observers, statistics) if observer == "auto" else None
        method = DEFAULT if observer == "auto" else observer
        tensors, operators = planning.plan(
            found, self.calibration, method, others, ranges, per_tensor=per_tensor
        )
        table = QuantTable(
            replace(identity, opset=self.model.graph.opset_imports.get("", 1)),
            tensors,
            operators,
            CalibrationNote(self.calibration.samples, observer),
        )
        return FirstTable(table, statistics, tuple(remarks(found, self.calibration, operators)), per_tensor)


def see(
    model: ir.Model,
    data: Data,
    *,
    tell: Callable[[str], None] = lambda _: None,
    checkpoint: Checkpoint | None = None,
) -> Seen:
    """Run samples through a prepared float model and observe what may be quantized.

    Args:
        model: Its nodes have names.
        data: Samples.
        tell: Called with a few words.
        checkpoint: Where an interrupted calibration goes on.
    """
    found = planning.candidates(model)
    statistics = Statistics(found)
    total = count_of(data)
    of = f" of {total}" if total is not None else ""
    seen = calibrate(
        model,
        planning.values_to_observe(found, planning.between(model, found)),
        samples_of(data, model),
        lambda count: tell(f"calibrate: {count}{of} samples"),
        statistics,
        checkpoint,
    )
    return Seen(model, seen, statistics)


def first_table(
    model: ir.Model,
    data: Data,
    identity: ModelIdentity,
    observer: Observing = "auto",
    *,
    per_tensor: bool = False,
    tell: Callable[[str], None] = lambda _: None,
    checkpoint: Checkpoint | None = None,
) -> FirstTable:
    """Both at once; arguments as of `see` and `Seen.first_table`."""
    return see(model, data, tell=tell, checkpoint=checkpoint).first_table(
        identity, observer, per_tensor=per_tensor
    )
