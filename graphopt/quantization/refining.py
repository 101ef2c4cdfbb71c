"""Which refined weights a model gets: those with which its own outputs are no farther from the float ones."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import onnx_ir as ir

from graphopt.ir.quant_table import QuantTable, TensorPlan
from graphopt.quantization.judging import Decibels, Judge, Settled, settled
from graphopt.quantization.planning import candidates
from graphopt.quantization.refinement import Method, Refinement, refine
from graphopt.quantization.statistics import Statistics
from graphopt.quantization.weights_alone import weights_alone
from graphopt.reporting.refinement import RefinementReport

__all__ = ["RefinedTable", "refined"]


@dataclass(frozen=True, slots=True)
class RefinedTable:
    """A table with those refined weights that stayed.

    Attributes:
        table: The table.
        blocks: Plans of weights with 4 bits, where they were asked for.
        report: What was tried; None: nothing.
    """

    table: QuantTable
    blocks: dict[str, TensorPlan]
    report: RefinementReport | None


def refined(
    model: ir.Model,
    table: QuantTable,
    statistics: Statistics,
    judge: Judge,
    method: Method = "auto",
    *,
    bits: int = 8,
    is_weights_only: bool = False,
    tell: Callable[[str], None] = lambda _: None,
) -> RefinedTable:
    """Refine weights, and undo what the whole model is worse with.

    Args:
        model: The float model that the statistics are of.
        table: Everything quantized that may be.
        statistics: Of the inputs of its operators.
        judge: Of the float model.
        method: Which algorithm.
        bits: 4: weights that may have blocks of 4 bits get a plan with them, too.
        is_weights_only: Whether everything will be computed in floats.
        tell: Called with a few words.
    """
    found = refine(model, table, statistics, method, bits=bits, tell=tell)
    if not found.notes:
        return RefinedTable(found.table, found.blocks, None)
    tell("compare refined models")
    weights = {candidate.name: candidate.weight_name for candidate in candidates(model)}

    def with_eights(kept: frozenset[str]) -> QuantTable:
        """The table with some of its refined weights, and the corrections that are part of them."""
        tensors = {
            name: found.table.tensors[name] if name in kept else p for name, p in table.tensors.items()
        }
        shifts = {name: c for name, c in found.table.corrections.items() if weights.get(name) in kept}
        return replace(table, tensors=tensors, corrections={**table.corrections, **shifts})

    def with_fours(kept: frozenset[str]) -> dict[str, TensorPlan]:
        """Blocks with some of them refined: what is undone has the nearest codes."""
        return {n: plan if n in kept else replace(plan, codes=None) for n, plan in found.blocks.items()}

    alone = partial(weights_alone, model) if is_weights_only else lambda table: table
    eights = _settled(found.notes, 8, lambda kept: judge.sqnr(model, alone(with_eights(kept))))
    best = with_eights(eights.kept)
    fours = _settled(
        found.notes, 4, lambda kept: judge.sqnr(model, weights_alone(model, best, with_fours(kept)))
    )
    kept_of = {8: eights, 4: fours}
    notes = [replace(n, kept=n.weight in kept_of[_bits(n)].kept) for n in found.notes]
    sqnr = {number: stays.sqnr for number, stays in kept_of.items() if stays.sqnr is not None}
    return RefinedTable(best, with_fours(fours.kept), RefinementReport(notes, sqnr))


def _bits(note: Refinement) -> int:
    """Weights of 7 bits are of the table, as those of 8 are."""
    return 4 if note.bits == 4 else 8


def _settled(
    notes: Sequence[Refinement], bits: int, sqnr_with: Callable[[frozenset[str]], Decibels]
) -> Settled:
    names = [note.weight for note in notes if _bits(note) == bits and note.kept]
    return settled(names, sqnr_with) if names else Settled(frozenset(), None)
