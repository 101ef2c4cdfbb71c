"""Coefficients of ns = a + b*flops + c*bytes from measured points, none below zero."""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from benchmarks.cost_cases import ALIKE, SAME

# The least that starting any operator was seen to take; what fits below it is noise.
START = 100.0

# One more coefficient has to lower the error by this factor.
WORTH_IT = 0.95


# A point this far from the others (as a logarithm: 3 times) is a fault of the clock, or of another kernel: a
# Transpose that moves single elements rather than rows takes five times as long. It is left out.
FAR_OFF = 1.1


@dataclass(frozen=True, slots=True)
class Point:
    """One measured size of one operator."""

    flops: int
    bytes: int
    ns: float


@dataclass(frozen=True, slots=True)
class Cost:
    """What an operator costs.

    Attributes:
        a: ns to start it.
        b: ns a floating-point operation; of a Loop or Scan ns an iteration.
        c: ns a byte read or written.
        error: Root of the mean square of the fit's relative errors.
    """

    a: float
    b: float
    c: float
    error: float


def fitted(points: Mapping[str, Sequence[Point]]) -> dict[str, Cost]:
    """Coefficients by operator; those of a class share theirs (`benchmarks.cost_cases`)."""
    left = {key: list(given) for key, given in points.items() if given}
    found: dict[str, Cost] = {}
    for line in SAME:
        group = [key for key in line.split() if key in left]
        together = [point for key in group for point in left.pop(key)]
        if together:
            (cost,) = _fit([together])
            found.update(dict.fromkeys(group, cost))
    for line in ALIKE:
        group = [key for key in line.split() if key in left]
        found.update(zip(group, _fit([left.pop(key) for key in group]) if group else (), strict=True))
    found.update((key, _fit([given])[0]) for key, given in left.items())
    for key, cost in found.items():
        shown = [round(point.ns) for point in points[key]]
        print(
            f"{key}: {cost.a:.3g} {cost.b:.3g} {cost.c:.3g}  error {cost.error:.0%}  {shown}", file=sys.stderr
        )
    return found


def _fit(groups: Sequence[Sequence[Point]]) -> list[Cost]:
    """One cost a group, b and c in common, with the least relative error."""
    count = len(groups)
    places = [i for i, group in enumerate(groups) for _ in group]
    points = [point for group in groups for point in group]
    ns = np.array([point.ns for point in points])
    starts = np.eye(count)[places]
    work = np.array([[point.flops, point.bytes] for point in points], np.float64)
    best: tuple[float, list[float], list[float]] | None = None
    # Bytes before flops: of an element-wise operator they say the same, but bytes know the element type.
    for chosen in ((), (1,), (0,), (0, 1)):
        if any(not work[:, place].any() for place in chosen):
            continue
        coefficients = _solved(np.hstack([starts, work[:, chosen]]), ns, count)
        full = [0.0, 0.0]
        for place, value in zip(chosen, coefficients[count:], strict=True):
            full[place] = float(value)
        predicted = starts @ coefficients[:count] + work @ np.array(full)
        error = float(np.sqrt(np.mean((predicted / ns - 1) ** 2)))
        if best is None or error < best[0] * WORTH_IT - 1e-9:
            best = (error, [float(a) for a in coefficients[:count]], full)
    assert best is not None
    error, first, (b, c) = best
    off = np.abs(np.log((starts @ np.array(first) + work @ np.array([b, c])) / ns))
    worst = int(off.argmax())
    if off[worst] > FAR_OFF and len(groups[places[worst]]) > 3:
        kept = [[p for p in group if p is not points[worst]] for group in groups]
        return _fit(kept)
    return [Cost(a, b, c, error) for a in first]


def _solved(columns: NDArray[np.float64], ns: NDArray[np.float64], count: int) -> NDArray[np.float64]:
    """Least squares of relative errors with the first `count` at least START, the others at least 0."""
    weighted = columns / ns[:, None]
    lowest = np.array([START] * count + [0.0] * (columns.shape[1] - count))
    bound = np.zeros(columns.shape[1], np.bool_)
    while True:
        free = ~bound
        scale = np.abs(weighted[:, free]).max(axis=0)
        rest = 1.0 - weighted[:, bound] @ lowest[bound]
        found = lowest.copy()
        if free.any():
            found[free] = np.linalg.lstsq(weighted[:, free] / scale, rest, rcond=None)[0] / scale
        below = free & (found < lowest)
        if not below.any():
            return found
        # The furthest below its bound is held there; each turn holds one more.
        deepest = np.argmax(np.where(below, (lowest - found) * np.abs(weighted).max(axis=0), -math.inf))
        bound[deepest] = True
