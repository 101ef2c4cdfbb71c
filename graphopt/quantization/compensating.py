"""Which compensations a model gets: those with which its own outputs are nearer to the float ones.

Layers are judged one by one when channels are rescaled and biases corrected. What errors do together only the
whole model shows: it is quantized with and without, run on some samples, and the better one stays.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from graphopt.ir.quant_table import QuantTable, Scaling
from graphopt.quantization.applying import scaled, with_table
from graphopt.quantization.bias_correction import BiasNote, correct_biases
from graphopt.quantization.compensation import compensate
from graphopt.quantization.first_table import Data, FirstTable, Observing, first_table
from graphopt.quantization.loss import measure
from graphopt.quantization.planning import candidates
from graphopt.quantization.ranges import DEFAULT
from graphopt.quantization.samples import samples_of
from graphopt.reporting.compensation import CompensationReport, CompensationStep

__all__ = ["Compensated", "Compensating", "corrected", "report_of", "rescaled"]

Array = npt.NDArray[np.generic]

# Samples that a model is run on, with and without; and those that biases are corrected by.
JUDGED, CORRECTED = 16, 32


@dataclass(frozen=True, slots=True)
class Compensating:
    """What is tried.

    Attributes:
        equalize: Cross-layer equalization.
        smooth: SmoothQuant.
        correct_biases: Bias correction.
    """

    equalize: bool = True
    smooth: bool = True
    correct_biases: bool = False

    @property
    def is_rescaling(self) -> bool:
        return self.equalize or self.smooth


@dataclass(frozen=True, slots=True)
class Compensated:
    """What stayed.

    Attributes:
        model: The float model that later stages work on.
        first: Its calibration.
        scalings: What constants of the model before were multiplied by.
        notes: What was tried on channels.
        sqnr: Of the whole model in decibels, without and with it; None: not measured.
    """

    model: ir.Model
    first: FirstTable
    scalings: Mapping[str, tuple[Scaling, ...]] = field(default_factory=dict)
    notes: tuple[CompensationStep, ...] = ()
    sqnr: tuple[float, float] | None = None


def rescaled(
    model: ir.Model,
    first: FirstTable,
    data: Data,
    observer: Observing,
    chosen: Compensating | None,
    tell: Callable[[str], None] = lambda _: None,
) -> Compensated:
    """Rescale the channels of a model, if the quantized model is nearer to the float one then.

    Args:
        model: The float model.
        first: Its calibration.
        data: Samples.
        observer: How ranges are chosen.
        chosen: What is tried; None: nothing.
        tell: Called with a few words.
    """
    if chosen is None or not chosen.is_rescaling:
        return Compensated(model, first)
    tell("compensate")
    found = compensate(
        model,
        candidates(model),
        first.statistics,
        DEFAULT if observer == "auto" else observer,
        with_equalization=chosen.equalize,
        with_smoothing=chosen.smooth,
    )
    if not found.scalings:
        return Compensated(model, first, notes=found.notes)
    after = scaled(model, QuantTable(first.table.model, scalings=found.scalings))
    second = first_table(after, data, first.table.model, observer, tell=tell)
    few = list(itertools.islice(samples_of(data, model), JUDGED))
    sqnr = (_sqnr(model, model, first.table, few), _sqnr(model, after, second.table, few))
    if sqnr[1] <= sqnr[0]:
        return Compensated(model, first, {}, tuple(replace(note, kept=False) for note in found.notes), sqnr)
    return Compensated(after, second, found.scalings, found.notes, sqnr)


def corrected(
    model: ir.Model,
    table: QuantTable,
    data: Data,
    chosen: Compensating | None,
    tell: Callable[[str], None] = lambda _: None,
) -> tuple[QuantTable, tuple[BiasNote, ...]]:
    """Correct biases where that is chosen, if the quantized model is nearer to the float one then."""
    if chosen is None or not chosen.correct_biases:
        return table, ()
    few = list(itertools.islice(samples_of(data, model), CORRECTED))
    found = correct_biases(model, table, few, tell)
    judged = few[:JUDGED]
    if _sqnr(model, model, found.table, judged) <= _sqnr(model, model, table, judged):
        return table, tuple(replace(note, kept=False) for note in found.notes)
    return found.table, found.notes


def report_of(before: Compensated, biases: Sequence[BiasNote]) -> CompensationReport | None:
    """What the report says of it; None where nothing was tried."""
    steps = [*before.notes]
    steps += [
        CompensationStep(note.operator, "correct-bias", None, note.before, note.after, note.kept)
        for note in biases
    ]
    return CompensationReport(tuple(steps), before.sqnr) if steps else None


def _sqnr(
    reference: ir.Model, model: ir.Model, table: QuantTable, samples: Sequence[Mapping[str, Array]]
) -> float:
    found = measure(reference, with_table(model, table), samples, len(samples)).sqnr
    return found if found is not None else 0.0
