"""What a search found, as the report has it."""

from __future__ import annotations

import math

from graphopt.quantization.search import Point, Search
from graphopt.reporting.decision import DecisionReport, PointRow, SensitivityRow

__all__ = ["summary_of"]


def summary_of(search: Search) -> DecisionReport:
    """The report of a search."""
    front = set(search.front)
    taken = search.points[search.taken]
    reasons = {name: plan.reason for name, plan in search.table.operators.items() if plan.reason}
    return DecisionReport(
        limits=str(search.limits),
        is_reached=search.is_reached,
        metric=search.metric,
        taken=search.taken,
        points=tuple(_row(p, i in front) for i, p in enumerate(search.points)),
        predicted=search.additivity.predicted,
        measured=search.additivity.measured,
        halves=search.additivity.halves,
        operators=tuple(
            SensitivityRow(
                operator,
                group.name,
                taken.choices[group.name],
                search.sensitivity[group.name].loss(taken.choices[group.name]),
                search.sensitivity[group.name].alone is not None,
                {c: search.sensitivity[group.name].loss(c) for c in search.sensitivity[group.name].local},
                reasons.get(operator),
            )
            for group in search.groups
            for operator in group.operators
        ),
    )


def _row(point: Point, is_on_front: bool) -> PointRow:
    noise = point.outcome.noise
    sqnr = noise.sqnr
    return PointRow(
        bytes=point.bytes,
        time=point.time,
        fallbacks=point.fallbacks,
        predicted=point.predicted,
        measured=point.noise if math.isfinite(point.noise) else None,
        kl=noise.kl,
        sqnr=None if sqnr is None or math.isinf(sqnr) else sqnr,
        flips=noise.flips / noise.steps if noise.steps else None,
        distance=noise.mean_distance,
        agreement=point.agreement,
        edits=point.outcome.distance / point.outcome.length if point.outcome.length else None,
        is_on_front=is_on_front,
    )
