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
from graphopt.quantization.calibration import calibrate
from graphopt.quantization.checkpoint import Checkpoint
from graphopt.quantization.observers import Method
from graphopt.quantization.ranges import DEFAULT, choose_ranges
from graphopt.quantization.remarks import remarks
from graphopt.quantization.samples import count_of, samples_of
from graphopt.quantization.statistics import Statistics

__all__ = ["FirstTable", "Observing", "first_table"]

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
    """

    table: QuantTable
    statistics: Statistics
    warnings: tuple[str, ...]


def first_table(
    model: ir.Model,
    data: Data,
    identity: ModelIdentity,
    observer: Observing = "auto",
    *,
    tell: Callable[[str], None] = lambda _: None,
    checkpoint: Checkpoint | None = None,
) -> FirstTable:
    """Calibrate a prepared float model.

    Args:
        model: Its nodes have names.
        data: Samples.
        identity: Of the file that it was made of; the opset is the model's.
        observer: How ranges are chosen.
        tell: Called with a few words.
        checkpoint: Where an interrupted calibration goes on.
    """
    found = planning.candidates(model)
    others = planning.between(model, found)
    statistics = Statistics(found)
    total = count_of(data)
    of = f" of {total}" if total is not None else ""
    seen = calibrate(
        model,
        planning.values_to_observe(found, others),
        samples_of(data, model),
        lambda count: tell(f"calibrate: {count}{of} samples"),
        statistics,
        checkpoint,
    )
    ranges = choose_ranges(found, seen.observers, statistics) if observer == "auto" else None
    tensors, operators = planning.plan(
        found, seen, DEFAULT if observer == "auto" else observer, others, ranges
    )
    table = QuantTable(
        replace(identity, opset=model.graph.opset_imports.get("", 1)),
        tensors,
        operators,
        CalibrationNote(seen.samples, observer),
    )
    return FirstTable(table, statistics, tuple(remarks(found, seen, operators)))
