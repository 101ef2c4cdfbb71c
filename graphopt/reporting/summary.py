"""Puts a report together from what the compiler has at the end of a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import onnx_ir as ir

from graphopt.reporting.costs import bytes_of, costs_of
from graphopt.reporting.counts import OperatorCounts, count_operators
from graphopt.reporting.report import Change, DroppedFiring, OperatorChange, PassStatistics, Report
from graphopt.reporting.signatures import signature_of

if TYPE_CHECKING:
    from graphopt.rewriting import Trace
    from graphopt.verification import Verification


@dataclass(frozen=True, slots=True)
class Before:
    """What a report says of the model as it was read."""

    operators: OperatorCounts
    weight_bytes: int

    @classmethod
    def of(cls, source: ir.Model) -> Before:
        """Counted now: the model may be changed after."""
        return cls(count_operators(source), weight_bytes(source))


def summarize(
    before: Before,
    result: ir.Model,
    *,
    name: str,
    target: str,
    trace: Trace,
    verification: Verification | None,
    dropped: Sequence[DroppedFiring],
    warnings: Sequence[str],
    seconds: float,
) -> Report:
    """The report of one optimization.

    Args:
        before: The model as it was read.
        result: The model as it will be written.
        name: What the report calls it.
        target: Name of the target.
        trace: Firings and statistics.
        verification: What was verified; None if that was not asked for.
        dropped: Firings that were left out.
        warnings: Sentences for the user.
        seconds: Time of the whole run.
    """
    statistics = tuple(
        PassStatistics(name, found.fired, found.rejected, found.seconds)
        for name, found in trace.statistics.items()
    )
    return Report(
        model=name,
        target=target,
        signature=signature_of(result),
        operators=OperatorChange(before.operators, count_operators(result, target)),
        bytes=Change(before.weight_bytes, weight_bytes(result)),
        passes=statistics,
        verification=verification,
        dropped=tuple(dropped),
        warnings=tuple(warnings),
        seconds=seconds,
    )


def with_costs(report: Report, source: ir.Model, result: ir.Model, sizes: Mapping[str, int]) -> Report:
    """The report with costs of both models, estimated at these sizes of the dynamic dims."""
    before, after = (costs_of(model, sizes, report.target) for model in (source, result))
    return replace(
        report,
        sizes=dict(sizes),
        graph_bytes=Change(bytes_of(source).graph, bytes_of(result).graph),
        flops=Change(before.flops, after.flops),
        nanoseconds=Change(before.nanoseconds, after.nanoseconds),
        peak_bytes=Change(before.peak_bytes, after.peak_bytes),
    )


def weight_bytes(model: ir.Model) -> int:
    """Bytes of all initializers and Constant tensors, bodies and functions included; nothing is read."""
    total = 0
    for graph in (model.graph, *model.graph.subgraphs(), *(f.graph for f in model.functions.values())):
        total += sum(v.const_value.nbytes for v in graph.initializers.values() if v.const_value is not None)
        for node in graph:
            if (
                node.op_type == "Constant"
                and "value" in node.attributes
                and not node.attributes["value"].is_ref()
            ):
                total += node.attributes["value"].as_tensor().nbytes
    return total
