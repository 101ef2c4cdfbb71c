"""Which compensations a model gets: those with which its own outputs are nearer to the float ones.

Layers are judged one by one when channels are rescaled and biases corrected. What errors do together only the
whole model shows: it is quantized with and without, run on samples that nothing was fitted to, and the better
one stays.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from graphopt.ir.quant_table import QuantTable, Scaling
from graphopt.quantization.applying import scaled
from graphopt.quantization.bias_correction import Corrected, correct_biases, correct_by_weights
from graphopt.quantization.compensation import compensate
from graphopt.quantization.first_table import Data, FirstTable, Observing, first_table
from graphopt.quantization.judging import Decibels, Judge, Settled, settled
from graphopt.quantization.planning import candidates
from graphopt.quantization.ranges import DEFAULT
from graphopt.reporting.compensation import CompensationReport, CompensationStep

__all__ = ["Compensated", "Compensating", "CorrectedTable", "corrected", "report_of", "rescaled"]

Array = npt.NDArray[np.generic]

# Samples that biases are corrected by.
CORRECTED = 24


@dataclass(frozen=True, slots=True)
class Compensating:
    """What is tried.

    Attributes:
        equalize: Cross-layer equalization; where weights have one scale each, they are adjusted to it, too.
        smooth: SmoothQuant.
        correct_biases: Bias correction.
    """

    equalize: bool = True
    smooth: bool = True
    correct_biases: bool = True


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


@dataclass(frozen=True, slots=True)
class CorrectedTable:
    """A table with those corrections that stayed.

    Attributes:
        table: The table.
        notes: What was tried.
        sqnr: Of the whole model in decibels, without and with them; None: not measured.
    """

    table: QuantTable
    notes: tuple[CompensationStep, ...] = ()
    sqnr: tuple[float, float] | None = None


def rescaled(
    model: ir.Model,
    first: FirstTable,
    data: Data,
    observer: Observing,
    chosen: Compensating,
    judge: Judge,
    tell: Callable[[str], None] = lambda _: None,
) -> Compensated:
    """Rescale the channels of a model, if the quantized model is nearer to the float one then.

    Where it is not with all that layers ask for, it may be with equalization or smoothing alone.

    Args:
        model: The float model.
        first: Its calibration.
        data: Samples.
        observer: How ranges are chosen.
        chosen: What is tried.
        judge: Of the float model.
        tell: Called with a few words.
    """
    notes: list[CompensationStep] = []
    without: float | None = None
    sqnr: tuple[float, float] | None = None
    seen: set[frozenset[str]] = set()
    for steps in _tried(chosen):
        tell("compensate")
        found = compensate(
            model,
            candidates(model),
            first.statistics,
            DEFAULT if observer == "auto" else observer,
            with_equalization="equalize" in steps,
            with_smoothing="smooth" in steps,
            per_tensor=first.per_tensor,
        )
        kinds = frozenset(note.step for note in found.notes if note.kept)
        if kinds in seen:
            continue
        seen.add(kinds)
        if not found.scalings:
            notes += found.notes
            continue
        after = scaled(model, QuantTable(first.table.model, scalings=found.scalings))
        second = first_table(after, data, first.table.model, observer, per_tensor=first.per_tensor, tell=tell)
        with_it = judge.sqnr(after, second.table)
        if not len(with_it):
            return Compensated(model, first, notes=_undone(found.notes))
        if without is None:
            without = float(judge.sqnr(model, first.table).mean())
        sqnr = without, float(with_it.mean())
        if sqnr[1] > sqnr[0]:
            return Compensated(after, second, found.scalings, (*notes, *found.notes), sqnr)
        notes += _undone(found.notes)
    return Compensated(model, first, {}, tuple(notes), sqnr)


def _tried(chosen: Compensating) -> list[tuple[str, ...]]:
    """What is tried together, until the whole model is better with it: everything, then each alone."""
    every = tuple(
        step for step, is_chosen in (("equalize", chosen.equalize), ("smooth", chosen.smooth)) if is_chosen
    )
    if len(every) < 2:
        return [every] if every else []
    return [every, *((step,) for step in every)]


def _undone(notes: Sequence[CompensationStep]) -> tuple[CompensationStep, ...]:
    return tuple(replace(note, kept=False) for note in notes)


def corrected(
    before: Compensated,
    table: QuantTable,
    samples: Sequence[Mapping[str, Array]],
    judge: Judge,
    tell: Callable[[str], None] = lambda _: None,
) -> CorrectedTable:
    """Correct biases, first by what weights alone shift, then by what the quantized model is seen to shift.

    Args:
        before: The float model, and what calibration saw of it.
        table: What it is quantized by.
        samples: To correct by; others than those of the judge.
        judge: Of the float model.
        tell: Called with a few words.
    """
    tell("correct biases")
    model, statistics = before.model, before.first.statistics
    steps: list[CompensationStep] = []
    ends: list[float] = []
    ways: tuple[Callable[[QuantTable], Corrected], ...] = (
        lambda table: correct_by_weights(model, table, statistics),
        lambda table: correct_biases(model, table, samples[:CORRECTED], tell),
    )
    for find in ways:
        found = find(table)
        names = [note.operator for note in found.notes if note.kept]
        if names:
            stays = settled(names, _judged(judge, model, table, found.table), must_gain=True)
            table = _with(table, found.table, stays.kept)
            ends += stays.sqnr or ()
        else:
            stays = Settled(frozenset(), None)
        steps += [
            CompensationStep(n.operator, "correct-bias", None, n.before, n.after, n.operator in stays.kept)
            for n in found.notes
        ]
    return CorrectedTable(table, tuple(steps), (ends[0], ends[-1]) if ends else None)


def _judged(
    judge: Judge, model: ir.Model, table: QuantTable, corrected: QuantTable
) -> Callable[[frozenset[str]], Decibels]:
    return lambda kept: judge.sqnr(model, _with(table, corrected, kept))


def _with(table: QuantTable, corrected: QuantTable, kept: frozenset[str]) -> QuantTable:
    """A table with the corrections that another has for some operators."""
    new = {name: shift for name, shift in corrected.corrections.items() if name in kept}
    return replace(table, corrections={**table.corrections, **new})


def report_of(before: Compensated, after: CorrectedTable) -> CompensationReport | None:
    """What the report says of it; None where nothing was tried."""
    steps = (*before.notes, *after.notes)
    return CompensationReport(steps, before.sqnr, after.sqnr) if steps else None
