"""From samples to the table that is applied: calibrate -> rescale -> refine -> search -> correct biases."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from graphopt.ir.quant_table import ModelIdentity, QuantTable
from graphopt.quantization.checkpoint import Checkpoint
from graphopt.quantization.compensating import (
    Compensated,
    Compensating,
    CorrectedTable,
    corrected,
    report_of,
    rescaled,
)
from graphopt.quantization.deciding import Deciding, decide
from graphopt.quantization.finishing import Activations, as_stored, with_activations
from graphopt.quantization.first_table import Observing, first_table
from graphopt.quantization.front import Search
from graphopt.quantization.journal import Journal
from graphopt.quantization.judging import Judge, parted
from graphopt.quantization.memory import give_back
from graphopt.quantization.refinement import Method as Refinement
from graphopt.quantization.refining import RefinedTable, refined
from graphopt.quantization.samples import samples_of
from graphopt.quantization.weights_alone import weights_alone
from graphopt.reporting.compensation import CompensationReport
from graphopt.reporting.refinement import RefinementReport

__all__ = ["How", "Made", "States", "make_table"]

Array = npt.NDArray[np.generic]
Data = Path | str | Iterable[Mapping[str, Array]]
Progress = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class How:
    """How each stage works.

    Attributes:
        observer: How ranges are chosen from what samples made of values.
        per_tensor: Whether weights get one scale each.
        refinement: How scales and codes of weights are refined.
        compensating: What makes up for errors before and after rounding.
        weights_only: Bits that weights are stored in, with floats computed; None: codes are computed with.
        deciding: How it is decided what each operator does; None: all is quantized that may be.
        activations: "u8" with a zero point, or "s8" around zero.
        target: Who runs the result.
    """

    observer: Observing = "auto"
    per_tensor: bool = False
    refinement: Refinement = "auto"
    compensating: Compensating = field(default_factory=Compensating)
    weights_only: Literal["int8", "int4"] | None = None
    deciding: Deciding | None = None
    activations: Activations = "u8"
    target: str = "onnx"

    @property
    def bits(self) -> Literal[4, 7, 8]:
        """Fewest bits of weights."""
        if self.weights_only is not None:
            return 4 if self.weights_only == "int4" else 8
        return 8 if self.deciding is None else self.deciding.bits


@dataclass(frozen=True)
class States:
    """Where an interrupted run goes on: its calibration, and its search.

    Attributes:
        calibration: What was gathered from samples.
        search: What was measured.
    """

    calibration: Checkpoint
    search: Journal

    @staticmethod
    def beside(path: str | Path, run: str) -> States:
        """Both files: the one at a path, and one that is named after it."""
        return States(Checkpoint(path, run), Journal(States.paths(path)[1], run))

    @staticmethod
    def paths(path: str | Path) -> tuple[Path, Path]:
        """Where the files are."""
        return Path(path), Path(path).with_name(f"{Path(path).name}.search")

    def remove(self) -> None:
        """The run has ended."""
        self.calibration.remove()
        self.search.remove()


@dataclass(frozen=True)
class Made:
    """What is applied to the prepared model, and how it was found.

    Attributes:
        table: What is applied; None: weights alone are stored, without samples.
        search: All points that were measured; None: nothing was decided.
        compensation: What was tried to make up for errors.
        refinement: What was tried on weights.
        warnings: One line each.
    """

    table: QuantTable | None
    search: Search | None = None
    compensation: CompensationReport | None = None
    refinement: RefinementReport | None = None
    warnings: tuple[str, ...] = ()


def make_table(
    prepared: ir.Model,
    data: Data,
    identity: ModelIdentity,
    how: How,
    tell: Progress = lambda _: None,
    states: States | None = None,
) -> Made:
    """Make the quant table of a prepared float model.

    Args:
        prepared: Its nodes have names.
        data: Samples, to be gone over several times.
        identity: Of the file that it was made of.
        how: How each stage works.
        tell: Called with a few words.
        states: Where an interrupted run goes on.
    """
    fit, held = parted(samples_of(data, prepared))
    before, judge, warnings = _calibrated(prepared, data, held, identity, how, tell, states)
    give_back()
    table = with_activations(before.first.table, how.activations)
    is_alone = how.weights_only is not None
    better = refined(
        before.model,
        table,
        before.first.statistics,
        judge,
        how.refinement,
        bits=how.bits,
        is_weights_only=is_alone,
        tell=tell,
    )
    # What is left to do looks at rows and means.
    before.first.statistics.forget_products()
    give_back()
    table, found = _decided(before, better, data, how, tell, states)
    give_back()
    table = as_stored(table, how.target)
    after = CorrectedTable(table)
    if how.compensating.correct_biases:
        after = corrected(before, table, fit, judge, tell)
    table = replace(after.table, scalings=before.scalings)
    return Made(table, found, report_of(before, after), better.report, warnings)


def _calibrated(
    prepared: ir.Model,
    data: Data,
    held: list[Mapping[str, Array]],
    identity: ModelIdentity,
    how: How,
    tell: Progress,
    states: States | None,
) -> tuple[Compensated, Judge, tuple[str, ...]]:
    """The model that later stages work on with its calibration; that of the one before is gone by then."""
    tell("calibrate")
    checkpoint = states.calibration if states is not None else None
    first = first_table(
        prepared, data, identity, how.observer, per_tensor=how.per_tensor, tell=tell, checkpoint=checkpoint
    )
    judge = Judge(prepared, held)
    if how.weights_only is not None:
        return Compensated(prepared, first), judge, first.warnings
    return rescaled(prepared, first, data, how.observer, how.compensating, judge, tell), judge, first.warnings


def _decided(
    before: Compensated,
    better: RefinedTable,
    data: Data,
    how: How,
    tell: Progress,
    states: States | None,
) -> tuple[QuantTable, Search | None]:
    """What each operator does, and what was measured to decide it."""
    if how.weights_only is not None:
        return weights_alone(before.model, better.table, better.blocks), None
    if how.deciding is None or not better.table.operators:
        return better.table, None
    found = decide(
        before.model,
        better.table,
        samples_of(data, before.model),
        how.deciding,
        statistics=before.first.statistics,
        blocks=better.blocks,
        target=how.target,
        journal=states.search if states is not None else None,
        tell=tell,
    )
    # Tables of other points are of the file, too, not of the rescaled model.
    tables = found.tables
    return found.table, replace(found, tables=lambda i: replace(tables(i), scalings=before.scalings))
